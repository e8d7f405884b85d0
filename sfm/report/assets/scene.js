"use strict";
// The 3D view: points and cameras of one model, or of some in one frame, side by side or over each other. z is up.

const MARGIN = 0.07, SPLIT_MARGIN = 0.11;  // part of a pane's side that a view of the whole leaves free

class SceneView {
  /** parts: models of the page; titles of images and their thumbnails come from `pictures`. onSelect(image or null). */
  constructor(parts, pictures, onSelect) {
    this.pictures = pictures;
    this.onSelect = onSelect;
    this.models = parts.map((part, k) => new Model(part, k));
    this.shown = this.models.filter((model) => !model.outline);
    this.split = this.shown.length > 1;
    this.selected = null;
    [this.where, this.across] = ["home", this.shown.length];
    this.tellDrawn = () => {};
    this.filter = { maxError: Infinity, minLength: 0 };
    this.canvas = el("canvas", { class: "scene-canvas", tabIndex: 0, ariaLabel: "3D view of points and cameras" });
    this.labels = el("div", { class: "pane-labels" },
      this.shown.map((model, k) => el("span", { class: `pane side-${k}` }, `${model.title} · ${plural(model.total, "point")}`)));
    Array.from(this.labels.children, (label, k) => { label.style.color = modelColour(k); });
    this.panel = el("div", { class: "panel", hidden: true });
    this.still = document.getElementById("still");
    this.frame = el("div", { class: "scene-frame" }, this.still, this.canvas, this.split ? this.labels : null);
    this.drawn = el("p", { class: "drawn", id: "drawn" });
    this.element = el("div", { class: "scene" }, this.frame, this.panel);
    try {
      this.renderer = new THREE.WebGLRenderer({ canvas: this.canvas, antialias: true });
    } catch {
      this.canvas.remove();
      this.panel.remove();
      this.frame.classList.add("flat");
      this.element.append(el("p", { class: "note" }, "A picture: this browser offers no WebGL, which the view in 3D needs. The rest of the page works without."));
      return;
    }
    this.renderer.autoClear = false;
    this.camera = new THREE.PerspectiveCamera(45, 1, 0.005, 2000);
    this.camera.up.set(0, 0, 1);
    this.controls = new THREE.OrbitControls(this.camera, this.canvas);
    this.controls.addEventListener("change", () => this.render());
    this.controls.addEventListener("start", () => { this.touched = true; });
    this.controls.listenToKeyEvents(this.canvas);
    this.build();
    this.element.append(this.controlsBar());
    this.listen();
    this.look("home");
    window.scenes = [...(window.scenes || []), this];  // for whoever looks into the page
    new ResizeObserver(() => this.resize()).observe(this.frame);
    this.applyFilter();
  }

  build() {
    const sizes = this.shown.map((model) => symbolSize(model)).filter((value) => value > 0);
    this.baseSize = sizes.length ? Math.min(...sizes) : 0.1;
    this.cameraScale = 1;
    for (const model of this.models) {
      model.scene = new THREE.Scene();
      const geometry = new THREE.BufferGeometry();
      geometry.setAttribute("position", new THREE.BufferAttribute(model.xyz, 3));
      geometry.setAttribute("colour", new THREE.BufferAttribute(model.rgb, 3, true));
      geometry.setAttribute("error", new THREE.BufferAttribute(model.error, 1));
      geometry.setAttribute("seen", new THREE.BufferAttribute(Float32Array.from(model.length), 1));
      model.points = new THREE.Points(geometry, new THREE.ShaderMaterial({
        vertexShader: POINTS_VERTEX,
        fragmentShader: POINTS_FRAGMENT,
        uniforms: {
          size: { value: 2.5 }, maxError: { value: 1e9 }, minLength: { value: 0 }, distance: { value: 1 }, top: { value: 1 },
          mode: { value: 0 }, flat_: { value: new THREE.Vector3() },
          ramp: { value: Array.from({ length: RAMP }, () => new THREE.Vector3()) },
        },
      }));
      model.points.frustumCulled = false;
      model.lines = new THREE.LineSegments(new THREE.BufferGeometry(),
        new THREE.ShaderMaterial({ vertexShader: LINES_VERTEX, fragmentShader: LINES_FRAGMENT, depthWrite: !model.outline }));
      model.lines.frustumCulled = false;
      model.scene.add(model.points, model.lines);
    }
    this.drawCameras();
  }

  drawCameras() {
    for (const model of this.models) {
      const places = [], colours = [];
      const own = model.colours[this.dark ? "dark" : "light"];
      model.points.material.uniforms.flat_.value.set(...rgb(own).map((c) => c / 255));
      const line = (a, b, colour) => { places.push(...a, ...b); colours.push(...colour, ...colour); };
      const selected = this.selected === null ? undefined : model.rowOf.get(this.selected);
      for (let row = 0; row < model.image.length && this.cameraScale > 0; row++) {
        const colour = rgb(row === selected ? SELECTED : own).map((c) => c / 255);
        const size = this.baseSize * this.cameraScale * (row === selected ? 1.6 : 1);
        const corners = model.corners(row, size);
        const centre = model.centre(row);
        corners.forEach((corner, k) => { line(centre, corner, colour); line(corner, corners[(k + 1) % 4], colour); });
        const tip = corners[0].map((c, k) => (c + corners[1][k]) / 2 - 0.35 * size * model.axis(row, 1)[k]);
        line(corners[0], tip, colour);
        line(corners[1], tip, colour);
      }
      if (selected !== undefined && !model.outline) this.drawNeighbours(model, selected, line);
      const geometry = new THREE.BufferGeometry();
      geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(places), 3));
      geometry.setAttribute("colour", new THREE.BufferAttribute(new Float32Array(colours), 3));
      model.lines.geometry.dispose();
      model.lines.geometry = geometry;
      hangPicture(this, model, selected);
    }
    this.render();
  }

  drawNeighbours(model, selected, line) {
    const side = page.images.sides[this.shown.indexOf(model)];
    for (const [image] of side.neighbours[this.selected]) {
      const row = model.rowOf.get(image);
      if (row !== undefined) line(model.centre(selected), model.centre(row), rgb(SELECTED).map((c) => (0.6 * c) / 255));
    }
  }

  controlsBar() {
    const longest = this.shown.reduce((most, model) => model.length.reduce((a, b) => Math.max(a, b), most), 2);
    const errors = Float32Array.from(this.shown.flatMap((model) => Array.from(model.error))).sort();
    this.topError = Math.max(0.01, errors[Math.floor(0.998 * (errors.length - 1))] || 0);
    const error = slider("Reprojection error", { id: "max-error", min: 0, max: 100, step: 1, value: 100 }, (value) => {
      this.filter.maxError = value === 100 ? Infinity : this.topError * (value / 100) ** 2;
      this.applyFilter();
      return value === 100 ? "any" : `≤ ${this.filter.maxError.toFixed(2)} px`;
    });
    const length = slider("Track length", { id: "min-length", min: 2, max: Math.min(longest, 20), step: 1, value: 2 }, (value) => {
      this.filter.minLength = value;
      this.applyFilter();
      return `≥ ${value}`;
    });
    const total = this.shown.reduce((sum, model) => Math.max(sum, model.error.length), 1);
    const usual = Math.min(4.5, Math.max(1.5, 2.5 * (20000 / total) ** 0.25)).toFixed(1);
    const size = slider("Point size", { min: 1, max: 10, step: 0.1, value: usual }, (value) => {
      this.pointSize = value;
      this.render();
      return "";
    });
    const cameras = slider("Cameras", { min: 0, max: 3, step: 0.1, value: 1 }, (value) => {
      this.cameraScale = value;
      this.drawCameras();
      return value === 0 ? "hidden" : "";
    });
    const modes = [["0", "as in the images"], ["1", "by reprojection error"], ["2", "by track length"]];
    if (this.split) modes.push(["3", "by model"]);
    this.legendPlace = el("span", { class: "legend-place" });
    const colour = select("Colour", modes, (value) => this.colourBy(Number(value)));
    const background = select("Background", [["", "as the page"], ["dark", "dark"], ["light", "light"]], (value) => {
      this.background = value;
      this.render();
    });
    for (const part of [error, length, size, cameras]) part.tell();
    const layout = this.split ? select("Models", [["side", "side by side"], ["over", "over each other"]], (value) => {
      this.split = value === "side";
      this.labels.classList.toggle("over", !this.split);
      colour.box.value = this.split ? "0" : "3";
      this.colourBy(Number(colour.box.value));
      this.look(this.where);
    }) : null;
    const names = Array.from(new Set(this.shown.flatMap((model) => Array.from(model.image)))).sort((a, b) => a - b);
    this.chooser = select("Camera", [["", "none"], ...names.map((image) => [image, this.pictures.names[image]])],
      (value) => this.choose(value === "" ? null : Number(value)));
    this.allCameras = button("All cameras", () => this.look("all"), { hidden: true });
    const views = el("div", { class: "buttons" },
      button("Reset view", () => { this.choose(null); this.look("home"); }), this.allCameras, button("Top", () => this.look("top")), button("Front", () => this.look("front")));
    this.colourBy(0);
    return el("div", { class: "scene-controls" },
      el("div", { class: "scene-foot" }, views, this.chooser, this.drawn),
      el("details", { class: "scene-options" }, el("summary", {}, "Filter, colour, size", this.split ? ", layout" : ""),
        el("div", { class: "fields" }, layout, colour, error, length, size, cameras, background), this.legendPlace, button("Save picture", () => this.save())));
  }

  colourBy(mode) {
    const scale = mode === 1 ? GOOD_TO_BAD : VIRIDIS;
    const top = mode === 1 ? Math.min(this.topError, 2) : 8;
    for (const model of this.models) {
      const uniforms = model.points.material.uniforms;
      uniforms.mode.value = mode;
      uniforms.top.value = top;
      uniforms.ramp.value.forEach((stop, k) => stop.set(...colourAt(scale, k / (RAMP - 1)).map((c) => c / 255)));
    }
    const ends = mode === 1 ? ["0", `${top.toFixed(1)} px`] : ["2", "10 images"];
    this.legendPlace.replaceChildren(...(mode === 1 || mode === 2 ? [legend(scale, ...ends)] : []));
    this.render();
  }

  applyFilter() {
    let left = 0, all = 0;
    for (const model of this.models) {
      const uniforms = model.points.material.uniforms;
      uniforms.maxError.value = Math.min(this.filter.maxError, 1e9);
      uniforms.minLength.value = this.filter.minLength;
      for (let k = 0; k < model.error.length; k++) {
        if (model.error[k] <= this.filter.maxError && model.length[k] >= this.filter.minLength) left++;
      }
      all += model.error.length;
    }
    this.drawn.dataset.drawn = left;
    this.tellDrawn = () => {
      this.drawn.textContent = `${count(left)} of ${plural(all, "point")} drawn${this.far ? `; ${plural(this.far, "camera")} far off` : ""}`;
    };
    this.tellDrawn();
    this.render();
  }

  /** Puts the eye somewhere: "home", "all", "top", "front". All the cameras around the points are in the view, whole. */
  look(where) {
    const centres = this.shown.flatMap((model) => Array.from(model.image, (_, row) => model.centre(row)));
    const mean = [0, 1].map((k) => centres.reduce((sum, c) => sum + c[k], 0) / Math.max(centres.length, 1));
    const reach = centres.reduce((sum, c) => sum + Math.hypot(c[0], c[1]), 0) / Math.max(centres.length, 1);
    const front = Math.hypot(...mean) > 0.25 * reach ? unit([...mean, 0]) : [...this.bestSide(), 0];
    const height = { home: 0.42, all: 0.42, top: 1000, front: 0 }[where];
    const forward = unit([-front[0], -front[1], -height]);
    const { places, far } = landmarks(this.shown, this.baseSize * Math.max(this.cameraScale, 0.1), where === "all");
    if (this.split) this.arrangePanes(forward, places);
    const { eye, target } = framed(forward, places, [this.slope() * this.paneAspect(), this.slope()]);
    this.camera.position.set(...eye);
    this.controls.target.set(...target);
    this.controls.update();
    this.far = far;
    this.allCameras.hidden = far === 0 && where !== "all";
    this.touched = false;
    this.where = where;
    this.tellDrawn();
    this.render();
  }

  /** Where cameras stand all around: the side, in the plane, of the one that sees most. */
  bestSide() {
    const [model] = this.shown;
    const seen = page.images.sides[0].observations;
    const row = Array.from(model.image.keys()).reduce((best, own) => (seen[model.image[own]] > seen[model.image[best]] ? own : best), 0);
    const [x, y] = model.image.length ? model.centre(row) : [0, -1];
    const length = Math.hypot(x, y);
    return length > 0 ? [x / length, y / length] : [0, -1];
  }

  /** Selects an image's camera, or none. */
  choose(image) {
    this.selected = image;
    this.chooser.box.value = image === null ? "" : String(image);
    this.drawCameras();
    this.panel.classList.toggle("left", image !== null && this.isRight(image));
    this.onSelect(image);
  }

  /** Whether an image's camera is in the right half of the canvas, where the panel would hide it. */
  isRight(image) {
    const places = this.panes().flatMap((pane) => this.camerasIn(pane).filter((own) => own.image === image).map((own) => own.places[0][0]));
    return places.length > 0 && Math.max(...places) > this.canvas.clientWidth / 2;
  }

  /** Looks through an image's camera. */
  lookThrough(image) {
    const model = this.shown.find((own) => own.rowOf.has(image));
    if (!model) return;
    const row = model.rowOf.get(image);
    const [centre, forward] = [model.centre(row), model.axis(row, 2)];
    const reach = Math.max(0.5, centre.reduce((sum, c, k) => sum - c * forward[k], 0));
    const back = 2.2 * this.baseSize * this.cameraScale;
    this.camera.position.set(...centre.map((c, k) => c - back * forward[k]));
    this.controls.target.set(...centre.map((c, k) => c + reach * forward[k]));
    this.controls.update();
    this.render();
  }

  save() {
    this.draw();
    this.canvas.toBlob((blob) => {
      const link = el("a", { href: URL.createObjectURL(blob), download: "model.png" });
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }

  listen() {
    let down = null;
    this.canvas.addEventListener("pointerdown", (event) => { down = [event.clientX, event.clientY]; });
    this.canvas.addEventListener("pointerup", (event) => {
      const still = event.pointerType === "touch" ? 10 : 4;
      if (down && Math.hypot(event.clientX - down[0], event.clientY - down[1]) < still) this.choose(this.pick(event));
      down = null;
    });
    this.canvas.addEventListener("pointermove", (event) => {
      const image = event.buttons ? null : this.pick(event);
      showTip(event, image === null ? "" : this.pictures.names[image]);
      this.canvas.style.cursor = image === null ? "" : "pointer";
    });
    this.canvas.addEventListener("pointerleave", (event) => showTip(event, ""));
    this.canvas.addEventListener("keydown", (event) => event.key === "Escape" && this.choose(null));
    onTheme(() => this.render());
  }

  /** The image whose camera is under the pointer, or null. */
  pick(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const pane = this.panes().find((own) => x >= own.x && x <= own.x + own.width && y >= own.y && y <= own.y + own.height);
    return pane ? cameraAt(x, y, this.camerasIn(pane), event.pointerType === "touch" ? 18 : 8) : null;
  }

  /** The cameras in a pane, where they are drawn: image and places on screen. */
  camerasIn(pane) {
    if (this.cameraScale === 0) return [];
    return pane.models.filter((model) => !model.outline).flatMap((model) => Array.from(model.image, (image, row) => {
      const places = [model.centre(row), ...model.corners(row, this.baseSize * this.cameraScale)].map((place) => this.onScreen(place, pane));
      return { image, places };
    })).filter(({ places }) => !places.includes(null));
  }

  /** Where a place of the world is in the canvas, CSS pixels; null behind the eye. */
  onScreen(place, pane) {
    const at = new THREE.Vector3(...place).project(this.camera);
    return at.z > 1 ? null : [pane.x + ((at.x + 1) / 2) * pane.width, pane.y + ((1 - at.y) / 2) * pane.height];
  }

  /** Parts of the canvas, CSS pixels, and the models in each. */
  panes() {
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    if (!this.split) return [{ x: 0, y: 0, width, height, models: [...this.models].reverse() }];
    const [num, across] = [this.shown.length, this.across];
    const own = { width: width / across, height: height / Math.ceil(num / across) };
    const truth = this.models.filter((model) => model.outline);
    return this.shown.map((model, k) => ({ x: (k % across) * own.width, y: Math.floor(k / across) * own.height, ...own, models: [...truth, model] }));
  }

  /** Lays the panes out so that the models are seen largest. */
  arrangePanes(forward, places) {
    const [num, aspect, slope] = [this.shown.length, this.canvas.clientWidth / this.canvas.clientHeight || 1.6, this.slope()];
    const off = (across) => {
      const { eye, target } = framed(forward, places, [(slope * aspect * Math.ceil(num / across)) / across, slope]);
      return Math.hypot(...eye.map((c, k) => c - target[k])) * Math.ceil(num / across);
    };
    this.across = Array.from({ length: num }, (_, k) => k + 1).sort((a, b) => off(a) - off(b))[0];
    this.labels.style.gridTemplateColumns = `repeat(${this.across}, 1fr)`;
  }

  slope() {
    return Math.tan((this.camera.fov * Math.PI) / 360) * (1 - 2 * (this.split ? SPLIT_MARGIN : MARGIN));
  }

  paneAspect() {
    const [pane] = this.panes();
    return pane.width && pane.height ? pane.width / pane.height : 1.6;
  }

  resize() {
    const [width, height] = [this.frame.clientWidth, this.frame.clientHeight];
    if (!width || !height) return;
    this.renderer.setPixelRatio(Math.min(window.devicePixelRatio || 1, 2));
    this.renderer.setSize(width, height, false);
    if (!this.touched && this.selected === null) this.look(this.where);
    this.render();
  }

  render() {
    if (this.waiting || !this.renderer) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  draw() {
    const dark = this.background ? this.background === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    this.frame.classList.toggle("dark", dark);
    if (dark !== this.dark) {
      this.dark = dark;
      this.drawCameras();
    }
    this.renderer.setScissorTest(false);
    this.renderer.setClearColor(new THREE.Color(dark ? "#14171c" : "#f4f5f7"), 1);
    this.renderer.setViewport(0, 0, this.canvas.clientWidth, this.canvas.clientHeight);
    this.renderer.clear();
    this.renderer.setScissorTest(true);
    const distance = this.camera.position.distanceTo(this.controls.target);
    for (const pane of this.panes()) {
      const bottom = this.canvas.clientHeight - pane.y - pane.height;
      this.renderer.setViewport(pane.x, bottom, pane.width, pane.height);
      this.renderer.setScissor(pane.x, bottom, pane.width, pane.height);
      this.camera.aspect = pane.width / pane.height;
      this.camera.updateProjectionMatrix();
      for (const model of pane.models) {
        const uniforms = model.points.material.uniforms;
        uniforms.size.value = this.pointSize * this.renderer.getPixelRatio();
        uniforms.distance.value = distance;
        this.renderer.render(model.scene, this.camera);
      }
    }
  }
}
