"use strict";
// Where the eye must be to see everything, and which camera is under the pointer.

const FAR_POINTS = 0.97;  // part of the points that a view of the whole shows at least
const FAR_CAMERAS = 6;  // cameras further off than this many radii of the points are left out of it

function dot(a, b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

function unit(a) {
  const length = Math.hypot(...a) || 1;
  return a.map((c) => c / length);
}

function cross(a, b) {
  return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
}

/** The nearest eye and its target, looking along `forward`, from which all the places are inside. slopes: of the side
    planes to the right and up. A plane touches the outermost place; opposite planes meet where the eye is. */
function framed(forward, places, slopes) {
  const right = unit(cross(forward, [0, 0, 1]));
  const axes = [right, cross(right, forward)];
  let nearest = Infinity, depth = Infinity;
  const middle = axes.map((axis, k) => {
    let [plus, minus] = [-Infinity, -Infinity];
    for (const place of places) {
      const [across, along] = [dot(axis, place), dot(forward, place)];
      plus = Math.max(plus, across - slopes[k] * along);
      minus = Math.max(minus, -across - slopes[k] * along);
      nearest = Math.min(nearest, along);
    }
    depth = Math.min(depth, -(plus + minus) / (2 * slopes[k]));
    return (plus - minus) / 2;
  });
  depth = Math.min(depth, nearest - 0.05);
  const eye = [0, 1, 2].map((k) => middle[0] * axes[0][k] + middle[1] * axes[1][k] + depth * forward[k]);
  const reach = Math.max(0.1, -depth);
  return { eye, target: eye.map((c, k) => c + reach * forward[k]) };
}

/** What a view of the whole should show of models: most points, and the cameras around them, whole; `far`: the number of
    cameras that are left out. all: no camera is. */
function landmarks(models, size, all) {
  const places = [];
  let far = 0;
  for (const model of models) {
    const step = Math.max(1, Math.floor(model.error.length / 4000));
    const own = [];
    for (let k = 0; k < model.error.length; k += step) own.push(Array.from(model.xyz.subarray(3 * k, 3 * k + 3)));
    const radii = own.map((place) => Math.hypot(...place)).sort((a, b) => a - b);
    const radius = radii.length ? radii[Math.floor(FAR_POINTS * (radii.length - 1))] : Infinity;
    places.push(...own.filter((place) => Math.hypot(...place) <= radius));
    for (let row = 0; row < model.image.length; row++) {
      const centre = model.centre(row);
      if (!all && Math.hypot(...centre) > FAR_CAMERAS * radius) far++;
      else places.push(centre, ...model.corners(row, size));
    }
  }
  return { places: places.length ? places : [[0, 0, 0]], far };
}

/** How far (x, y) is from the lines of a camera: its centre and its four corners, joined. */
function distanceToOutline(x, y, [centre, ...corners]) {
  const lines = corners.flatMap((corner, k) => [[centre, corner], [corner, corners[(k + 1) % 4]]]);
  return Math.min(...lines.map(([a, b]) => {
    const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
    const along = Math.min(1, Math.max(0, ((x - a[0]) * dx + (y - a[1]) * dy) / (dx * dx + dy * dy || 1)));
    return Math.hypot(a[0] + along * dx - x, a[1] + along * dy - y);
  }));
}

function triangleArea([a, b, c]) {
  return Math.abs((b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])) / 2;
}

/** The area on screen of a camera in which (x, y) is, px; 0 where it is outside. */
function areaAround(x, y, [centre, ...corners]) {
  const triangles = [[corners[0], corners[1], corners[2]], [corners[0], corners[2], corners[3]],
    ...corners.map((corner, k) => [centre, corner, corners[(k + 1) % 4]])];
  const side = ([ax, ay], [bx, by]) => Math.sign((bx - ax) * (y - ay) - (by - ay) * (x - ax));
  const inside = triangles.some((t) => {
    const signs = t.map((a, k) => side(a, t[(k + 1) % 3]));
    return !(signs.includes(1) && signs.includes(-1));
  });
  return inside ? Math.max(1, ...triangles.map(triangleArea)) : 0;
}

/** Of cameras on screen, [{image, places}], the one that (x, y) means, or null: on its lines, else inside it, the smallest
    first, else nearest within `near` px. */
function cameraAt(x, y, cameras, near) {
  let best = Infinity, found = null;
  for (const { image, places } of cameras) {
    const off = distanceToOutline(x, y, places);
    const area = areaAround(x, y, places);
    const rank = off <= 2.5 ? off : area > 0 ? 10 + area : off <= near ? 1e9 + off : Infinity;
    if (rank < best) [best, found] = [rank, image];
  }
  return found;
}
