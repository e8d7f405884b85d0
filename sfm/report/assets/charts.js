"use strict";
// Histograms, bars and tables.

/** A histogram as SVG. bars: [{count, label, text}]; a label is written under its bar where it is not "". */
function histogram(bars, title, note) {
  const [width, height, left, bottom] = [560, 220, 8, 26];
  const most = Math.max(1, ...bars.map((bar) => bar.count));
  const step = (width - 2 * left) / bars.length;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
  bars.forEach((bar, k) => {
    const tall = ((height - bottom - 14) * bar.count) / most;
    const x = left + k * step;
    const mark = svg("rect", { x: x + 0.08 * step, y: height - bottom - tall, width: 0.84 * step, height: Math.max(tall, bar.count ? 1 : 0), rx: Math.min(2, 0.2 * step), class: "bar" });
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

function lengthHistogram({ first, counts, rest, mean }) {
  const every = Math.ceil(counts.length / 12);
  const bars = counts.map((number, k) => {
    const name = `${first + k}${rest && k === counts.length - 1 ? "+" : ""}`;
    return { count: number, label: k % every === 0 || k === counts.length - 1 ? name : "", text: `${name} images: ${plural(number, "point")}` };
  });
  return histogram(bars, "Track length", `Number of images that observe a point; ${mean.toFixed(2)} on average.`);
}

function errorHistogram({ top, counts, mean, median }) {
  const step = top / counts.length;
  const bars = counts.map((number, k) => ({
    count: number,
    label: k % 10 === 0 ? (k * step).toFixed(2) : "",
    text: `${(k * step).toFixed(2)} to ${((k + 1) * step).toFixed(2)} px: ${plural(number, "point")}`,
  }));
  return histogram(bars, "Reprojection error", `Of points, px: mean ${mean.toFixed(3)}, median ${median.toFixed(3)}; the last bar takes the rest.`);
}

function table(head, rows, properties = {}) {
  return el("div", { class: "table-holder" }, el("table", properties,
    el("thead", {}, el("tr", {}, head.map((text) => el("th", {}, text)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, cell)))))));
}

/** A bar of a share of the whole, with words after it. */
function bar(share, text) {
  const full = el("span", { class: "meter-fill" });
  full.style.width = `${100 * share}%`;
  return el("span", { class: "metered" }, el("span", { class: "meter" }, full), text);
}

/** Stages: time, peak memory, what they counted. */
function stagesTable(stages) {
  const slowest = Math.max(...stages.map((stage) => stage.seconds), 1e-9);
  const largest = Math.max(...stages.map((stage) => stage.peak_mb || 0), 1e-9);
  return table(["Stage", "Time", "Peak memory", "What it did"], stages.map((stage) => [
    el("b", {}, stage.stage),
    bar(stage.seconds / slowest, `${duration(stage.seconds)}${stage.reused ? ", reused" : ""}`),
    stage.peak_mb === null ? "–" : bar(stage.peak_mb / largest, `${count(Math.round(stage.peak_mb))} MB`),
    Object.entries(stage.counts).map(([name, value]) => `${Number.isInteger(value) ? count(value) : value.toFixed(2)} ${name.replaceAll("_", " ")}`).join(", "),
  ]), { class: "stages" });
}

function definitions(entries) {
  return el("dl", {}, entries.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]));
}

function optionsTable(options) {
  const changed = options.filter((option) => !option.default);
  const rows = (some) => table(["Option", "Value", "Stage"], some.map((option) => [el("code", {}, option.option), el("code", {}, option.value), option.stage]));
  return [
    changed.length ? rows(changed) : el("p", {}, "All options have their default values."),
    el("details", {}, el("summary", {}, `${plural(options.length - changed.length, "option")} at ${options.length - changed.length === 1 ? "its" : "their"} default`), rows(options.filter((option) => option.default))),
  ];
}

function commandBox(command) {
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
  });
  const text = el("code", {}, command);
  return el("div", { class: "command" }, text, copy);
}

/** How a run was made: command, notes, stages, options, versions. */
function runParts(run) {
  const notes = run.stages.flatMap((stage) => stage.notes.map((note) => `${stage.stage}: ${note}`));
  const skipped = run.stages.flatMap((stage) => (stage.stage === "mapping" || stage.stage === "refinement" ? [] : stage.skipped.map((item) => `${item.name}: ${item.reason}`)));
  return [
    run.command ? el("h3", {}, "The command to run it again") : null, run.command ? commandBox(run.command) : null,
    el("h3", {}, "Stages"), stagesTable(run.stages),
    el("p", { class: "note" }, "Memory is this program's main memory; a stage that was reused says what it took when it ran."),
    notes.length ? el("h3", {}, "What the stages say") : null, notes.length ? el("ul", {}, notes.map((note) => el("li", {}, note))) : null,
    skipped.length ? el("h3", {}, "Left out") : null, skipped.length ? el("ul", {}, skipped.map((note) => el("li", {}, note))) : null,
    el("h3", {}, "Options"), ...optionsTable(run.options),
    el("div", { class: "columns" },
      el("div", {}, el("h3", {}, "Models"), run.models.length ? definitions(run.models.map((model) => [model.path, plural(model.images, "image")])) : el("p", {}, "none")),
      el("div", {}, el("h3", {}, "Versions"), definitions(Object.entries(run.versions))),
      Object.keys(run.machine).length ? el("div", {}, el("h3", {}, "Machine"), definitions(Object.entries(run.machine))) : null,
      el("div", {}, el("h3", {}, "Matcher"), matcherDefinitions(run.matcher))),
  ];
}

function matcherDefinitions(matcher) {
  const first = ["matcher", "weights", "weights_sha256", "resize", "threshold"].filter((name) => name in matcher);
  const rest = Object.keys(matcher).filter((name) => !first.includes(name));
  const entries = (names) => definitions(names.map((name) => [name.replaceAll("_", " "), matcher[name]]));
  return el("div", {}, entries(first), rest.length ? el("details", {}, el("summary", {}, `${rest.length} more`), entries(rest)) : null);
}

/** The page's head: name, sentence, figures, warnings. */
function pageHead() {
  const list = (items, name) => (items.length ? el("ul", { class: name }, items.map((text) => el("li", {}, text))) : null);
  return el("header", {}, el("p", { class: "brand" }, "loftr-sfm"), el("h1", {}, page.heading), el("p", { class: "sentence" }, page.sentence),
    page.tiles ? el("div", { class: "tiles" }, page.tiles.map(([label, value]) => el("div", { class: "tile" }, el("b", {}, value), el("span", {}, label)))) : null,
    list(page.warnings, "warnings"), list(page.remarks, "remarks"));
}
