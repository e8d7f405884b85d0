"use strict";
// Elements, arrays, colours, numbers. Names are untrusted: they reach the page as text nodes and properties, never as HTML.

const page = JSON.parse(document.getElementById("document").textContent);

/** An element with properties, listeners under `on`, and children: nodes, or strings, which become text. */
function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "class") node.className = value;
    else if (key === "on") for (const [event, call] of Object.entries(value)) node.addEventListener(event, call);
    else if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** The same in SVG. */
function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.flat());
  return node;
}

const ARRAYS = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array };

/** The typed array of {type, shape, data}. */
function unpack(packed) {
  const text = atob(packed.data);
  const bytes = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
  return new ARRAYS[packed.type](bytes.buffer);
}

// Of models, by their number; in report.css as --m0, --m1, ..., and in sfm/report/parts.py.
const MODEL_COLOURS = {
  light: ["#1d6ed6", "#b25400", "#008060", "#8e44ad", "#b02a48", "#5b6673"],
  dark: ["#6db1ff", "#ffab5c", "#3fcf9f", "#cf9bf0", "#ff8aa5", "#b4bfcc"],
};

/** A colour of a model that changes with the theme. */
function modelColour(k) {
  return `var(--m${k % MODEL_COLOURS.light.length})`;
}

// Colours that are distinguishable with red-green colour blindness: blue is good, orange is bad; viridis where neither is meant.
const GOOD_TO_BAD = ["#2c7fff", "#4fc3f7", "#f6eca0", "#ff9f43", "#e8442e"];
const VIRIDIS = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"];

function rgb(hex) {
  return [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
}

/** [r, g, b] in 0..255 of a scale at t in 0..1. */
function colourAt(scale, t) {
  const at = Math.min(Math.max(t, 0), 1) * (scale.length - 1);
  const k = Math.min(Math.floor(at), scale.length - 2);
  const [a, b] = [rgb(scale[k]), rgb(scale[k + 1])];
  return a.map((value, c) => Math.round(value + (b[c] - value) * (at - k)));
}

function css(colour, alpha = 1) {
  return `rgb(${colour.join(" ")} / ${alpha})`;
}

function themeColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Calls back when the system changes between light and dark. */
function onTheme(call) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", call);
}

function count(number) {
  return number.toLocaleString("en");
}

function plural(number, noun) {
  return `${count(number)} ${number === 1 ? noun : noun.endsWith("match") ? `${noun}es` : `${noun}s`}`;
}

function px(error) {
  return error === null || error === undefined ? "–" : `${error.toFixed(2)} px`;
}

function duration(seconds) {
  if (seconds < 90) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/** A canvas of a size in CSS pixels, sharp on any screen; returns its context, scaled to CSS pixels. */
function fitCanvas(canvas, width, height) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  const context = canvas.getContext("2d");
  context.setTransform(canvas.width / width, 0, 0, canvas.height / height, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/** Calls `draw` whenever the element's width changes, and when it first has one. */
function onWidth(element, draw) {
  let last = 0;
  new ResizeObserver(() => {
    const width = element.clientWidth;
    if (width && width !== last) {
      last = width;
      draw(width);
    }
  }).observe(element);
  onTheme(() => last && draw(last));
}

/** What waits to be drawn until it comes near; before printing all of it is. */
const undrawn = new Set();
let printing = false;
addEventListener("beforeprint", () => {
  printing = true;
  [...undrawn].forEach((draw) => draw());
});
addEventListener("afterprint", () => { printing = false; });

/** Calls once, when the element comes near the window or is printed. */
function whenNear(element, call) {
  const once = () => {
    watcher.disconnect();
    if (undrawn.delete(once)) call();
  };
  const watcher = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && once(), { rootMargin: "600px" });
  undrawn.add(once);
  watcher.observe(element);
}

/** A strip of a colour scale with the words at its ends. */
function legend(scale, low, high) {
  const strip = el("span", { class: "strip" });
  strip.style.background = `linear-gradient(to right, ${scale.join(", ")})`;
  return el("span", { class: "legend" }, low, strip, high);
}

function select(label, options, onChange) {
  const box = el("select", { on: { change: () => onChange(box.value) } },
    options.map(([value, text]) => el("option", { value }, text)));
  return Object.assign(el("label", { class: "field" }, el("span", {}, label), box), { box });
}

function slider(label, { min, max, step, value, id }, onInput) {
  const said = el("output", {});
  const box = el("input", { type: "range", min, max, step, value, id: id || "" });
  const tell = () => { said.textContent = onInput(Number(box.value)); };
  box.addEventListener("input", tell);
  return Object.assign(el("label", { class: "field" }, el("span", {}, `${label} `, said), box), { box, tell });
}

function checkbox(label, checked, onChange) {
  const box = el("input", { type: "checkbox", checked, on: { change: () => onChange(box.checked) } });
  return Object.assign(el("label", { class: "check" }, box, label), { box });
}

function button(label, onClick, properties = {}) {
  return el("button", { type: "button", ...properties, on: { click: onClick } }, label);
}

/** A section; its title may have a shorter one for the navigation after a bar. */
function section(id, title, ...children) {
  const [long, short] = title.split("|");
  return el("section", { id, "data-short": short || long }, el("h2", {}, long), ...children);
}

function navigation(sections) {
  return el("nav", { ariaLabel: "Sections" }, el("a", { class: "brand", href: "#overview" }, "loftr-sfm"),
    sections.filter(Boolean).map((own) => el("a", { href: `#${own.id}` }, own.dataset.short)));
}

/** The whole page: its sections below the navigation and the head. */
function layOut(head, sections) {
  document.getElementById("page").replaceChildren(navigation(sections), head, ...sections,
    el("footer", {}, "Written by loftr-sfm; 3D view by three.js (MIT). This file holds all it shows and loads nothing."));
  document.body.append(tip);
}

/** A small box that follows the pointer; give it no text to hide it. */
const tip = el("div", { class: "tip", hidden: true });
function showTip(event, text) {
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text;
  const right = event.clientX + tip.offsetWidth + 24 > innerWidth;
  tip.style.left = `${right ? Math.max(4, event.clientX - tip.offsetWidth - 12) : event.clientX + 14}px`;
  tip.style.top = `${Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 4)}px`;
}
