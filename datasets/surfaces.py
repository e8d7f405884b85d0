"""Triangle surfaces of the synthetic scene: boxes, walls with openings, solids of revolution, a draped figure.

World coordinates are metres, z up. Surfaces are tessellated finely enough that ambient occlusion can be kept per
vertex. Texture coordinates `uv` are metres along the surface.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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

    def turned(self, degrees: float, about: tuple[float, float]) -> Surface:
        """The surface turned about the vertical axis through (x, y)."""
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
    start, u, v = np.array(origin), np.array(side_u), np.array(side_v)
    length_u, length_v = np.linalg.norm(u), np.linalg.norm(v)
    s, t = (np.linspace(0, 1, max(2, int(np.ceil(length / cell)) + 1)) for length in (length_u, length_v))
    t_grid, s_grid = (g.ravel()[:, None] for g in np.meshgrid(t, s, indexing="ij"))
    xyz = start + s_grid * u + t_grid * v
    normal = np.cross(u, v) / np.linalg.norm(np.cross(u, v))
    uv = np.stack([xyz @ (u / length_u), xyz @ (v / length_v)], 1)
    return Surface(xyz, np.broadcast_to(normal, xyz.shape), uv, _grid_triangles(len(t), len(s)), material)


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
    """A box of size (x, y, z) centred at (x, y) that stands at height `base`."""
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


def turned_solid(
    centre: tuple[float, float],
    profile: Sequence[tuple[float, float]],
    material: str,
    *,
    flutes: int = 0,
    segments: int = 72,
) -> Surface:
    """A solid of revolution. profile: (radius, height) from the bottom up; a point given twice makes a sharp edge.

    flutes: number of grooves cut along the shaft, 0 for none; give segments a multiple of it.
    """
    radius, height = np.array(profile, np.float64).T
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    groove = 1 - 0.07 * np.abs(np.sin(flutes * angle / 2)) if flutes else np.ones_like(angle)
    ring = radius[:, None] * groove
    xyz = np.stack(
        [centre[0] + ring * np.cos(angle), centre[1] + ring * np.sin(angle), np.broadcast_to(height[:, None], ring.shape)],
        -1,
    )
    along = np.cumsum(np.hypot(np.diff(radius, prepend=radius[0]), np.diff(height, prepend=height[0])))
    return _sheet(xyz, angle * radius.max(), along[:, None] + height[0], material)


def smooth_profile(knots: Sequence[tuple[float, float]], *, num: int = 60) -> list[tuple[float, float]]:
    """`num` points of a monotone cubic through the (radius, height) knots, heights ascending."""
    from scipy.interpolate import PchipInterpolator

    radius, height = np.array(knots, np.float64).T
    z = np.linspace(height[0], height[-1], num)
    return [(float(r), float(h)) for r, h in zip(PchipInterpolator(height, radius)(z), z, strict=True)]


def draped_figure(base: float, material: str, *, height: float = 1.75) -> Surface:
    """A statue on the z axis: a robe with folds that fade towards the shoulders, a neck and a bowed head."""
    t = np.linspace(0, 1, 150)[:, None]  # (rows, 1), foot to crown
    angle = np.linspace(0, 2 * np.pi, 161)[None]
    knots = [0, 0.05, 0.3, 0.52, 0.68, 0.785, 0.825, 0.85, 0.885, 0.93, 0.97, 0.992, 1]
    radii = [0.36, 0.37, 0.29, 0.22, 0.265, 0.25, 0.12, 0.075, 0.115, 0.135, 0.11, 0.05, 0.001]
    from scipy.interpolate import PchipInterpolator

    radius = PchipInterpolator(knots, radii)(t)
    robe = np.clip((0.8 - t) / 0.25, 0, 1)
    sway = 2.5 * t + 0.6 * np.sin(5 * t)
    folds = 0.10 * np.abs(np.sin(4.5 * angle + sway)) + 0.05 * np.sin(13 * angle - 7 * t) + 0.05 * np.sin(3 * angle + 9 * t)
    belt = 0.10 * np.exp(-(((t - 0.53) / 0.018) ** 2))
    arm = 0.35 * np.exp(-(((t - 0.62) / 0.07) ** 2)) * (np.exp(4 * (np.cos(angle + 0.6) - 1)) + np.exp(5 * (np.cos(angle + 2.4) - 1)))
    face = 0.12 * np.exp(-(((t - 0.915) / 0.018) ** 2)) * np.exp(18 * (np.cos(angle + np.pi / 2) - 1))
    hair = np.clip((t - 0.87) / 0.03, 0, 1) * 0.05 * np.sin(11 * angle + 60 * t) * np.clip(0.3 + np.sin(angle), 0, 1)
    ring = radius * (1 + folds * robe + belt + arm + face + hair)
    flat = 1 - 0.28 * np.clip((t - 0.35) / 0.25, 0, 1) * np.clip((0.84 - t) / 0.05, 0, 1)  # a chest is wider than deep
    lean = 0.06 * np.sin(np.pi * t) - 0.05 * np.clip((t - 0.82) / 0.1, 0, 1)
    xyz = np.stack(
        np.broadcast_arrays(ring * np.cos(angle) + lean, ring * np.sin(angle) * flat + lean, base + height * t), -1
    )
    return _sheet(xyz, 0.3 * angle, base + height * t, material)
