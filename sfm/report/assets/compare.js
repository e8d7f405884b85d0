"use strict";
// The report of a comparison: two models side by side.

(() => {
  const { titles, sides } = page.images;
  document.body.classList.add("two");
  const grid = new ImageGrid(showIn3D);
  const view = new SceneView(page.models, page.images, onSelect);

  function showIn3D(image) {
    document.getElementById("models").scrollIntoView({ behavior: "smooth" });
    if (view.renderer) view.choose(image);
  }

  function onSelect(image) {
    view.panel.hidden = image === null;
    if (image === null) return;
    const pictures = sides.map((_, side) => new Picture(image, side, () => true));
    view.panel.replaceChildren(
      el("div", { class: "dialog-head" }, el("h3", { title: page.images.names[image] }, page.images.names[image]), button("×", () => view.choose(null), { ariaLabel: "close", class: "close" })),
      el("div", { class: "pictures of-2" }, pictures.map((picture) => picture.element)),
      ...details(image, (other) => view.choose(other), [button("Look through it", () => view.lookThrough(image)), button("Its card", () => grid.goTo(image))]));
    pictures.forEach((picture) => picture.draw());
  }

  /** Who registered what: a box per group, with the images' names. */
  function groupBoxes() {
    const groups = [["both", "In both models"], ["a", `Only ${titles[0]}`], ["b", `Only ${titles[1]}`], ["neither", "In neither"]];
    return el("div", { class: "groups" }, groups.map(([group, title]) => el("div", { class: `group ${group}` },
      el("b", {}, String(page.groups[group].length)), el("span", {}, title),
      el("div", { class: "names" }, page.groups[group].map((image) => button(page.images.names[image], () => grid.goTo(image), { class: "link" }))))));
  }

  /** Distance of every camera's centre to ground truth, one line per image. */
  function truthTable() {
    const images = page.images.names.map((_, image) => image).filter((image) => sides.some((side) => side.truth[image]));
    const worst = Math.max(1e-9, ...images.flatMap((image) => sides.map((side) => (side.truth[image] ? side.truth[image].centre_percent : 0))));
    const cell = (side, image) => {
      const error = side.truth[image];
      return error ? bar(Math.sqrt(error.centre_percent / worst), `${error.centre_percent.toFixed(2)} %, ${error.rotation_deg.toFixed(2)}°`) : badge(side, image);
    };
    return table(["Image", ...titles], images.map((image) => [button(page.images.names[image], () => grid.goTo(image), { class: "link" }), ...sides.map((side) => cell(side, image))]), { class: "truth" });
  }

  const sections = [
    section("models", "Models", view.element,
      el("p", { class: "note" }, `Both rotate together. ${page.truth ? "Grey: the true cameras. " : ""}Click a camera for its image in both.`)),
    section("figures", "Figures", el("div", { class: "columns wide" }, table(["", ...titles], page.figures, { class: "numbers" }), groupBoxes()), page.agreement.map((line) => el("p", { class: "note" }, line))),
    section("images", "Images", grid.element),
  ];
  if (page.truth) {
    sections.push(section("truth", "Against ground truth", el("p", { class: "note" },
      "Distance of each camera's centre to the true one after a similarity over all of them, in percent of the true cameras' extent (bars: square root), and the angle between the rotations."), truthTable()));
  }
  sections.push(section("points", "Points", page.histograms.map((own, k) => [el("h3", {}, titles[k]),
    el("div", { class: "columns wide" }, lengthHistogram(own.length), errorHistogram(own.error))]).flat()));
  sections.push(section("made", "How they were made",
    page.differences.length ? table(["Option", ...titles], page.differences.map((row) => row.map((text) => el("code", {}, text)))) : el("p", {}, "No option differs, or they are not known."),
    el("div", { class: "columns wide" }, page.made.map((side) => el("div", {}, el("h3", {}, side.title), el("p", {}, el("code", {}, side.path)), side.command ? commandBox(side.command) : null, definitions(side.facts))))));
  document.getElementById("page").replaceChildren(pageHead(), navigation(sections), ...sections,
    el("footer", {}, "Written by loftr-sfm; 3D view by three.js (MIT). This file holds all it shows and loads nothing."));
  document.body.append(tip);
})();
