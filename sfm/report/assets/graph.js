"use strict";
// Which images match: the match graph and the matrix, of images or, where there are many, of groups of them, and the
// images that hang on few others.

const MANY_IMAGES = 120;  // from here on the circle shows groups
const MAX_NODES = 60, MAX_CELLS = 150, MAX_EDGES = 900;
const STRENGTHS = 10;  // kinds of line
const FEWEST = 8;  // images in the list

/** Columns of pairs as arrays, and for each image its verified pairs. */
function readPairs() {
  const pairs = Object.fromEntries(["i", "j", "matches", "inliers"].map((name) => [name, unpack(page.pairs[name])]));
  pairs.refused = page.pairs.refused || [];
  pairs.of = page.images.names.map(() => []);
  pairs.inliers.forEach((inliers, k) => {
    if (inliers > 0) [pairs.i[k], pairs.j[k]].forEach((image) => pairs.of[image].push(k));
  });
  pairs.of.forEach((own) => own.sort((a, b) => pairs.inliers[b] - pairs.inliers[a]));
  return pairs;
}

/** The images of group g of `size` in the order of their names, in words. */
function groupName(g, size) {
  const names = page.images.names;
  const last = Math.min(names.length, (g + 1) * size) - 1;
  return size === 1 ? names[g] : `${names[g * size]} to ${names[last]}`;
}

/** Sums over groups of `size` images: key a * num + b, a <= b, to {pairs, verified, matches, inliers}. */
function grouped(pairs, size, num) {
  const sums = new Map();
  pairs.i.forEach((image, k) => {
    const [a, b] = [Math.floor(image / size), Math.floor(pairs.j[k] / size)].sort((p, q) => p - q);
    const own = sums.get(a * num + b) || { a, b, pairs: 0, verified: 0, matches: 0, inliers: 0 };
    own.pairs++;
    own.verified += pairs.inliers[k] > 0;
    own.matches += pairs.matches[k];
    own.inliers += pairs.inliers[k];
    sums.set(a * num + b, own);
  });
  return sums;
}

function sumText(own, size) {
  if (!own) return "no matches";
  const said = `${plural(own.matches, "match")}, ${count(own.inliers)} verified`;
  return size === 1 ? said : `${plural(own.pairs, "pair")}, ${count(own.verified)} verified; ${said}`;
}

/** The matrix: matches above the diagonal, verified matches below. */
function matchMatrix(pairs) {
  const size = Math.ceil(page.images.names.length / MAX_CELLS);
  const num = Math.ceil(page.images.names.length / size);
  const sums = grouped(pairs, size, num);
  const most = Math.max(1, ...Array.from(sums.values(), (own) => own.matches));
  const raw = el("canvas", { width: num, height: num, class: "matrix", id: "matrix", role: "img", ariaLabel: `Matrix of matches of ${plural(page.images.names.length, "image")}` });
  const context = raw.getContext("2d");
  const pixels = context.createImageData(num, num);
  const paint = (x, y, value) => {
    const colour = value > 0 ? colourAt(VIRIDIS, Math.log1p(value) / Math.log1p(most)) : null;
    pixels.data.set(colour ? [...colour, 255] : [128, 128, 128, 40], 4 * (y * num + x));
  };
  for (let k = 0; k < num * num; k++) pixels.data.set([128, 128, 128, k % (num + 1) === 0 ? 110 : 22], 4 * k);
  for (const { a, b, matches, inliers } of sums.values()) {
    if (a === b) paint(a, a, size === 1 ? 0 : inliers);
    else {
      paint(b, a, matches);
      paint(a, b, inliers);
    }
  }
  context.putImageData(pixels, 0, 0);
  raw.addEventListener("pointermove", (event) => {
    const box = raw.getBoundingClientRect();
    const [x, y] = [[event.clientX - box.left, box.width], [event.clientY - box.top, box.height]].map(([at, all]) =>
      Math.min(num - 1, Math.max(0, Math.floor((at / all) * num))));
    const [a, b] = [Math.min(x, y), Math.max(x, y)];
    const own = sums.get(a * num + b);
    showTip(event, a === b ? `${groupName(a, size)}${size > 1 ? `: ${sumText(own, size)}` : ""}` : `${groupName(a, size)} – ${groupName(b, size)}: ${sumText(own, size)}`);
  });
  raw.addEventListener("pointerleave", (event) => showTip(event, ""));
  const cells = size === 1 ? "" : ` A cell stands for ${size} × ${size} images, the diagonal for pairs inside a group.`;
  return el("figure", {}, raw, el("figcaption", {}, `Images in the order of their names. Above the diagonal: matches; below: verified matches (log scale).${cells} `,
    legend(VIRIDIS, "1", count(most))));
}

/** The match graph as SVG: images, or groups of them, as nodes; verified pairs as edges, the stronger the more matches. */
class MatchGraph {
  constructor(pairs, models) {
    this.pairs = pairs;
    this.total = page.images.names.length;
    this.picture = svg("svg", { viewBox: "0 0 1000 1000", class: "graph", id: "graph", role: "img" });
    this.caption = el("span", {});
    this.places = models.length ? cameraPlaces(models[0], this.total) : null;
    const layouts = [["circle", "on a circle"], ["map", "where their cameras are, from above"]];
    const layout = models.length ? select("Images", layouts, (value) => this.arrange(value)) : null;
    this.element = el("figure", {}, el("div", { class: "graph-holder" }, this.picture), el("figcaption", {}, this.caption, layout));
    this.arrange("circle");
    this.picture.addEventListener("pointermove", (event) => this.point(event));
    this.picture.addEventListener("pointerleave", (event) => { showTip(event, ""); this.mark(null); });
  }

  arrange(layout) {
    const map = layout === "map";
    this.size = map || this.total <= MANY_IMAGES ? 1 : Math.ceil(this.total / MAX_NODES);
    this.num = Math.ceil(this.total / this.size);
    this.at = map ? this.places : Array.from({ length: this.num }, (_, k) => {
      const angle = (2 * Math.PI * k) / this.num - Math.PI / 2;
      return [500 + 460 * Math.cos(angle), 500 + 460 * Math.sin(angle)];
    });
    this.sums = Array.from(grouped(this.pairs, this.size, this.num).values()).filter((own) => own.inliers > 0);
    this.draw();
  }

  /** The edges that are drawn: all, or of each node its strongest ones, and none that is weak in the whole. */
  strongest() {
    const edges = this.sums.filter((own) => own.a !== own.b && this.at[own.a] && this.at[own.b]).sort((p, q) => q.inliers - p.inliers);
    if (edges.length <= 300) return edges;
    const each = this.size === 1 ? 4 : 6;
    const used = new Map();
    return edges.filter(({ a, b }) => {
      const [p, q] = [used.get(a) || 0, used.get(b) || 0];
      if (p >= each && q >= each) return false;
      used.set(a, p + 1).set(b, q + 1);
      return true;
    }).slice(0, MAX_EDGES + this.num);
  }

  draw() {
    const edges = this.strongest();
    const most = Math.max(1, ...this.sums.filter((own) => own.a !== own.b).map((own) => own.inliers));
    const paths = Array.from({ length: STRENGTHS }, () => []);
    for (const own of edges) paths[Math.min(STRENGTHS - 1, Math.floor(STRENGTHS * Math.sqrt(own.inliers / most)))].push(this.line(own));
    const thin = Math.min(1, 30 / this.num);
    const lines = paths.map((d, k) => svg("path", { d: d.join(""), class: "edge", "stroke-width": 0.8 + (5 * thin * (k + 1)) / STRENGTHS, "stroke-opacity": 0.14 + (0.8 * (k + 1)) / STRENGTHS }));
    this.own = svg("path", { d: "", class: "edge own" });
    const refused = this.refused();
    if (refused.length) lines.push(svg("path", { d: refused.map((own) => this.line(own)).join(""), class: "edge refused", id: "refused" }));
    const radius = Math.max(2.5, Math.min(11, 900 / this.num));
    const registered = page.images.sides[0].registered;
    const nodes = this.at.map((place, k) => {
      if (!place) return null;
      const members = Array.from({ length: Math.min(this.size, this.total - k * this.size) }, (_, m) => registered[k * this.size + m]);
      return svg("circle", { cx: place[0], cy: place[1], r: radius, class: members.every(Boolean) ? "node" : members.some(Boolean) ? "node odd" : "node out" });
    }).filter(Boolean);
    this.picture.replaceChildren(...lines, this.own, ...nodes);
    const all = this.sums.filter((own) => own.a !== own.b).length;
    const what = this.size === 1 ? `${count(all)} verified pairs` : `${count(all)} joined pairs of groups`;
    const drawn = edges.length < all ? `The strongest ${count(edges.length)} of ${what} are drawn` : `${plural(this.pairs.inliers.filter((n) => n > 0).length, "verified pair")}`;
    const groups = this.size > 1 ? ` A node stands for ${this.size} images in the order of their names.` : "";
    const alike = refused.length ? ` Dashed: ${plural(this.pairs.refused.length, "pair")} refused, because they show places that look alike.` : "";
    this.caption.textContent = `${drawn}; the more verified matches, the stronger the line.${alike}${groups} Orange: not registered. Point at a node for its own.`;
    this.picture.setAttribute("aria-label", `Match graph. ${this.caption.textContent}`);
  }

  /** The edges of pairs that were refused. */
  refused() {
    const ends = this.pairs.refused.map((k) => [this.pairs.i[k], this.pairs.j[k]].map((image) => Math.floor(image / this.size)));
    const joined = new Map(ends.map(([a, b]) => [a * this.num + b, { a, b }]));
    return Array.from(joined.values()).filter(({ a, b }) => a !== b && this.at[a] && this.at[b]).slice(0, MAX_EDGES);
  }

  line({ a, b }) {
    const [p, q] = [this.at[a], this.at[b]];
    return `M${p[0].toFixed(1)} ${p[1].toFixed(1)}L${q[0].toFixed(1)} ${q[1].toFixed(1)}`;
  }

  point(event) {
    const box = this.picture.getBoundingClientRect();
    const [x, y] = [(1000 * (event.clientX - box.left)) / box.width, (1000 * (event.clientY - box.top)) / box.height];
    let best = 30, near = null;
    this.at.forEach((place, k) => {
      const off = place ? Math.hypot(place[0] - x, place[1] - y) : Infinity;
      if (off < best) [best, near] = [off, k];
    });
    const own = this.mark(near);
    const sum = own.reduce((total, each) => total + each.verified, 0);
    showTip(event, near === null ? "" : `${groupName(near, this.size)}: ${plural(sum, "verified pair")}`);
  }

  /** Shows a node's edges, all of them; returns them. */
  mark(near) {
    const own = near === null ? [] : this.sums.filter((each) => each.a === near || each.b === near);
    this.own.setAttribute("d", own.filter((each) => each.a !== each.b && this.at[each.a] && this.at[each.b]).map((each) => this.line(each)).join(""));
    this.picture.classList.toggle("marked", near !== null);
    return own;
  }
}

/** Where each image's camera is seen from above, in 0..1000; null for those not registered. */
function cameraPlaces(model, num) {
  const centres = Array.from(model.image, (_, row) => model.centre(row));
  const [xs, ys] = [0, 1].map((k) => centres.map((centre) => centre[k]));
  const [left, top] = [Math.min(...xs), Math.max(...ys)];
  const reach = Math.max(Math.max(...xs) - left, top - Math.min(...ys)) || 1;
  const [offX, offY] = [(reach - (Math.max(...xs) - left)) / 2, (reach - (top - Math.min(...ys))) / 2];
  const places = Array(num).fill(null);
  model.image.forEach((image, row) => {
    places[image] = [50 + (900 * (xs[row] - left + offX)) / reach, 50 + (900 * (top - ys[row] + offY)) / reach];
  });
  return places;
}

/** The images of fewest verified pairs: what is likely to be lost first. onGo(image). */
function weakestImages(pairs, onGo) {
  const { names, sides } = page.images;
  const numbers = pairs.of.map((own) => own.length);
  const order = Array.from(names.keys()).sort((a, b) => numbers[a] - numbers[b] || a - b).slice(0, FEWEST);
  const usual = median([...numbers]);
  const strongest = (image) => {
    const [k] = pairs.of[image];
    return k === undefined ? "none" : `${names[pairs.i[k] === image ? pairs.j[k] : pairs.i[k]]}, ${plural(pairs.inliers[k], "verified match")}`;
  };
  return [el("h3", {}, "Images that hang on few others"),
    el("p", { class: "note" }, `The median image is in ${plural(usual, "verified pair")}; these are in the fewest.`),
    table(["Image", "Verified pairs", "Its strongest pair", ""], order.map((image) => [button(names[image], () => onGo(image), { class: "link" }),
      count(numbers[image]), strongest(image), badge(sides[0], image)]))];
}

/** What was tried, round by round, and why; nothing where the pairs were given. */
function triedRounds() {
  const rounds = page.pairs.rounds || [];
  if (!rounds.length) return [];
  const rows = rounds.map(([number, why, tried, verified], k) => [
    k && rounds[k - 1][0] === number ? "" : `Round ${number}`, why, count(tried), bar(verified / tried, `${count(verified)} (${Math.round((100 * verified) / tried)} %)`)]);
  return [el("h3", {}, "What was tried, and why"),
    el("p", { class: "note" }, "Each round chooses its pairs by what the matches of those before it showed."),
    table(["Round", "Images that", "Pairs", "Verified"], rows, { id: "rounds" })];
}
