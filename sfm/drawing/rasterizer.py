"""Pictures of points, lines and images in space, by numpy alone: the same on every machine, with no display or GPU.

Everything becomes fragments: discs in the picture with a depth and a colour. Fragments are ranked from far to near;
each pixel of a picture that is larger by `scale` keeps the highest rank that covers it, and shrinking the picture
smooths its edges. Pixels are COLMAP's: (0, 0) is the corner of the first one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfm.drawing.shapes import Segments
from sfm.drawing.viewpoint import View
from sfm.types import Float32, Float64

UInt8 = NDArray[np.uint8]
NEAR = 1e-3  # depth in front of the eye from which on things are drawn
MAX_RADIUS = 12.0  # px: a point right before the eye does not fill the picture
LINES_FIRST = 1 - 2e-3  # of two things at the same depth, lines hide points and images


@dataclass(frozen=True, slots=True, eq=False)
class Fragments:
    """F discs. xy (F, 2) f32 px, depth (F,) f32, radius (F,) f32 px, rgb (F, 3) u8."""

    xy: Float32
    depth: Float32
    radius: Float32
    rgb: UInt8


def point_fragments(view: View, xyz: Float32, rgb: UInt8, size: float) -> Fragments:
    """Points (N, 3) with colours (N, 3) as discs of `size` px across at their median depth, larger where nearer."""
    local = view.local(xyz)
    front = local[:, 2] > NEAR
    local, rgb = local[front], rgb[front]
    xy, depth = view.pixels(local), local[:, 2]
    inside = ((xy > -MAX_RADIUS) & (xy < np.array(view.size) + MAX_RADIUS)).all(axis=1)
    xy, depth, rgb = xy[inside], depth[inside], rgb[inside]
    usual = float(np.median(depth)) if len(depth) else 1.0
    radius = np.clip(size / 2 * usual / depth, 0.25 * size, min(1.5 * size, MAX_RADIUS))
    return Fragments(xy.astype(np.float32), depth.astype(np.float32), radius.astype(np.float32), rgb)


def line_fragments(view: View, lines: Segments, width: float, step: float = 0.5) -> Fragments:
    """Lines of this width in px as rows of discs, `step` px apart."""
    start, end, rgb = _before_the_eye(view.local(lines.start), view.local(lines.end), lines.rgb)
    xy0, xy1 = view.pixels(start), view.pixels(end)
    enter, leave = _inside(xy0, xy1, view.size)
    seen = enter < leave
    xy0, xy1, enter, leave = xy0[seen], xy1[seen], enter[seen], leave[seen]
    length = np.linalg.norm(xy1 - xy0, axis=1) * (leave - enter)
    count = np.ceil(length / step).astype(np.int64) + 1
    row = np.repeat(np.arange(len(count)), count)
    along = (np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)) / np.maximum(count[row] - 1, 1)
    t = (enter[row] + along * (leave - enter)[row])[:, None]
    inverse = 1 / start[seen, 2:][row] * (1 - t) + 1 / end[seen, 2:][row] * t  # inverse depth is linear in the picture
    xy = xy0[row] * (1 - t) + xy1[row] * t
    depth = LINES_FIRST / inverse[:, 0]
    radius = np.full(len(row), width / 2, np.float32)
    return Fragments(xy.astype(np.float32), depth.astype(np.float32), radius, rgb[seen][row])


def _before_the_eye(start: Float64, end: Float64, rgb: UInt8) -> tuple[Float64, Float64, UInt8]:
    """The parts of lines (S, 3) of the view's frame that are in front of it."""
    seen = (start[:, 2] > NEAR) | (end[:, 2] > NEAR)
    start, end, rgb = start[seen], end[seen], rgb[seen]
    span = end[:, 2] - start[:, 2]
    cut = (NEAR - start[:, 2]) / np.where(span == 0, 1.0, span)
    crossing = start + cut[:, None] * (end - start)
    crossing[:, 2] = NEAR
    return np.where(start[:, 2:] > NEAR, start, crossing), np.where(end[:, 2:] > NEAR, end, crossing), rgb


def _inside(xy0: Float64, xy1: Float64, size: tuple[int, int]) -> tuple[Float64, Float64]:
    """From where to where (S,), 0..1, lines are inside the picture; Liang and Barsky, TOG 1984."""
    direction = xy1 - xy0
    still = direction == 0
    bound = np.stack([np.zeros(2), np.array(size, np.float64)])[:, None]  # (2, 1, 2)
    at = (bound - xy0) / np.where(still, 1.0, direction)
    outside = still & ((xy0 < 0) | (xy0 > np.array(size)))
    low, high = np.where(still, -np.inf, at.min(axis=0)), np.where(still, np.inf, at.max(axis=0))
    enter = np.maximum(np.where(outside, np.inf, low).max(axis=1), 0.0)
    return enter, np.minimum(high.min(axis=1), 1.0)


def image_fragments(view: View, corners: Float64, image: UInt8, scale: int) -> Fragments:
    """An image (H, W, 3) on a rectangle in space, corners (4, 3) from the top left one clockwise; every pixel of the
    picture enlarged by `scale` once. Not drawn where a corner is behind the eye."""
    local = view.local(corners)
    if (local[:, 2] <= NEAR).any():
        none = np.zeros(0, np.float32)
        return Fragments(none.reshape(0, 2), none, none, np.zeros((0, 3), np.uint8))
    xy = view.pixels(local)
    low = np.maximum(np.floor(xy.min(axis=0) * scale), 0).astype(np.int64)
    high = np.minimum(np.ceil(xy.max(axis=0) * scale), np.array(view.size) * scale).astype(np.int64)
    columns, rows = np.meshgrid(*(np.arange(a, max(a, b)) for a, b in zip(low, high, strict=True)))
    at = (np.column_stack([columns.ravel(), rows.ravel()]) + 0.5) / scale
    rays = np.column_stack([(at - view.principal) / view.focal, np.ones(len(at))])
    # a ray meets the plane of the image at local[0] + u (right) + v (down) = depth * ray
    right, down = local[1] - local[0], local[3] - local[0]
    u, v, inverse = np.linalg.solve(np.column_stack([right, down, local[0]]), rays.T)
    inverse = np.where(np.abs(inverse) < 1e-12, np.inf, inverse)
    u, v, depth = u / inverse, v / inverse, 1 / inverse
    own = (u >= 0) & (u < 1) & (v >= 0) & (v < 1) & (depth > NEAR)
    rgb = image[(v[own] * image.shape[0]).astype(np.int64), (u[own] * image.shape[1]).astype(np.int64)]
    return Fragments(at[own].astype(np.float32), depth[own].astype(np.float32), np.zeros(own.sum(), np.float32), rgb)


def draw(size: tuple[int, int], parts: Sequence[Fragments], background: tuple[int, int, int], scale: int = 2) -> UInt8:
    """The picture (height, width, 3) of all the fragments; near ones hide far ones. scale: subpixels a pixel a side."""
    width, height = size[0] * scale, size[1] * scale
    xy = np.concatenate([np.zeros((0, 2), np.float32), *(p.xy for p in parts)]) * scale
    depth, radius = (np.concatenate([[], *(getattr(p, name) for p in parts)]) for name in ("depth", "radius"))
    rgb = np.concatenate([np.array([background], np.uint8), *(p.rgb for p in parts)])
    winner = _winners(xy, depth, radius * scale, (width, height))
    picture = rgb[winner].reshape(size[1], scale, size[0], scale, 3)
    total = picture.sum(axis=(1, 3), dtype=np.uint16)
    return np.asarray((total + scale * scale // 2) // (scale * scale), np.uint8)


def _winners(xy: Float32, depth: Float64, radius: Float64, size: tuple[int, int]) -> NDArray[np.int64]:
    """(height, width) one more than the number of the nearest disc on each pixel, 0 where there is none."""
    width, height = size
    edge = int(np.ceil(radius.max(initial=0))) + 1
    pad = 2 * edge  # a disc's middle may be as far outside as it reaches, and then it reaches as far again
    stride = width + 2 * pad
    cell = np.floor(xy).astype(np.int64)
    inside = ((cell >= -edge + 1) & (cell < np.array(size) + edge - 1)).all(axis=1)
    order = np.flatnonzero(inside)
    order = order[np.argsort(-depth[order], kind="stable")].astype(np.int64)
    place, radius = (cell[order, 1] + pad) * stride + cell[order, 0] + pad, radius[order]
    rank = np.arange(1, len(order) + 1, dtype=np.int32)
    best = np.zeros((height + 2 * pad) * stride, np.int32)
    for y in range(-edge + 1, edge):
        for x in range(-edge + 1, edge):
            reach = np.hypot(x, y)
            own = slice(None) if reach == 0 else radius >= reach
            np.maximum.at(best, place[own] + (y * stride + x), rank[own])
    inner = best.reshape(height + 2 * pad, stride)[pad : pad + height, pad : pad + width]
    return np.concatenate([np.zeros(1, np.int64), order + 1])[inner]
