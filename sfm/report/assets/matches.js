"use strict";
// Pairs: the match graph, the matrix of matches and verified matches, and some pairs drawn.

const MAX_EDGES = 6000;

/** Columns of pairs as arrays, and the largest count of verified matches. */
function readPairs() {
  const pairs = Object.fromEntries(["i", "j", "matches", "inliers"].map((name) => [name, unpack(page.pairs[name])]));
  pairs.most = pairs.matches.reduce((a, b) => Math.max(a, b), 1);
  pairs.mostInliers = pairs.inliers.reduce((a, b) => Math.max(a, b), 1);
  return pairs;
}

/** The matrix: matches above the diagonal, verified matches below. */
function matchMatrix(pairs) {
  const names = page.images.names;
  const num = names.length;
  const cells = new Map();
  const raw = el("canvas", { width: num, height: num, class: "matrix", id: "matrix" });
  const context = raw.getContext("2d");
  const pixels = context.createImageData(num, num);
  const paint = (x, y, value) => {
    const colour = value > 0 ? colourAt(VIRIDIS, Math.log1p(value) / Math.log1p(pairs.most)) : null;
    pixels.data.set(colour ? [...colour, 255] : [128, 128, 128, 40], 4 * (y * num + x));
  };
  for (let k = 0; k < num * num; k++) pixels.data.set([128, 128, 128, k % (num + 1) === 0 ? 110 : 22], 4 * k);
  for (let k = 0; k < pairs.i.length; k++) {
    const [i, j] = [pairs.i[k], pairs.j[k]];
    paint(j, i, pairs.matches[k]);
    paint(i, j, pairs.inliers[k]);
    cells.set(i * num + j, k);
  }
  context.putImageData(pixels, 0, 0);
  raw.addEventListener("pointermove", (event) => {
    const box = raw.getBoundingClientRect();
    const [x, y] = [[event.clientX - box.left, box.width], [event.clientY - box.top, box.height]].map(([at, size]) =>
      Math.min(num - 1, Math.max(0, Math.floor((at / size) * num))));
    showTip(event, pairText(pairs, cells, Math.min(x, y), Math.max(x, y)));
  });
  raw.addEventListener("pointerleave", (event) => showTip(event, ""));
  return el("figure", {}, raw, el("figcaption", {}, "Above the diagonal: matches; below: verified matches (log scale). ",
    legend(VIRIDIS, "1", count(pairs.most))));
}

function pairText(pairs, cells, i, j) {
  const names = page.images.names;
  if (i === j) return names[i];
  const k = cells.get(i * names.length + j);
  const said = k === undefined ? "no matches" : `${plural(pairs.matches[k], "match").replace("matchs", "matches")}, ${count(pairs.inliers[k])} verified`;
  return `${names[i]} – ${names[j]}: ${said}`;
}

/** The match graph: images as nodes, verified pairs as edges. */
class MatchGraph {
  constructor(pairs, models) {
    this.pairs = pairs;
    this.num = page.images.names.length;
    this.near = null;
    const order = Array.from(pairs.i.keys()).filter((k) => pairs.inliers[k] > 0).sort((a, b) => pairs.inliers[a] - pairs.inliers[b]);
    this.edges = order.slice(-MAX_EDGES);
    this.canvas = el("canvas", { class: "graph", id: "graph" });
    this.holder = el("div", { class: "graph-holder" }, this.canvas);
    const layouts = [["circle", "on a circle"], ["map", "where their cameras are, from above"]];
    const layout = models.length ? select("Images", layouts, (value) => this.arrange(value)) : null;
    const left = order.length - this.edges.length;
    this.element = el("figure", {}, this.holder, el("figcaption", {},
      `${plural(order.length, "verified pair")}${left > 0 ? `, of which the strongest ${count(MAX_EDGES)} are drawn` : ""}; the more verified matches, the stronger the line. Point at an image for its own.`, layout));
    this.places = models.length ? cameraPlaces(models[0], this.num) : null;
    this.arrange("circle");
    onWidth(this.holder, () => this.draw());
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", (event) => { showTip(event, ""); this.near = null; this.draw(); });
  }

  arrange(layout) {
    this.at = layout === "map" ? this.places : Array.from({ length: this.num }, (_, k) => {
      const angle = (2 * Math.PI * k) / this.num - Math.PI / 2;
      return [0.5 + 0.46 * Math.cos(angle), 0.5 + 0.46 * Math.sin(angle)];
    });
    this.draw();
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    let best = 0.03, near = null;
    this.at.forEach((place, k) => {
      const off = place ? Math.hypot(place[0] - x, place[1] - y) : Infinity;
      if (off < best) [best, near] = [off, k];
    });
    showTip(event, near === null ? "" : `${page.images.names[near]}: ${plural(this.edges.filter((k) => this.pairs.i[k] === near || this.pairs.j[k] === near).length, "verified pair")}`);
    if (near !== this.near) {
      this.near = near;
      this.draw();
    }
  }

  draw() {
    const size = this.holder.clientWidth;
    if (!size || !this.at) return;
    const context = fitCanvas(this.canvas, size, size);
    const ink = themeColour("--accent"), quiet = themeColour("--ink");
    const { i, j, inliers, mostInliers } = this.pairs;
    const registered = page.images.sides[0].registered;
    const thin = Math.min(1, 220 / Math.max(this.edges.length, 1));
    for (const k of this.edges) {
      const own = this.near === null || i[k] === this.near || j[k] === this.near;
      const [a, b] = [this.at[i[k]], this.at[j[k]]];
      if (!a || !b) continue;
      const strength = Math.sqrt(inliers[k] / mostInliers);
      context.globalAlpha = this.near !== null ? (own ? 0.9 : 0.04) : 0.12 + 0.88 * strength * Math.sqrt(thin);
      context.lineWidth = 0.5 + 2.5 * strength;
      context.strokeStyle = ink;
      context.beginPath();
      context.moveTo(a[0] * size, a[1] * size);
      context.lineTo(b[0] * size, b[1] * size);
      context.stroke();
    }
    context.globalAlpha = 1;
    const radius = Math.max(1.5, Math.min(5, (0.9 * size) / this.num));
    this.at.forEach((place, k) => {
      if (!place) return;
      context.fillStyle = registered[k] ? quiet : themeColour("--bad");
      context.beginPath();
      context.arc(place[0] * size, place[1] * size, k === this.near ? radius + 3 : radius, 0, 2 * Math.PI);
      context.fill();
    });
  }
}

/** Where each image's camera is seen from above, in 0..1; null for those not registered. */
function cameraPlaces(model, num) {
  const centres = Array.from(model.image, (_, row) => model.centre(row));
  const [xs, ys] = [0, 1].map((k) => centres.map((centre) => centre[k]));
  const [left, top] = [Math.min(...xs), Math.max(...ys)];
  const reach = Math.max(Math.max(...xs) - left, top - Math.min(...ys)) || 1;
  const [offX, offY] = [(reach - (Math.max(...xs) - left)) / 2, (reach - (top - Math.min(...ys))) / 2];
  const places = Array(num).fill(null);
  model.image.forEach((image, row) => {
    places[image] = [0.05 + (0.9 * (xs[row] - left + offX)) / reach, 0.05 + (0.9 * (top - ys[row] + offY)) / reach];
  });
  return places;
}

/** A pair with a sample of its matches: thumbnails side by side, a line a match. */
class DrawnPair {
  constructor(pair, show) {
    Object.assign(this, { pair, show });
    this.canvas = el("canvas", {});
    this.holder = el("div", { class: "pair-holder" }, this.canvas);
    const names = page.images.names;
    const verified = pair.inliers ? `${count(pair.inliers)} of ${count(pair.matches)} matches verified (${pair.kind})` : `none of ${count(pair.matches)} matches verified${pair.kind ? `: ${pair.kind}` : ""}`;
    this.element = el("figure", { class: "pair" }, this.holder,
      el("figcaption", {}, el("b", {}, `${names[pair.i]} – ${names[pair.j]}`), ` ${verified}`));
    for (const name of ["a", "b", "confidence", "inlier"]) this[name] = unpack(pair[name]);
    this.pictures = [pair.i, pair.j].map((image) => {
      const url = page.images.thumbnails[image];
      return url ? Object.assign(new Image(), { src: url }) : null;
    });
    whenNear(this.element, () => {
      onWidth(this.holder, () => this.draw());
      Promise.all(this.pictures.map((picture) => picture && picture.decode().catch(() => null))).then(() => this.draw());
    });
  }

  draw() {
    const width = this.holder.clientWidth;
    if (!width) return;
    const aspects = [this.pair.i, this.pair.j].map((image) => {
      const [w, h] = page.images.sizes[image];
      return w ? w / h : 4 / 3;
    });
    const gap = 6;
    const height = (width - gap) / (aspects[0] + aspects[1]);
    this.canvas.style.height = `${height}px`;
    const context = fitCanvas(this.canvas, width, height);
    const frames = [[0, aspects[0] * height], [aspects[0] * height + gap, aspects[1] * height]];
    frames.forEach(([left, wide], k) => {
      context.fillStyle = themeColour("--sunk");
      context.fillRect(left, 0, wide, height);
      if (this.pictures[k] && this.pictures[k].complete) context.drawImage(this.pictures[k], left, 0, wide, height);
    });
    const order = Array.from(this.confidence.keys()).sort((p, q) => this.inlier[p] - this.inlier[q]);
    for (const k of order) {
      const inlier = this.inlier[k] === 1;
      if (!(inlier ? this.show.verified : this.show.rejected)) continue;
      const place = (points, [left, wide]) => [left + (points[2 * k] / 65535) * wide, (points[2 * k + 1] / 65535) * height];
      const [p, q] = [place(this.a, frames[0]), place(this.b, frames[1])];
      context.strokeStyle = inlier ? css(colourAt(GOOD_TO_BAD, 1 - this.confidence[k] / 255), 0.75) : css([255, 79, 163], 0.7);
      context.setLineDash(inlier ? [] : [3, 4]);
      context.lineWidth = inlier ? 1.1 : 0.9;
      context.beginPath();
      context.moveTo(...p);
      context.lineTo(...q);
      context.stroke();
    }
  }
}

/** The drawn pairs, a group after the other, with what is shown of them. */
function drawnPairs() {
  const show = { verified: true, rejected: true };
  const drawn = page.drawn.map((pair) => new DrawnPair(pair, show));
  const redraw = () => drawn.forEach((pair) => pair.draw());
  const bar = el("div", { class: "toolbar" },
    checkbox("verified matches", true, (on) => { show.verified = on; redraw(); }),
    checkbox("rejected matches", true, (on) => { show.rejected = on; redraw(); }),
    legend([...GOOD_TO_BAD].reverse(), "confidence 0", "1"), el("span", { class: "legend dashed" }, "rejected"));
  const titles = { strongest: "Strongest pairs", weakest: "Weakest verified pairs", rejected: "Rejected pairs of most matches" };
  const groups = Object.entries(titles).flatMap(([role, title]) => {
    const own = drawn.filter((pair) => pair.pair.role === role);
    return own.length ? [el("h3", {}, title), el("div", { class: "pairs" }, own.map((pair) => pair.element))] : [];
  });
  return groups.length ? [bar, ...groups] : [el("p", { class: "empty" }, "No pair holds a match.")];
}
