"use strict";
// The 3D view: points and cameras of one model, or of two in one frame, side by side or over each other. z is up.

class SceneView {
  /** parts: models of the page; titles of images and their thumbnails come from `pictures`. onSelect(image or null). */
  constructor(parts, pictures, onSelect) {
    this.pictures = pictures;
    this.onSelect = onSelect;
    this.models = parts.map((part, k) => new Model(part, part.colour || CAMERA_COLOURS[k % 2]));
    this.shown = this.models.filter((model) => !model.outline);
    this.split = this.shown.length > 1;
    this.selected = null;
    this.filter = { maxError: Infinity, minLength: 0 };
    this.canvas = el("canvas", { class: "scene-canvas", tabIndex: 0, ariaLabel: "3D view of points and cameras" });
    this.labels = el("div", { class: "pane-labels" },
      this.shown.map((model, k) => el("span", { class: `pane side-${k}` }, `${model.title} · ${plural(model.total, "point")}`)));
    this.panel = el("div", { class: "panel", hidden: true });
    this.frame = el("div", { class: "scene-frame" }, this.canvas, this.split ? this.labels : null, this.panel);
    this.drawn = el("p", { class: "drawn", id: "drawn" });
    this.element = el("div", { class: "scene" }, this.frame);
    try {
      this.renderer = new THREE.WebGLRenderer({ canvas: this.canvas, antialias: true });
    } catch {
      this.frame.replaceChildren(el("p", { class: "empty" }, "This browser offers no WebGL, which the 3D view needs; the rest of the page works without."));
      return;
    }
    this.renderer.autoClear = false;
    this.camera = new THREE.PerspectiveCamera(45, 1, 0.005, 2000);
    this.camera.up.set(0, 0, 1);
    this.controls = new THREE.OrbitControls(this.camera, this.canvas);
    this.controls.addEventListener("change", () => this.render());
    this.controls.listenToKeyEvents(this.canvas);
    this.build();
    this.element.append(this.controlsBar());
    this.listen();
    this.look("home");
    new ResizeObserver(() => this.resize()).observe(this.frame);
    this.applyFilter();
  }

  // --- what is in the scene

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
          mode: { value: 0 }, flat_: { value: new THREE.Vector3(...rgb(model.colour).map((c) => c / 255)) },
          ramp: { value: Array.from({ length: RAMP }, () => new THREE.Vector3()) },
        },
      }));
      model.points.frustumCulled = false;
      model.lines = new THREE.LineSegments(new THREE.BufferGeometry(),
        new THREE.ShaderMaterial({ vertexShader: LINES_VERTEX, fragmentShader: LINES_FRAGMENT }));
      model.lines.frustumCulled = false;
      model.scene.add(model.points, model.lines);
    }
    this.drawCameras();
  }

  drawCameras() {
    for (const model of this.models) {
      const places = [], colours = [];
      const line = (a, b, colour) => { places.push(...a, ...b); colours.push(...colour, ...colour); };
      const selected = this.selected === null ? undefined : model.rowOf.get(this.selected);
      for (let row = 0; row < model.image.length && this.cameraScale > 0; row++) {
        const colour = rgb(row === selected ? SELECTED : model.colour).map((c) => c / 255);
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
      this.hangPicture(model, selected);
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

  /** The selected camera's image, in its frustum. */
  hangPicture(model, selected) {
    if (model.picture) {
      model.scene.remove(model.picture);
      model.picture.geometry.dispose();
      model.picture.material.uniforms.picture.value.dispose();
      model.picture.material.dispose();
      model.picture = null;
    }
    const url = selected === undefined || model.outline || this.cameraScale === 0 ? undefined : this.pictures.thumbnails[this.selected];
    if (!url) return;
    const [a, b, c, d] = model.corners(selected, 1.6 * this.baseSize * this.cameraScale);
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array([...a, ...d, ...b, ...b, ...d, ...c]), 3));
    geometry.setAttribute("place", new THREE.BufferAttribute(new Float32Array([0, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 0]), 2));
    const picture = new Image();
    const texture = new THREE.Texture(picture);
    picture.onload = () => { texture.needsUpdate = true; this.render(); };
    picture.src = url;
    model.picture = new THREE.Mesh(geometry, new THREE.ShaderMaterial({
      vertexShader: PICTURE_VERTEX, fragmentShader: PICTURE_FRAGMENT, uniforms: { picture: { value: texture } }, side: 2,
    }));
    model.picture.frustumCulled = false;
    model.scene.add(model.picture);
  }

  // --- what the reader sets

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
      this.resize();
    }) : null;
    const views = el("div", { class: "buttons" },
      button("Reset view", () => { this.choose(null); this.look("home"); }), button("All cameras", () => this.look("all")), button("Top", () => this.look("top")),
      button("Front", () => this.look("front")), button("Save picture", () => this.save()));
    this.colourBy(0);
    return el("div", { class: "scene-controls" },
      el("div", { class: "fields" }, layout, colour, error, length, size, cameras, background),
      el("div", { class: "scene-foot" }, views, this.legendPlace, this.drawn));
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
    this.drawn.textContent = `${count(left)} of ${plural(all, "point")} drawn`;
    this.drawn.dataset.drawn = left;
    this.render();
  }

  /** Puts the eye somewhere: "home", "all", "top", "front". */
  look(where) {
    const centres = this.shown.flatMap((model) => Array.from(model.image, (_, row) => model.centre(row)));
    const mean = [0, 1].map((k) => centres.reduce((sum, c) => sum + c[k], 0) / Math.max(centres.length, 1));
    const reach = centres.reduce((sum, c) => sum + Math.hypot(c[0], c[1]), 0) / Math.max(centres.length, 1);
    const length = Math.hypot(...mean);
    const front = length > 0.25 * reach ? [mean[0] / length, mean[1] / length] : this.bestSide();
    const far = this.fitDistance(centres, where === "all");
    const high = [front[0], front[1], 0.42];
    const direction = { home: high, all: high, top: [0.001 * front[0], 0.001 * front[1], 1], front: [...front, 0] }[where];
    const norm = Math.hypot(...direction);
    this.camera.position.set(...direction.map((c) => (far * c) / norm));
    this.controls.target.set(0, 0, 0);
    this.controls.update();
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

  /** How far the eye must be to see most points, and the cameras where they are not far off or are asked for. */
  fitDistance(centres, all) {
    const radii = this.shown.flatMap((model) => {
      const step = Math.max(1, Math.floor(model.error.length / 5000));
      return Array.from({ length: Math.floor(model.error.length / step) }, (_, k) => Math.hypot(...model.xyz.subarray(3 * k * step, 3 * k * step + 3)));
    }).sort((a, b) => a - b);
    const most = radii.length ? radii[Math.floor(0.9 * (radii.length - 1))] : 1;
    const cameras = centres.map((c) => Math.hypot(...c)).sort((a, b) => a - b);
    const outer = cameras.length ? cameras[Math.floor(0.8 * (cameras.length - 1))] : 0;
    const narrow = Math.max(1, 1 / this.paneAspect());
    const reach = all ? 1.25 * Math.max(most, ...cameras) : Math.max(most, outer < 4 * most ? 0.86 * outer : 0);
    return (narrow * reach) / Math.tan((this.camera.fov * Math.PI) / 360);
  }

  /** Selects an image's camera, or none. */
  choose(image) {
    this.selected = image;
    this.drawCameras();
    this.onSelect(image);
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

  // --- the pointer

  listen() {
    let down = null;
    this.canvas.addEventListener("pointerdown", (event) => { down = [event.clientX, event.clientY]; });
    this.canvas.addEventListener("pointerup", (event) => {
      if (down && Math.hypot(event.clientX - down[0], event.clientY - down[1]) < 4) this.choose(this.pick(event));
      down = null;
    });
    this.canvas.addEventListener("pointermove", (event) => {
      const image = event.buttons ? null : this.pick(event);
      showTip(event, image === null ? "" : this.pictures.names[image]);
      this.canvas.style.cursor = image === null ? "" : "pointer";
    });
    this.canvas.addEventListener("pointerleave", (event) => showTip(event, ""));
    onTheme(() => this.render());
  }

  /** The image whose camera is under the pointer, or null. */
  pick(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let best = 8, found = null;
    for (const pane of this.panes()) {
      if (x < pane.x || x > pane.x + pane.width || y < pane.y || y > pane.y + pane.height) continue;
      for (const model of pane.models) {
        for (let row = 0; row < model.image.length && this.cameraScale > 0; row++) {
          const places = [model.centre(row), ...model.corners(row, this.baseSize * this.cameraScale)].map((place) => this.onScreen(place, pane));
          if (places.includes(null)) continue;
          const off = distanceToOutline(x, y, places);
          if (off < best) [best, found] = [off, model.image[row]];
        }
      }
    }
    return found;
  }

  /** Where a place of the world is in the canvas, CSS pixels; null behind the eye. */
  onScreen(place, pane) {
    const at = new THREE.Vector3(...place).project(this.camera);
    return at.z > 1 ? null : [pane.x + ((at.x + 1) / 2) * pane.width, pane.y + ((1 - at.y) / 2) * pane.height];
  }

  // --- drawing

  /** Parts of the canvas, CSS pixels, and the models in each. */
  panes() {
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    if (!this.split) return [{ x: 0, y: 0, width, height, models: this.models }];
    const beside = width >= height;
    const own = { width: beside ? width / 2 : width, height: beside ? height : height / 2 };
    const truth = this.models.filter((model) => model.outline);
    return this.shown.map((model, k) => ({ x: beside ? k * own.width : 0, y: beside ? 0 : k * own.height, ...own, models: [model, ...truth] }));
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
    this.labels.classList.toggle("stacked", width < height);
    if (!this.fitted) {
      this.fitted = true;
      this.look("home");
    }
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
