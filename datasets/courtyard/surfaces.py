"""Triangle surfaces of the synthetic scene: boxes, walls with openings, solids of revolution, a draped figure.

World coordinates are metres, z up. Surfaces are tessellated finely enough that ambient occlusion can be kept per
vertex. Texture coordinates `uv` are metres along the surface.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

import numpy as np

from sfm.types import Float64, Int64

Vec3 = tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """A mesh of one material. xyz, normals: (V, 3) f64. uv: (V, 2) f64 m. triangles: (T, 3) i64."""

    xyz: Float64
    normals: Float64
    uv: Float64
    triangles: Int64
    material: str

    def rotated(self, degrees: float, about: tuple[float, float]) -> Surface:
        """The surface rotated about the vertical axis through (x, y)."""
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        pivot = np.array([*about, 0.0])
        return Surface(
            (self.xyz - pivot) @ rotation.T + pivot, self.normals @ rotation.T, self.uv, self.triangles, self.material
        )


def join(surfaces: Sequence[Surface], material: str | None = None) -> Surface:
    """One surface of many; the material is the given one, or the first one's."""
    starts = np.cumsum([0] + [len(s.xyz) for s in surfaces])
    return Surface(
        np.concatenate([s.xyz for s in surfaces]),
        np.concatenate([s.normals for s in surfaces]),
        np.concatenate([s.uv for s in surfaces]),
        np.concatenate([s.triangles + start for s, start in zip(surfaces, starts, strict=False)]),
        material or surfaces[0].material,
    )


def _grid_triangles(rows: int, columns: int) -> Int64:
    """(T, 3) triangles of a grid of vertices stored row by row; counter-clockwise seen along +column x +row."""
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    lower = np.stack([corner, corner + 1, corner + columns + 1], 1)
    upper = np.stack([corner, corner + columns + 1, corner + columns], 1)
    return np.concatenate([lower, upper])


def patch(origin: Vec3, side_u: Vec3, side_v: Vec3, material: str, *, cell: float = 0.12) -> Surface:
    """A parallelogram whose normal is side_u x side_v, in cells of about `cell` metres."""
    start, u, v = (np.array(a, np.float64) for a in (origin, side_u, side_v))
    length_u, length_v = math.hypot(*side_u), math.hypot(*side_v)
    columns, rows = (max(2, math.ceil(length / cell) + 1) for length in (length_u, length_v))
    s, t = np.tile(np.arange(columns) / (columns - 1), rows), np.repeat(np.arange(rows) / (rows - 1), columns)
    xyz = start + s[:, None] * u + t[:, None] * v
    normal = u[[1, 2, 0]] * v[[2, 0, 1]] - u[[2, 0, 1]] * v[[1, 2, 0]]
    normals = np.broadcast_to(normal / math.hypot(*normal), xyz.shape)
    uv = np.stack([xyz @ (u / length_u), xyz @ (v / length_v)], 1)
    return Surface(xyz, normals, uv, _grid_triangles(rows, columns), material)


def box(low: Vec3, high: Vec3, material: str, *, cell: float = 0.12) -> Surface:
    """An axis-aligned box without its underside."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    dx, dy, dz = x1 - x0, y1 - y0, z1 - z0
    faces = (
        ((x0, y0, z0), (dx, 0, 0), (0, 0, dz)),
        ((x1, y0, z0), (0, dy, 0), (0, 0, dz)),
        ((x1, y1, z0), (-dx, 0, 0), (0, 0, dz)),
        ((x0, y1, z0), (0, -dy, 0), (0, 0, dz)),
        ((x0, y0, z1), (dx, 0, 0), (0, dy, 0)),
    )
    return join([patch(origin, u, v, material, cell=cell) for origin, u, v in faces])


def slab(centre: tuple[float, float], size: Vec3, base: float, material: str) -> Surface:
    """A box of size (x, y, z) centred at (x, y) with its underside at height `base`."""
    (x, y), (dx, dy, dz) = centre, size
    return box((x - dx / 2, y - dy / 2, base), (x + dx / 2, y + dy / 2, base + dz), material)


Opening = tuple[float, float, float, float]
"""Left, bottom, right, top in metres along and up a wall."""


def wall(length: float, height: float, openings: Iterable[Opening], material: str, *, depth: float = 0.3) -> Surface:
    """A wall with rectangular openings: x from -length / 2, front face at y = 0 looking to -y, thick to y = depth."""
    openings = tuple(openings)
    xs = sorted({-length / 2, length / 2, *(x for o in openings for x in (o[0], o[2]))})
    zs = sorted({0.0, height, *(z for o in openings for z in (o[1], o[3]))})
    blocks = []
    for (x0, x1), (z0, z1) in product(pairwise(xs), pairwise(zs)):
        x, z = (x0 + x1) / 2, (z0 + z1) / 2
        if not any(o[0] < x < o[2] and o[1] < z < o[3] for o in openings):
            blocks.append(box((x0, 0, z0), (x1, depth, z1), material, cell=0.2))
            blocks.append(patch((x0, depth, z0), (x1 - x0, 0, 0), (0, -depth, 0), material, cell=0.2))  # lintel
    return join(blocks)


def _sheet(xyz: Float64, u: Float64, v: Float64, material: str) -> Surface:
    """A closed sheet from (rows, columns, 3) points whose last column repeats the first; normals are smooth."""
    rows, columns = xyz.shape[:2]
    flat, triangles = xyz.reshape(-1, 3), _grid_triangles(rows, columns)
    a, b, c = (flat[triangles[:, k]] for k in range(3))
    face = np.cross(b - a, c - a)
    normals = np.zeros_like(flat)
    for k in range(3):
        np.add.at(normals, triangles[:, k], face)
    grid = normals.reshape(rows, columns, 3)
    grid[:, [0, -1]] = grid[:, :1] + grid[:, -1:]
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    uv = np.stack(np.broadcast_arrays(u, v), -1).reshape(-1, 2)
    return Surface(flat, normals, uv, triangles, material)


def solid_of_revolution(
    centre: tuple[float, float],
    profile: Sequence[tuple[float, float]],
    material: str,
    *,
    flutes: int = 0,
    segments: int = 54,
) -> Surface:
    """A solid of revolution. profile: (radius, height) from the bottom up; a point given twice makes a sharp edge.

    flutes: number of grooves cut along the shaft, 0 for none; give segments a multiple of it.
    """
    radius, height = np.array(profile, np.float64).T
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    groove = 1 - 0.07 * np.abs(np.sin(flutes * angle / 2)) if flutes else np.ones_like(angle)
    ring = radius[:, None] * groove
    xyz = np.stack(
        [
            centre[0] + ring * np.cos(angle),
            centre[1] + ring * np.sin(angle),
            np.broadcast_to(height[:, None], ring.shape),
        ],
        -1,
    )
    along = np.cumsum(np.hypot(np.diff(radius, prepend=radius[0]), np.diff(height, prepend=height[0])))
    return _sheet(xyz, angle * radius.max(), along[:, None] + height[0], material)


def smooth_profile(knots: Sequence[tuple[float, float]], *, num: int = 36) -> list[tuple[float, float]]:
    """`num` points of a monotone cubic through the (radius, height) knots, heights ascending."""
    from scipy.interpolate import PchipInterpolator

    radius, height = np.array(knots, np.float64).T
    z = np.linspace(height[0], height[-1], num)
    return [(float(r), float(h)) for r, h in zip(PchipInterpolator(height, radius)(z), z, strict=True)]


def tube(path: Sequence[Vec3], radii: Sequence[float], material: str, *, flat: float = 1.0) -> Surface:
    """A round limb along a smooth curve through the path; `flat` below 1 narrows it across the horizontal."""
    from scipy.interpolate import CubicSpline, PchipInterpolator

    knots = np.linspace(0, 1, len(path))
    t = np.linspace(0, 1, 28)
    curve = CubicSpline(knots, np.array(path, np.float64))
    centre, forward = curve(t), curve(t, 1)
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    side = np.cross(forward, [0.31, -0.17, 0.94])
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    across = np.cross(forward, side) * flat
    angle = np.linspace(0, 2 * np.pi, 25)[None, :, None]
    radius = PchipInterpolator(knots, radii)(t)[:, None, None]
    xyz = centre[:, None] + radius * (np.cos(angle) * side[:, None] + np.sin(angle) * across[:, None])
    return _sheet(xyz, 0.1 * angle[..., 0], t[:, None], material)


def _robe(material: str) -> Surface:
    """A draped body from foot (z = 0) to neck, 1.46 m high: folds fade out above the belt, a chest wider than deep."""
    from scipy.interpolate import PchipInterpolator

    knots = [0, 0.03, 0.25, 0.5, 0.66, 0.74, 0.86, 0.93, 0.97, 1]
    radii = [0.37, 0.38, 0.31, 0.27, 0.215, 0.235, 0.265, 0.245, 0.13, 0.07]
    t, angle = np.linspace(0, 1, 110)[:, None], np.linspace(0, 2 * np.pi, 121)[None]
    skirt, blouse = np.clip((0.68 - t) / 0.12, 0, 1), np.clip((t - 0.66) / 0.04, 0, 1) * np.clip((0.95 - t) / 0.1, 0, 1)
    sway = 2.2 * t + 0.5 * np.sin(5 * t)
    folds = (
        0.13 * np.abs(np.sin(4.5 * angle + sway)) + 0.05 * np.sin(13 * angle - 5 * t) + 0.05 * np.sin(3 * angle + 6 * t)
    )
    drape = 0.035 * np.sin(60 * t + 7 * np.sin(angle + 0.6)) + 0.03 * np.sin(6 * angle + 20 * t)
    overfold = 0.14 * np.clip((t - 0.545) / 0.01, 0, 1) * np.clip((0.66 - t) / 0.08, 0, 1)
    ring = PchipInterpolator(knots, radii)(t) * (1 + folds * skirt + drape * blouse + overfold)
    flat = 1 - 0.32 * np.clip((t - 0.4) / 0.25, 0, 1)
    lean = 0.05 * np.sin(np.pi * t)
    xyz = np.stack(np.broadcast_arrays(ring * np.cos(angle) + lean, ring * np.sin(angle) * flat, 1.46 * t), -1)
    return _sheet(xyz, 0.3 * angle, 1.46 * t, material)


def draped_figure(base: float, material: str) -> Surface:
    """A statue on the z axis, 1.75 m high, that looks to -y: robed, an urn on one arm, the other hand at its side."""
    parts = [_robe(material)]
    parts.append(tube([(0, 0.02, 1.38), (0.0, 0.0, 1.46), (-0.01, -0.02, 1.53)], [0.085, 0.06, 0.06], material))
    head = [
        (-0.01, -0.06, 1.47),
        (-0.01, -0.045, 1.53),
        (-0.01, -0.02, 1.62),
        (-0.01, -0.005, 1.70),
        (-0.01, 0.0, 1.745),
    ]
    parts.append(tube(head, [0.008, 0.066, 0.098, 0.085, 0.002], material))
    parts.append(
        tube([(-0.01, -0.115, 1.64), (-0.01, -0.137, 1.6), (-0.01, -0.12, 1.575)], [0.012, 0.021, 0.01], material)
    )
    wreath = [
        (0.1 * np.cos(a) - 0.01, 0.115 * np.sin(a) - 0.01, 1.655 + 0.03 * np.sin(a)) for a in np.linspace(0, 6.2, 14)
    ]
    parts.append(tube(wreath, [0.02, 0.034] * 7, material))
    parts.append(tube([(-0.01, 0.06, 1.66), (-0.01, 0.125, 1.62), (-0.01, 0.12, 1.55)], [0.03, 0.065, 0.01], material))
    left = [(0.2, 0.02, 1.36), (0.31, 0.03, 1.2), (0.31, -0.03, 1.02), (0.2, -0.22, 1.04), (0.1, -0.3, 1.1)]
    parts.append(tube(left, [0.085, 0.085, 0.07, 0.055, 0.04], material))
    right = [(-0.19, 0.02, 1.36), (-0.31, 0.03, 1.18), (-0.36, -0.02, 0.95), (-0.35, -0.1, 0.74), (-0.33, -0.13, 0.66)]
    parts.append(tube(right, [0.085, 0.082, 0.065, 0.05, 0.025], material))
    shawl = [
        (0.3, 0.1, 0.75),
        (0.25, 0.14, 1.2),
        (0.14, 0.0, 1.42),
        (-0.04, -0.2, 1.2),
        (-0.2, -0.22, 0.98),
        (-0.28, 0.02, 0.9),
    ]
    parts.append(tube(shawl, [0.05, 0.07, 0.065, 0.05, 0.055, 0.04], material, flat=0.7))
    urn = [
        (0.0, 0.98),
        (0.05, 0.98),
        (0.04, 1.0),
        (0.1, 1.1),
        (0.105, 1.16),
        (0.05, 1.26),
        (0.05, 1.28),
        (0.075, 1.3),
        (0, 1.3),
    ]
    parts.append(solid_of_revolution((0.14, -0.29), urn, material, segments=32))
    figure = join(parts)
    return replace(figure, xyz=figure.xyz + np.array([0, 0, base]))
