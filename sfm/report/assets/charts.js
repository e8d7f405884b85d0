"use strict";
// Histograms, bars, tables, lists of facts.

/** A histogram as SVG. bars: [{count, label, text}]; a label is written under its bar where it is not "". colour: CSS. */
function histogram(bars, title, note, colour) {
  const [width, height, left, bottom] = [560, 220, 8, 26];
  const most = Math.max(1, ...bars.map((bar) => bar.count));
  const step = (width - 2 * left) / bars.length;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}. ${note}` });
  bars.forEach((bar, k) => {
    const tall = ((height - bottom - 14) * bar.count) / most;
    const x = left + k * step;
    const mark = svg("rect", { x: x + 0.08 * step, y: height - bottom - tall, width: 0.84 * step, height: Math.max(tall, bar.count ? 1 : 0), rx: Math.min(2, 0.2 * step), class: "bar" });
    mark.style.fill = colour;
    const area = svg("rect", { x, y: 0, width: step, height: height - bottom, class: "hit" });
    area.addEventListener("pointermove", (event) => showTip(event, bar.text));
    area.addEventListener("pointerleave", (event) => showTip(event, ""));
    picture.append(mark, area);
    if (bar.label !== "") {
      const label = svg("text", { x: x + step / 2, y: height - 8, "text-anchor": "middle", class: "tick" });
      label.textContent = bar.label;
      picture.append(label);
    }
  });
  picture.append(svg("line", { x1: left, x2: width - left, y1: height - bottom, y2: height - bottom, class: "axis" }));
  return el("figure", { class: "histogram" }, el("h3", {}, title), picture, el("figcaption", {}, note));
}

function lengthHistogram({ first, counts, rest, mean }, colour = modelColour(0)) {
  const every = Math.ceil(counts.length / 12);
  const bars = counts.map((number, k) => {
    const name = `${first + k}${rest && k === counts.length - 1 ? "+" : ""}`;
    return { count: number, label: k % every === 0 || k === counts.length - 1 ? name : "", text: `${name} images: ${plural(number, "point")}` };
  });
  return histogram(bars, "Track length", `Number of images that observe a point; ${mean.toFixed(2)} on average.`, colour);
}

function errorHistogram({ top, counts, mean, median }, colour = modelColour(0)) {
  const step = top / counts.length;
  const bars = counts.map((number, k) => ({
    count: number,
    label: k % 10 === 0 ? (k * step).toFixed(2) : "",
    text: `${(k * step).toFixed(2)} to ${((k + 1) * step).toFixed(2)} px: ${plural(number, "point")}`,
  }));
  return histogram(bars, "Reprojection error", `Of points, px: mean ${mean.toFixed(3)}, median ${median.toFixed(3)}; the last bar takes the rest.`, colour);
}

/** A table whose first cells name their rows; where it is narrow each row becomes a block with its columns' names. */
function table(head, rows, properties = {}) {
  const cell = (content, k) => (k === 0 ? el("th", { scope: "row" }, content) : el("td", { "data-label": head[k] }, content));
  return el("div", { class: "table-holder" }, el("table", properties,
    el("thead", {}, el("tr", {}, head.map((text) => el("th", { scope: "col" }, text)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell))))));
}

/** A bar of a share of the whole, with words after it. colour: CSS. */
function bar(share, text, colour = modelColour(0)) {
  const full = el("span", { class: "meter-fill" });
  full.style.width = `${100 * share}%`;
  full.style.background = colour;
  return el("span", { class: "metered" }, el("span", { class: "meter" }, full), el("span", {}, text));
}

function definitions(entries) {
  return el("dl", {}, entries.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]));
}
