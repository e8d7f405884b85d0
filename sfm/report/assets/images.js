"use strict";
// Image by image: cards with thumbnail and keypoints, and one image large, with its figures and its neighbours.

/** Draws an image's keypoints of one side over a canvas of width x height; of many, on a small one, every second or third. */
function drawKeypoints(context, seen, width, height, radius) {
  const [xy, error] = [unpack(seen.xy), unpack(seen.error)];
  const step = Math.max(1, Math.round(error.length / (2.6 * width)));
  for (let k = 0; k < error.length; k += step) {
    context.fillStyle = css(colourAt(GOOD_TO_BAD, (error[k] / 255) * (page.images.keypoint_error / 2)), 0.9);
    const [x, y] = [(xy[2 * k] / 65535) * width, (xy[2 * k + 1] / 65535) * height];
    if (radius < 1.6) {  // too small to be seen round, and squares are drawn much faster
      context.fillRect(x - 0.9 * radius, y - 0.9 * radius, 1.8 * radius, 1.8 * radius);
      continue;
    }
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fill();
  }
}

/** An image of any width with its keypoints of one side over it. show() says whether keypoints are wanted. */
class Picture {
  constructor(image, side, show) {
    Object.assign(this, { image, side, show });
    const [width, height] = page.images.sizes[image];
    const url = page.images.thumbnails[image];
    this.canvas = el("canvas", {});
    this.thumbnail = url ? el("img", { alt: page.images.names[image], src: url }) : null;
    this.element = el("div", { class: "picture" }, this.thumbnail, this.canvas);
    this.element.style.aspectRatio = width ? `${width} / ${height}` : "4 / 3";
    if (!url) this.element.classList.add("gone");
  }

  /** On paper the image too, since browsers leave out images that they have not shown before. */
  draw() {
    const [width, height] = [this.element.clientWidth, this.element.clientHeight];
    if (!width) return;
    const context = fitCanvas(this.canvas, width, height);
    if (printing && this.thumbnail && this.thumbnail.complete) context.drawImage(this.thumbnail, 0, 0, width, height);
    const seen = page.images.sides[this.side].seen[this.image];
    if (seen && this.show()) drawKeypoints(context, seen, width, height, Math.max(1.1, width / 260));
  }
}

/** "registered" and the like, of an image on one side. */
function badge(side, image) {
  if (side.registered[image]) {
    return side.warning[image] ? el("span", { class: "badge odd" }, "registered, outlier") : el("span", { class: "badge in" }, "registered");
  }
  return el("span", { class: "badge out" }, "not registered");
}

/** A model's title in its colour. */
function sideTitle(k) {
  const title = el("b", {}, `${page.images.titles[k]} `);
  title.style.color = modelColour(k);
  return title;
}

/** The panel of a selected image: its pictures, its figures, what to do with it. choose(image or null), card(image), look(image). */
function fillPanel(panel, image, { choose, card, look }) {
  panel.hidden = image === null;
  if (image === null) return;
  const { names, sides } = page.images;
  const pictures = sides.map((_, side) => new Picture(image, side, () => true));
  const own = sides.flatMap((side) => side.registered.flatMap((on, k) => (on ? [k] : [])));
  const order = Array.from(new Set(own)).sort((a, b) => a - b);
  const next = (step) => order[(order.indexOf(image) + step + order.length) % order.length];
  panel.replaceChildren(
    el("div", { class: "dialog-head" }, el("h3", { title: names[image] }, names[image]), button("×", () => choose(null), { ariaLabel: "close", class: "close" })),
    el("div", { class: `pictures of-${pictures.length}` }, pictures.map((picture) => picture.element)),
    ...details(image, choose, [button("Previous", () => choose(next(-1))), button("Next", () => choose(next(1))),
      button("Look through it", () => look(image)), button("Its card", () => card(image))]));
  pictures.forEach((picture) => picture.draw());
}

/** The line of figures of an image on one side. */
function figures(side, image) {
  if (!side.registered[image]) return side.reason[image] || "";
  const parts = [plural(side.observations[image], "observation"), px(side.error[image])];
  const truth = side.truth && side.truth[image];
  if (truth) parts.push(`centre off by ${truth.centre_percent.toFixed(2)} % of the extent, ${truth.rotation_deg.toFixed(2)}°`);
  return parts.join(" · ");
}

/** All that is known of one image, for the panel and the dialog. */
function details(image, onGo, onLook) {
  const { names, sides, titles } = page.images;
  return sides.flatMap((side, k) => [
    el("div", { class: "side-line" }, titles ? sideTitle(k) : null, badge(side, image), el("span", { class: "figures" }, figures(side, image))),
    side.warning[image] ? el("p", { class: "odd-text" }, side.warning[image]) : null,
    side.neighbours[image].length ? el("p", { class: "neighbours" }, "shares points with ",
      side.neighbours[image].map(([other, shared]) => button(`${names[other]} (${count(shared)})`, () => onGo(other), { class: "link" }))) : null,
  ]).concat(onLook ? [el("div", { class: "buttons" }, onLook)] : []).filter(Boolean);
}

class ImageGrid {
  /** onShow(image): show an image's camera in the 3D view; null where there is none. */
  constructor(onShow) {
    this.onShow = onShow;
    this.keypoints = true;
    this.order = "name";
    this.kept = "all";
    this.words = "";
    this.cards = page.images.names.map((_, image) => this.card(image));
    this.grid = el("div", { class: "grid" });
    this.status = el("span", { class: "status", id: "images-shown" });
    this.dialog = el("dialog", { class: "large", on: { click: (event) => event.target === this.dialog && this.dialog.close() } });
    this.element = el("div", {}, this.toolbar(), this.grid, this.dialog);
    this.arrange();
    for (const event of ["beforeprint", "afterprint"]) {
      addEventListener(event, () => this.cards.forEach((card) => card.pictures.forEach((picture) => picture.draw())));
    }
  }

  toolbar() {
    const search = el("input", { type: "search", id: "search", placeholder: "name", on: { input: () => { this.words = search.value.toLowerCase(); this.arrange(); } } });
    const orders = [["name", "name"], ["few", "fewest observations"], ["many", "most observations"], ["error", "largest error"]];
    this.chooser = select("Show", this.groups(), (value) => { this.kept = value; this.arrange(); });
    if (page.images.sides[0].truth) orders.push(["truth", "largest centre error"]);
    return el("div", { class: "toolbar" },
      el("label", { class: "field" }, el("span", {}, "Search"), search),
      select("Sort by", orders, (value) => { this.order = value; this.arrange(); }),
      this.chooser,
      checkbox("keypoints", true, (on) => { this.keypoints = on; this.cards.forEach((card) => card.near && card.pictures.forEach((picture) => picture.draw())); }),
      legend(GOOD_TO_BAD, "0", "2 px and more"), this.status);
  }

  groups() {
    const all = [["all", "all images"]];
    const titles = page.images.titles;
    if (!titles) return all.concat([["in", "registered"], ["out", "not registered"], ["odd", "with a warning"]]);
    const two = titles.length === 2;
    return all.concat([["both", two ? "in both" : "in all"], ...titles.map((title, k) => [String(k), `only ${title}`]), ["out", two ? "in neither" : "in none"], ["odd", "with a warning"]]);
  }

  keeps(image) {
    const { sides, names } = page.images;
    const having = sides.map((_, k) => k).filter((k) => sides[k].registered[image]);
    const groups = {
      all: true, in: having.length > 0, out: having.length === 0, both: having.length === sides.length,
      odd: sides.some((side) => side.warning[image] !== ""),
    };
    const kept = this.kept in groups ? groups[this.kept] : having.length === 1 && having[0] === Number(this.kept);
    return kept && names[image].toLowerCase().includes(this.words);
  }

  rank(image) {
    const most = (values) => Math.max(...values.map((value) => (value === null || value === undefined ? -1 : value)));
    const sides = page.images.sides;
    const fewest = Math.min(...sides.map((side) => side.observations[image]));
    return {
      name: image, few: fewest, many: -most(sides.map((side) => side.observations[image])),
      error: -most(sides.map((side) => side.error[image])),
      truth: -most(sides.map((side) => (side.truth && side.truth[image] ? side.truth[image].centre_percent : null))),
    }[this.order];
  }

  arrange() {
    const shown = this.cards.filter((card) => this.keeps(card.image));
    shown.sort((a, b) => this.rank(a.image) - this.rank(b.image) || a.image - b.image);
    this.grid.replaceChildren(...shown.map((card) => card.element));
    this.status.textContent = `${count(shown.length)} of ${plural(this.cards.length, "image")}`;
  }

  card(image) {
    const { names, sides, titles, place } = page.images;
    const pictures = sides.map((_, side) => new Picture(image, side, () => this.keypoints));
    const lines = sides.map((side, k) => el("div", { class: "side-line" },
      titles ? sideTitle(k) : null, badge(side, image), el("div", { class: "figures" }, figures(side, image)),
      side.warning[image] ? el("div", { class: "odd-text" }, side.warning[image]) : null));
    const where = place && place[image] && sides[0].registered[image] ? el("div", { class: "figures" }, `also in ${place[image]}`) : null;
    const holder = el("button", { type: "button", class: `pictures of-${pictures.length}`, title: "larger", ariaLabel: `${names[image]}, larger`, on: { click: () => this.enlarge(image) } }, pictures.map((picture) => picture.element));
    const element = el("article", { class: "card", id: `image-${image}` }, holder, el("h3", { title: names[image] }, names[image]), lines, where);
    const card = { image, pictures, element, near: false };
    whenNear(element, () => {
      card.near = true;
      pictures.forEach((picture) => { picture.draw(); onWidth(picture.element, () => picture.draw()); });
    });
    return card;
  }

  /** Shows a group of images only, and goes there. */
  show(which) {
    this.kept = this.chooser.box.value = which;
    this.arrange();
    this.element.scrollIntoView();
  }

  /** Scrolls to an image's card and marks it. */
  goTo(image) {
    const card = this.cards[image];
    if (!card.element.isConnected) {
      this.kept = this.chooser.box.value = "all";
      this.words = "";
      this.arrange();
    }
    card.element.scrollIntoView({ block: "center" });
    card.element.classList.add("marked");
    setTimeout(() => card.element.classList.remove("marked"), 2500);
  }

  enlarge(image) {
    const show = page.images.sides.some((side) => side.registered[image]) && this.onShow
      ? button("Show in 3D", () => { this.dialog.close(); this.onShow(image); }) : null;
    const pictures = page.images.sides.map((_, side) => new Picture(image, side, () => true));
    this.dialog.replaceChildren(
      el("div", { class: "dialog-head" }, el("h3", {}, page.images.names[image]), button("Close", () => this.dialog.close())),
      el("div", { class: `pictures of-${pictures.length}` }, pictures.map((picture) => picture.element)),
      ...details(image, (other) => this.enlarge(other), show));
    if (!this.dialog.open) this.dialog.showModal();
    pictures.forEach((picture) => picture.draw());
  }
}
