"use strict";
// The report of a comparison: models side by side.

(() => {
  const { titles, sides } = page.images;
  document.body.classList.add("two");
  const grid = new ImageGrid(showIn3D);
  const view = new SceneView(page.models, page.images, (image) => fillPanel(view.panel, image,
    { choose: (other) => view.choose(other), card: (other) => grid.goTo(other), look: (other) => view.lookThrough(other) }));

  function showIn3D(image) {
    document.getElementById("overview").scrollIntoView();
    if (view.renderer) view.choose(image);
  }

  /** The figures of all models; the best of a row is marked. */
  function figuresTable() {
    const rows = page.figures.map(({ label, texts, best }) => [label, ...texts.map((text, k) =>
      (best.includes(k) ? el("b", { class: "best", title: "best" }, `${text} ✓`) : text))]);
    const shown = table(["", ...titles], rows, { class: "numbers" });
    shown.querySelectorAll("thead th").forEach((head, k) => { if (k) head.style.color = modelColour(k - 1); });
    return shown;
  }

  /** Who registered what: a box per group, with the images' names. */
  function groupBoxes() {
    return el("div", { class: "groups" }, page.groups.map(({ title, side, images }) => {
      const box = el("div", { class: "group" }, el("b", {}, String(images.length)), el("span", {}, title),
        el("div", { class: "names" }, images.map((image) => button(page.images.names[image], () => grid.goTo(image), { class: "link" }))));
      if (side !== null) box.style.borderTopColor = modelColour(side);
      return box;
    }));
  }

  /** Distance of every camera's centre to ground truth, one line per image, a bar in each model's colour. */
  function truthTable() {
    const images = page.images.names.map((_, image) => image).filter((image) => sides.some((side) => side.truth[image]));
    const worst = Math.max(1e-9, ...images.flatMap((image) => sides.map((side) => (side.truth[image] ? side.truth[image].centre_percent : 0))));
    const cell = (side, k, image) => {
      const error = side.truth[image];
      return error ? bar(Math.sqrt(error.centre_percent / worst), `${error.centre_percent.toFixed(2)} %, ${error.rotation_deg.toFixed(2)}°`, modelColour(k)) : badge(side, image);
    };
    return table(["Image", ...titles], images.map((image) => [button(page.images.names[image], () => grid.goTo(image), { class: "link" }), ...sides.map((side, k) => cell(side, k, image))]), { class: "truth" });
  }

  const help = el("p", { class: "note help" }, `All rotate together. ${page.truth ? "Grey: the true cameras. " : ""}Click a camera for its image in each.`);
  const sections = [
    section("registered", "Who registered what|Registered", groupBoxes(), page.agreement.map((line) => el("p", { class: "note" }, line))),
  ];
  if (page.truth) {
    sections.push(section("truth", "Against ground truth|Truth", el("p", { class: "note" },
      "Distance of each camera's centre to the true one after a similarity over all of them, in percent of the true cameras' extent (bars: square root), and the angle between the rotations."), truthTable()));
  }
  sections.push(section("images", "Images", grid.element));
  sections.push(section("points", "Points", page.histograms.map((own, k) => [el("h3", {}, titles[k]),
    el("div", { class: "columns wide" }, lengthHistogram(own.length, modelColour(k)), errorHistogram(own.error, modelColour(k)))]).flat()));
  sections.push(section("made", "How they were made|Made",
    page.differences.length ? table(["Option", ...titles], page.differences.map((row) => row.map((text) => el("code", {}, text)))) : el("p", {}, "No option differs, or they are not known."),
    el("div", { class: "columns wide" }, page.made.map((side) => el("div", {}, el("h3", {}, side.title), el("p", {}, el("code", {}, side.path)), side.command ? commandBox(side.command) : null, definitions(side.facts))))));
  const head = pageHead([view.element, view.renderer ? help : null], figuresTable(), null);
  if (titles.length > 3) head.querySelector(".first").classList.add("alone");
  layOut(head, sections);
})();
