"use strict";
// A model's arrays, how large its cameras are drawn, and the shaders for points, lines and images.

const SELECTED = "#ff4fa3";
const RAMP = 9;

const POINTS_VERTEX = `
  uniform float size, maxError, minLength, distance, top;
  uniform int mode;
  uniform vec3 ramp[${RAMP}], flat_;
  attribute vec3 colour;
  attribute float error, seen;
  varying vec3 shade;
  vec3 scale(float t) {
    float at = clamp(t, 0.0, 1.0) * ${RAMP - 1}.0;
    int k = int(min(floor(at), ${RAMP - 2}.0));
    return mix(ramp[k], ramp[k + 1], at - float(k));
  }
  void main() {
    vec4 place = modelViewMatrix * vec4(position, 1.0);
    gl_Position = error > maxError || seen < minLength ? vec4(2.0, 2.0, 2.0, 1.0) : projectionMatrix * place;
    gl_PointSize = size * clamp(distance / max(-place.z, 1e-3), 0.5, 4.0);
    shade = mode == 0 ? colour : mode == 1 ? scale(error / top) : mode == 2 ? scale((seen - 2.0) / top) : flat_;
  }`;
const POINTS_FRAGMENT = `
  varying vec3 shade;
  void main() {
    vec2 off = gl_PointCoord - 0.5;
    if (dot(off, off) > 0.25) discard;
    gl_FragColor = vec4(shade, 1.0);
  }`;
const LINES_VERTEX = `
  attribute vec3 colour;
  varying vec3 shade;
  void main() { shade = colour; gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0); }`;
const LINES_FRAGMENT = `varying vec3 shade; void main() { gl_FragColor = vec4(shade, 1.0); }`;
const PICTURE_VERTEX = `
  attribute vec2 place;
  varying vec2 at;
  void main() { at = place; gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0); }`;
const PICTURE_FRAGMENT = `uniform sampler2D picture; varying vec2 at; void main() { gl_FragColor = vec4(texture2D(picture, at).rgb, 1.0); }`;

/** One model's arrays, decoded. */
class Model {
  constructor(part, k) {
    this.title = part.title;
    this.total = part.total;
    this.colours = Object.fromEntries(Object.entries(MODEL_COLOURS).map(([theme, all]) => [theme, part.colour || all[k % all.length]]));
    this.outline = Boolean(part.outline);
    for (const name of ["xyz", "rgb", "error", "length"]) this[name] = unpack(part[name]);
    for (const name of ["image", "pose", "size", "focal", "principal"]) this[name] = unpack(part.cameras[name]);
    this.rowOf = new Map(Array.from(this.image, (image, row) => [image, row]));
  }

  centre(row) {
    return [3, 7, 11].map((k) => this.pose[12 * row + k]);
  }

  /** A camera's axis in the world: 0 right, 1 down, 2 forward. */
  axis(row, k) {
    return [0, 4, 8].map((r) => this.pose[12 * row + r + k]);
  }

  /** The corners of a camera's image in the world, in a plane in front of it; half the diagonal is `size`. */
  corners(row, size) {
    const [w, h] = this.size.subarray(2 * row, 2 * row + 2);
    const [f, g] = this.focal.subarray(2 * row, 2 * row + 2);
    const [cx, cy] = this.principal.subarray(2 * row, 2 * row + 2);
    const depth = size / (Math.hypot(w / f, h / g) / 2);
    const [x, y, z] = [0, 1, 2].map((k) => this.axis(row, k));
    return [[0, 0], [w, 0], [w, h], [0, h]].map(([u, v]) => {
      const [a, b] = [(depth * (u - cx)) / f, (depth * (v - cy)) / g];
      return this.centre(row).map((c, k) => c + a * x[k] + b * y[k] + depth * z[k]);
    });
  }
}

/** How large to draw a model's cameras: small beside their distances from each other and from the points. */
function symbolSize(model) {
  const rows = Array.from(model.image.keys());
  const distance = median(rows.map((row) => Math.hypot(...model.centre(row))));
  const slope = median(rows.map((row) => Math.hypot(model.size[2 * row] / model.focal[2 * row], model.size[2 * row + 1] / model.focal[2 * row + 1]) / 2));
  return Math.max(0.015, Math.min(0.35 * spacing(model) || Infinity, 0.12 * distance, 0.25 * distance * slope));
}

function median(values) {
  return values.sort((a, b) => a - b)[Math.floor(values.length / 2)] || 0;
}

/** Median distance of a camera to the one nearest to it. */
function spacing(model) {
  const centres = Array.from(model.image, (_, row) => model.centre(row)).slice(0, 400);
  const nearest = centres.map((a, i) => centres.reduce((best, b, j) =>
    (i === j ? best : Math.min(best, Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]))), Infinity));
  return median(nearest.filter(Number.isFinite));
}

/** The selected camera's image, in its frustum. */
function hangPicture(view, model, selected) {
  if (model.picture) {
    model.scene.remove(model.picture);
    model.picture.geometry.dispose();
    model.picture.material.uniforms.picture.value.dispose();
    model.picture.material.dispose();
    model.picture = null;
  }
  const url = selected === undefined || model.outline || view.cameraScale === 0 ? undefined : view.pictures.thumbnails[view.selected];
  if (!url) return;
  const [a, b, c, d] = model.corners(selected, 1.6 * view.baseSize * view.cameraScale);
  const geometry = new THREE.BufferGeometry();
  geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array([...a, ...d, ...b, ...b, ...d, ...c]), 3));
  geometry.setAttribute("place", new THREE.BufferAttribute(new Float32Array([0, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 0]), 2));
  const picture = new Image();
  const texture = new THREE.Texture(picture);
  picture.onload = () => { texture.needsUpdate = true; view.render(); };
  picture.src = url;
  model.picture = new THREE.Mesh(geometry, new THREE.ShaderMaterial({
    vertexShader: PICTURE_VERTEX, fragmentShader: PICTURE_FRAGMENT, uniforms: { picture: { value: texture } }, side: 2,
  }));
  model.picture.frustumCulled = false;
  model.scene.add(model.picture);
}
