"use strict";
// The report of a run: its sections in order.

(() => {
  let view = null;
  const grid = new ImageGrid(page.models.length ? showIn3D : null);

  function showIn3D(image) {
    document.getElementById("overview").scrollIntoView();
    if (view.renderer) view.choose(image);
  }

  const panel = { choose: (image) => view.choose(image), card: (image) => grid.goTo(image), look: (image) => view.lookThrough(image) };
  let picture = contactSheet();
  if (page.models.length) {
    view = new SceneView(page.models, page.images, (image) => fillPanel(view.panel, image, panel));
    const help = el("p", { class: "note help" }, "Drag to rotate, right-drag or two fingers to move, wheel to come nearer. Click a camera for its image.");
    picture = [view.element, view.renderer ? help : null];
  }
  const sections = [section("images", "Images", grid.element)];
  if (page.pairs.tried) {
    const pairs = readPairs();
    const graph = new MatchGraph(pairs, view && view.renderer ? view.models : []);
    sections.push(section("matches", "Matches",
      el("p", {}, `${plural(page.pairs.tried, "pair")} matched; ${count(pairs.inliers.filter((n) => n > 0).length)} verified.`),
      el("div", { class: "columns wide" }, graph.element, matchMatrix(pairs)), ...triedRounds(), ...weakestImages(pairs, (image) => grid.goTo(image))));
    sections.push(section("pairs", "Pairs", ...drawnPairs()));
  }
  if (page.histograms) {
    sections.push(section("points", "Points", el("div", { class: "columns wide" }, lengthHistogram(page.histograms.length), errorHistogram(page.histograms.error))));
  }
  if (page.run) sections.push(section("run", "Run", ...runParts(page.run))); // a model that no run made has none
  layOut(pageHead(picture, tilesBox(), (which) => grid.show(which)), sections);
})();
