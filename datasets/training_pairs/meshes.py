"""Random surfaces for synthetic scenes: reliefs, bumpy blobs, solids of revolution, tori and boxes.

Every surface is one grid of points, open or closed round in a direction, so normals come from the grid's own
tangents. Bodies have a size of about one unit; z is up for bodies; a relief is in z = 0, y down, seen from -z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """vertices, normals (unit, outward): (V, 3) f32. triangles: (T, 3) u32."""

    vertices: Float32
    normals: Float32
    triangles: NDArray[np.uint32]

    def moved(self, rotation: Float64, translation: Float64) -> Mesh:
        """The mesh in world coordinates: x_world = rotation x + translation."""
        rotation_f32 = rotation.astype(np.float32)
        vertices = self.vertices @ rotation_f32.T + translation.astype(np.float32)
        return Mesh(vertices, self.normals @ rotation_f32.T, self.triangles)

    @classmethod
    def joined(cls, meshes: list[Mesh]) -> Mesh:
        """One mesh of several, in order."""
        starts = np.concatenate([[0], np.cumsum([len(m.vertices) for m in meshes])])
        return cls(
            np.concatenate([m.vertices for m in meshes]),
            np.concatenate([m.normals for m in meshes]),
            np.concatenate([m.triangles + np.uint32(s) for m, s in zip(meshes, starts[:-1], strict=True)]),
        )


def smooth_noise(rng: np.random.Generator, xyz: Float32, wavelengths: tuple[float, float], waves: int = 16) -> Float32:
    """A random smooth function of place, mean 0 and deviation about 1: (N,) f32 at xyz (N, 3).

    A sum of plane waves whose amplitude is proportional to their wavelength, as in natural surfaces.
    """
    lengths = np.exp(rng.uniform(math.log(wavelengths[0]), math.log(wavelengths[1]), waves))
    directions = rng.normal(size=(waves, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    vectors = (2 * np.pi * directions / lengths[:, None]).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, waves).astype(np.float32)
    amplitudes = (lengths * math.sqrt(2) / np.sqrt(np.sum(lengths**2))).astype(np.float32)
    return np.asarray(np.sin(xyz @ vectors.T + phases) @ amplitudes)


def grid_mesh(points: Float32, *, wraps: tuple[bool, bool] = (False, False), outward: Float32 | None = None) -> Mesh:
    """The mesh of a grid of points (R, C, 3). wraps: rows, columns close round. outward: (3,) side of the normals;
    None for a closed surface, whose normals point away from its inside."""
    rows, cols = points.shape[:2]
    normals = np.cross(_tangent(points, 1, wraps[1]), _tangent(points, 0, wraps[0]))
    normals /= np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-12)
    away = points - points.mean(axis=(0, 1)) if outward is None else outward
    if np.sum(normals * away) < 0:
        normals = -normals
    r, c = np.meshgrid(np.arange(rows - (not wraps[0])), np.arange(cols - (not wraps[1])), indexing="ij")
    r1, c1 = (r + 1) % rows, (c + 1) % cols
    a, b, d, e = (np.ravel(i * cols + j) for i, j in ((r, c), (r, c1), (r1, c), (r1, c1)))
    triangles = np.concatenate([np.stack([a, b, d], axis=1), np.stack([b, e, d], axis=1)]).astype(np.uint32)
    return Mesh(points.reshape(-1, 3).astype(np.float32), normals.reshape(-1, 3).astype(np.float32), triangles)


def _tangent(points: Float32, axis: int, wraps: bool) -> Float32:
    if wraps:
        return np.asarray(np.roll(points, -1, axis) - np.roll(points, 1, axis))
    return np.asarray(np.gradient(points, axis=axis))


def relief_mesh(rng: np.random.Generator, image: NDArray[np.uint8], *, columns: int = 84) -> Mesh:
    """A wall textured with the image: half its height is one unit; heights (towards -z) up to about 0.35."""
    height, width = image.shape
    rows = max(2, round(columns * height / width))
    aspect = width / height
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-aspect, aspect, columns), indexing="ij")
    flat = np.stack([x, y, np.zeros_like(x)], axis=2).astype(np.float32)
    heights = rng.choice([0.02, 0.05, 0.1]) * smooth_noise(rng, flat.reshape(-1, 3), (0.25, 2.5)).reshape(rows, columns)
    if rng.random() < 0.5:
        heights = heights + _steps(rng, x, y)
    if rng.random() < 0.4:
        coarse = ndimage.zoom(image[:: height // rows, :: width // columns], 1.0)[:rows, :columns]
        grown = np.pad(coarse, ((0, rows - coarse.shape[0]), (0, columns - coarse.shape[1])), mode="edge")
        heights = heights + rng.uniform(-0.3, 0.3) * ndimage.gaussian_filter(grown / np.float32(255), rng.uniform(2, 6))
    flat[..., 2] = -heights
    return grid_mesh(flat, outward=np.array([0, 0, -1], np.float32))


def _steps(rng: np.random.Generator, x: Float64, y: Float64) -> Float64:
    """Rectangles that stand out of the wall or back from it, as windows and ledges do."""
    heights = np.zeros_like(x)
    for _ in range(rng.integers(2, 12)):
        centre, half = rng.uniform(-1, 1, 2) * (x.max(), 1), rng.uniform(0.06, 0.45, 2)
        inside = (np.abs(x - centre[0]) < half[0]) & (np.abs(y - centre[1]) < half[1])
        heights = np.where(inside, heights + rng.uniform(-0.18, 0.18), heights)
    return np.clip(heights, -0.25, 0.3)


def random_body(rng: np.random.Generator, *, triangles: int, kind: str | None = None) -> Mesh:
    """A closed surface of about unit radius. kind: blob, lathe, torus or box; None draws one."""
    kind = kind or str(rng.choice(["blob", "lathe", "torus", "box"], p=[0.45, 0.25, 0.1, 0.2]))
    if kind == "box":
        return _box(rng, triangles)
    columns = max(8, round(math.sqrt(triangles)))
    rows = max(6, triangles // (2 * columns))
    around = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    if kind == "torus":
        tube = rng.uniform(0.2, 0.45)
        angle = np.linspace(0, 2 * np.pi, rows, endpoint=False)
        radius, z, wraps = 1 - tube + tube * np.cos(angle), tube * np.sin(angle), (True, True)
    else:
        angle = np.linspace(1e-3, np.pi - 1e-3, rows)
        radius, z = (np.sin(angle), np.cos(angle)) if kind == "blob" else _profile(rng, rows)
        wraps = (False, True)
    ring = np.stack([np.cos(around), np.sin(around)], axis=1)
    points = np.empty((rows, columns, 3), np.float32)
    points[..., :2], points[..., 2] = radius[:, None, None] * ring, z[:, None]
    bumps = _bumps(rng, points, kind)
    stretch = rng.uniform(0.7, 1.0, 3) if kind == "blob" else np.ones(3)
    return grid_mesh((points * bumps[..., None] * stretch).astype(np.float32), wraps=wraps)


def _bumps(rng: np.random.Generator, points: Float32, kind: str) -> Float32:
    """Factor on every point's distance from the middle: forms at two sizes, about 1."""
    place = points.reshape(-1, 3)
    large = rng.uniform(0.03, 0.2) if kind == "blob" else rng.uniform(0.0, 0.06)
    factor = 1 + large * smooth_noise(rng, place, (0.7, 2.0), 10)
    small = smooth_noise(rng, place, (0.12, 0.6))
    if rng.random() < 0.5:
        small = 1 - 2 * np.abs(small)  # ridges and creases
    return np.maximum(factor + rng.uniform(0.01, 0.05) * small, 0.3).reshape(points.shape[:2]).astype(np.float32)


def _profile(rng: np.random.Generator, rows: int) -> tuple[Float64, Float64]:
    """Profile of a solid of revolution: radius and height (rows,), closed by flat ends."""
    caps = max(2, rows // 8)
    z = np.concatenate([np.full(caps, 1.0), np.linspace(1, -1, rows - 2 * caps), np.full(caps, -1.0)])
    knots = rng.uniform(0.35, 0.75, rng.integers(3, 9))
    side = np.interp(np.linspace(0, len(knots) - 1, rows - 2 * caps), np.arange(len(knots)), knots)
    if rng.random() < 0.6:
        side = ndimage.gaussian_filter1d(side, rows / 30)
    closing = np.linspace(1e-3, 1, caps)
    return np.concatenate([side[0] * closing, side, side[-1] * closing[::-1]]), z


def _box(rng: np.random.Generator, triangles: int) -> Mesh:
    """Six flat faces, each a grid, of random sides."""
    half = rng.uniform(0.35, 0.8, 3)
    steps = max(2, round(math.sqrt(triangles / 12)) + 1)
    a, b = np.meshgrid(np.linspace(-1, 1, steps), np.linspace(-1, 1, steps), indexing="ij")
    faces = []
    for axis in range(3):
        for side in (-1.0, 1.0):
            points = np.empty((steps, steps, 3), np.float32)
            points[..., axis], points[..., axis - 1], points[..., axis - 2] = side, a, b
            outward = np.zeros(3, np.float32)
            outward[axis] = side
            faces.append(grid_mesh((points * half).astype(np.float32), outward=outward))
    return Mesh.joined(faces)
