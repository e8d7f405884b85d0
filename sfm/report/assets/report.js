"use strict";
// The report of a run: its sections in order.

(() => {
  let view = null;
  const grid = new ImageGrid(page.models.length ? showIn3D : null);

  function showIn3D(image) {
    document.getElementById("model").scrollIntoView({ behavior: "smooth" });
    if (view.renderer) view.choose(image);
  }

  function onSelect(image) {
    view.panel.hidden = image === null;
    if (image === null) return;
    const picture = new Picture(image, 0, () => true);
    view.panel.replaceChildren(
      el("div", { class: "dialog-head" }, el("h3", { title: page.images.names[image] }, page.images.names[image]), button("×", () => view.choose(null), { ariaLabel: "close", class: "close" })),
      picture.element,
      ...details(image, (other) => view.choose(other), [button("Look through it", () => view.lookThrough(image)), button("Its card", () => grid.goTo(image))]));
    picture.draw();
  }

  const sections = [];
  if (page.models.length) {
    view = new SceneView(page.models, page.images, onSelect);
    sections.push(section("model", "Model", view.element,
      el("p", { class: "note" }, "Drag to rotate, right-drag or two fingers to move, wheel to come nearer. Click a camera for its image.")));
  }
  sections.push(section("images", "Images", grid.element));
  if (page.pairs.tried) {
    const pairs = readPairs();
    const graph = new MatchGraph(pairs, view && view.renderer ? view.models : []);
    sections.push(section("matches", "Matches",
      el("p", {}, `${plural(page.pairs.tried, "pair")} matched; ${count(pairs.inliers.filter((n) => n > 0).length)} verified.`),
      el("div", { class: "columns wide" }, graph.element, matchMatrix(pairs))));
    sections.push(section("pairs", "Pairs", ...drawnPairs()));
  }
  if (page.histograms) {
    sections.push(section("points", "Points", el("div", { class: "columns wide" }, lengthHistogram(page.histograms.length), errorHistogram(page.histograms.error))));
  }
  sections.push(section("run", "Run", ...runParts(page.run)));
  document.getElementById("page").replaceChildren(pageHead(), navigation(sections), ...sections,
    el("footer", {}, "Written by loftr-sfm; 3D view by three.js (MIT). This file holds all it shows and loads nothing."));
  document.body.append(tip);
})();
