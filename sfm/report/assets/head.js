"use strict";
// The first screen: the verdict with what stands against it, the picture, the figures, and what to do next.

/** A command with a button that copies it. */
function commandBox(command) {
  const text = el("code", {}, command);
  const copy = button("Copy", async () => {
    try {
      await navigator.clipboard.writeText(command);
    } catch {  // an older browser, or a page that may not
      const range = document.createRange();
      range.selectNodeContents(text);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      document.execCommand("copy");
    }
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  }, { class: "copy", ariaLive: "polite" });
  return el("div", { class: "command" }, text, copy);
}

/** The verdict in a sentence; below it each problem once, with what to do. onShow(which): shows images, out or odd. */
function verdictBox(onShow) {
  const { level, label, sentence, problems } = page.verdict;
  const items = problems.map(({ text, remedy, show }) => el("li", {}, text, remedy ? [" ", el("strong", {}, remedy)] : null,
    show && onShow ? [" ", button("Show them", () => onShow(show), { class: "link" })] : null));
  return el("div", { class: `verdict ${level}`, id: "verdict" },
    el("p", { class: "sentence" }, el("span", { class: "label" }, label), " ", sentence),
    items.length ? el("ul", { class: "problems" }, items) : null,
    page.next.length ? el("a", { class: "to-next", href: "#next" }, "What to do next") : null);
}

function tilesBox() {
  if (!page.tiles) return null;
  return el("dl", { class: "tiles" }, page.tiles.map(([label, value]) => el("div", { class: "tile" }, el("dt", {}, label), el("dd", {}, value))));
}

/** What to do now: commands, each with what it is for. */
function nextBox() {
  if (!page.next.length) return null;
  return el("div", { class: "next", id: "next" }, el("h2", {}, "What to do next"),
    el("ol", {}, page.next.map(({ command, what }) => el("li", {}, el("p", {}, what), commandBox(command)))));
}

/** Some of the images, where there is no model to show. */
function contactSheet() {
  const shown = Object.keys(page.images.thumbnails).slice(0, 12);
  if (!shown.length) return null;
  return el("div", { class: "contact-sheet" }, shown.map((image) =>
    el("figure", {}, el("img", { src: page.images.thumbnails[image], alt: "" }), el("figcaption", {}, page.images.names[image]))));
}

/** The head of a page. picture: what there is to see. figures: beside it. */
function pageHead(picture, figures, onShow) {
  return el("header", { id: "overview" }, el("h1", {}, page.heading), verdictBox(onShow),
    el("div", { class: picture ? "first" : "first alone" }, picture ? el("div", { class: "first-picture" }, picture) : null,
      el("div", { class: "first-side" }, figures, nextBox())),
    page.remarks.length ? el("p", { class: "remarks" }, page.remarks.map((text) => text[0].toUpperCase() + text.slice(1)).join(". "), ".") : null);
}
