"use strict";
// Some pairs drawn: thumbnails side by side, a line a match; SVG, which any width and any paper scales.

const CONFIDENCES = 6;  // colours of lines

/** A pair with a sample of its matches. */
function drawnPair(pair) {
  const { names, sizes, thumbnails } = page.images;
  const [a, b, confidence, inlier] = ["a", "b", "confidence", "inlier"].map((name) => unpack(pair[name]));
  const aspects = [pair.i, pair.j].map((image) => (sizes[image][0] ? sizes[image][0] / sizes[image][1] : 4 / 3));
  const [width, gap] = [1000, 10];
  const height = (width - gap) / (aspects[0] + aspects[1]);
  const frames = [[0, aspects[0] * height], [aspects[0] * height + gap, aspects[1] * height]];
  const verified = pair.inliers ? `${count(pair.inliers)} of ${count(pair.matches)} matches verified (${pair.kind})` : `none of ${count(pair.matches)} matches verified${pair.kind ? `: ${pair.kind}` : ""}`;
  const title = `${names[pair.i]} – ${names[pair.j]}`;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height.toFixed(1)}`, role: "img", "aria-label": `${title}: ${verified}` });
  frames.forEach(([left, wide], k) => {
    const url = thumbnails[[pair.i, pair.j][k]];
    picture.append(svg("rect", { x: left, y: 0, width: wide, height, class: "blank" }));
    if (url) picture.append(svg("image", { x: left, y: 0, width: wide, height, href: url, preserveAspectRatio: "none" }));
  });
  const place = (points, k, [left, wide]) => `${(left + (points[2 * k] / 65535) * wide).toFixed(1)} ${((points[2 * k + 1] / 65535) * height).toFixed(1)}`;
  const paths = Array.from({ length: CONFIDENCES + 1 }, () => []);
  confidence.forEach((value, k) => {
    const kind = inlier[k] ? 1 + Math.min(CONFIDENCES - 1, Math.floor((CONFIDENCES * value) / 256)) : 0;
    paths[kind].push(`M${place(a, k, frames[0])}L${place(b, k, frames[1])}`);
  });
  paths.forEach((d, kind) => {
    if (!d.length) return;
    const line = svg("path", { d: d.join(""), class: kind ? "match verified" : "match rejected" });
    if (kind) line.style.stroke = css(colourAt(GOOD_TO_BAD, 1 - (kind - 0.5) / CONFIDENCES));
    picture.append(line);
  });
  return el("figure", { class: "pair" }, picture, el("figcaption", {}, el("b", {}, title), ` ${verified}`));
}

/** The drawn pairs, a group after the other, with what is shown of them. */
function drawnPairs() {
  const titles = { strongest: "Strongest pairs", weakest: "Weakest verified pairs", alike: "Refused: places that look alike", rejected: "Rejected pairs of most matches" };
  const groups = Object.entries(titles).flatMap(([role, title]) => {
    const own = page.drawn.filter((pair) => pair.role === role);
    return own.length ? [el("h3", {}, title), el("div", { class: "pairs" }, own.map(drawnPair))] : [];
  });
  if (!groups.length) return [el("p", { class: "empty" }, "No pair holds a match.")];
  const holder = el("div", {}, groups);
  const hide = (kind) => (on) => holder.classList.toggle(`no-${kind}`, !on);
  return [el("div", { class: "toolbar" },
    checkbox("verified matches", true, hide("verified")), checkbox("rejected matches", true, hide("rejected")),
    legend([...GOOD_TO_BAD].reverse(), "confidence 0", "1"), el("span", { class: "legend dashed" }, "rejected")), holder];
}
