"""Which scenes and cameras are drawn: a wall with depth, or bodies on a table.

World of a relief: the wall is z = 0, y down, seen from -z. World of objects: z up, the table at z = 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sfm.datasets.training_pairs.meshes import Mesh, grid_mesh, random_body, relief_mesh, smooth_noise
from sfm.datasets.training_pairs.random_scenes import Backdrop, Body, Camera, Lights, Material, Scene
from sfm.datasets.training_pairs.textures import Texture

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Aims:
    """Where two cameras may be. target: (3,). direction: (3,) from the target to the middle between them. up:
    (3,). axis: (3,) of the rotation between them. half_height: of what is seen at the target, least and most, units."""

    target: Float64
    direction: Float64
    up: Float64
    axis: Float64
    half_height: tuple[float, float]


def random_cameras(
    rng: np.random.Generator,
    aims: Aims,
    *,
    size: tuple[int, int],
    angles_deg: tuple[float, float],
    scale: float,
    roll_deg: float,
) -> tuple[Camera, Camera]:
    """Two cameras rotated about the target by an angle in the range, four in five in its middle."""
    low, high = angles_deg
    inner = (low + 0.18 * (high - low), high - 0.18 * (high - low))
    angle = math.radians(rng.uniform(*(inner if rng.random() < 0.8 else angles_deg)))
    share = rng.uniform(0.3, 0.7)
    field = math.radians(rng.uniform(30, 65))
    half_height = rng.uniform(*aims.half_height)
    zoom = scale ** (0.5 * rng.uniform(-1, 1))
    cameras = []
    for rotation, factor in ((-share * angle, zoom), ((1 - share) * angle, 1 / zoom)):
        direction = Rotation.from_rotvec(rotation * aims.axis).apply(aims.direction)
        focal = size[1] / (2 * math.tan(field / 2)) * rng.uniform(0.95, 1.05)
        distance = 2 * focal * half_height * factor / size[0]
        target = aims.target + 0.12 * half_height * rng.normal(size=3)
        roll = float(np.clip(rng.normal(0, math.radians(roll_deg)), -math.pi / 4, math.pi / 4))
        position = target + distance * direction
        cameras.append(Camera.looking_at(position, target, up=aims.up, roll=roll, focal=focal, size=size))
    return cameras[0], cameras[1]


def _tilted(rng: np.random.Generator, vector: Float64, deviation_deg: float) -> Float64:
    tilted = vector + math.radians(deviation_deg) * rng.normal(size=3)
    return tilted / np.linalg.norm(tilted)


def relief_aims(rng: np.random.Generator) -> Aims:
    """In front of the wall; the cameras are mostly side by side."""
    direction = _tilted(rng, np.array([0.0, 0.0, -1.0]), 10)
    axis = _tilted(rng, np.array([0.0, 1.0, 0.0]) if rng.random() < 0.75 else np.array([1.0, 0.0, 0.0]), 12)
    target = np.append(rng.uniform(-0.2, 0.2, 2), 0.0)
    return Aims(target, direction, np.array([0.0, -1.0, 0.0]), axis, (0.5, 0.85))


def objects_aims(rng: np.random.Generator) -> Aims:
    """Around the table, from a little above it, as round a turntable."""
    azimuth, elevation = rng.uniform(0, 2 * np.pi), math.radians(rng.uniform(8, 42))
    flat = math.cos(elevation)
    direction = np.array([flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)])
    up = np.array([0.0, 0.0, 1.0])
    return Aims(np.array([0.0, 0.0, 0.5]), direction, up, _tilted(rng, up, 10), (0.45, 0.78))


def random_lights(rng: np.random.Generator, up: Float64, towards: Float64, relief: float) -> Lights:
    """A sky of six lights about `up` and one or two soft lights from the side of `towards`."""
    sky = rng.normal(size=(6, 3)) + 0.7 * up
    directions, weights = [sky], [np.full(6, rng.uniform(0.08, 0.2))]
    for _ in range(1 if rng.random() < 0.6 else 2):
        middle = _tilted(rng, up + towards + 0.7 * rng.normal(size=3), 1)
        directions.append(middle + rng.uniform(0.02, 0.12) * rng.normal(size=(3, 3)))
        weights.append(np.full(3, rng.uniform(0.13, 0.4)))
    stacked = np.concatenate(directions)
    stacked /= np.linalg.norm(stacked, axis=1, keepdims=True)
    return Lights(stacked.astype(np.float32), np.concatenate(weights).astype(np.float32), relief)


def _backdrop(rng: np.random.Generator, texture: Texture | None, forward: Float64, up: Float64) -> Backdrop:
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    grey = float(rng.choice([0.0, rng.uniform(0, 40), rng.uniform(0, 220)], p=[0.55, 0.35, 0.1]))
    return Backdrop(texture, grey, rotation, rng.uniform(180, 320))


def _material(rng: np.random.Generator, texture: Texture, mesh: Mesh, *, plaster: bool) -> Material:
    offsets = rng.uniform(0, 2 * min(texture.size), (3, 2)).astype(np.float32)
    extent = np.maximum(np.abs(mesh.vertices).max(axis=0), 0.1)
    if plaster:
        base, contrast = rng.uniform(0.45, 0.85), rng.uniform(0.02, 0.14)
        return Material(texture, base, contrast, rng.uniform(60, 220), offsets, extent)
    return Material(texture, texture.mean / 255, 1.0, rng.uniform(110, 240), offsets, extent)


def relief_scene(rng: np.random.Generator, image: UInt8) -> Scene:
    """An image on a wall with depth, at times with boxes that stand out of it and bodies before it."""
    texture = Texture.of(image)
    height, width = image.shape
    offsets = rng.uniform(0, height, (3, 2)).astype(np.float32)
    offsets[2] = width / 2, height / 2
    material = Material(texture, texture.mean / 255, 1.0, height / 2, offsets)
    bodies = [Body(relief_mesh(rng, image), material, np.eye(3), np.zeros(3))]
    for _ in range(rng.integers(0, 5) if rng.random() < 0.6 else 0):
        mesh = random_body(rng, triangles=500, kind="box" if rng.random() < 0.7 else "blob")
        place = np.append(rng.uniform(-0.8, 0.8, 2), rng.uniform(-0.1, 0.05))
        small = Mesh(mesh.vertices * np.float32(rng.uniform(0.1, 0.35)), mesh.normals, mesh.triangles)
        moved = offsets.copy()
        moved[2] += place[:2] * height / 2  # the image runs on over it
        part = Material(texture, material.base, 1.0, material.density, moved)
        bodies.append(Body(small, part, np.eye(3), place))
    forward, up = np.array([0.0, 0.0, 1.0]), np.array([0.0, -1.0, 0.0])
    lights = random_lights(rng, up, -forward, relief=rng.uniform(0.3, 0.8))
    return Scene(bodies, lights, _backdrop(rng, None, forward, up))


def objects_scene(rng: np.random.Generator, images: list[UInt8], *, plaster: bool, dark: bool) -> Scene:
    """One large body and up to seven small ones round it, on a table or on nothing. images: two."""
    textures = [Texture.of(image) for image in images]
    up = np.array([0.0, 0.0, 1.0])
    table = rng.random() < (0.4 if dark else 0.8)
    count = int(rng.integers(1, 8))
    bodies = [_standing(rng, textures[0], (0.65, 0.85), np.zeros(2), triangles=8000, plaster=plaster)]
    for rotation in rng.uniform(0, 2 * np.pi, count):
        place = rng.uniform(0.65, 1.05) * np.array([math.cos(rotation), math.sin(rotation)])
        triangles = min(1200, 5000 // count)
        bodies.append(_standing(rng, textures[0], (0.15, 0.42), place, triangles=triangles, plaster=plaster))
    if table:
        bodies.append(_table(rng, textures[1], plaster=plaster and rng.random() < 0.7))
    towards = np.append(rng.normal(size=2), 0.0)
    lights = random_lights(rng, up, towards / np.linalg.norm(towards), relief=1.0 if plaster else rng.uniform(0.5, 1))
    forward = np.append(rng.normal(size=2), -0.3)
    return Scene(bodies, lights, _backdrop(rng, None if dark else textures[1], forward, up))


def _standing(
    rng: np.random.Generator,
    texture: Texture,
    radius: tuple[float, float],
    place: Float64,
    *,
    triangles: int,
    plaster: bool,
) -> Body:
    """A random body at `place` (2,) on the table."""
    mesh = random_body(rng, triangles=triangles)
    pose = np.eye(3) if rng.random() < 0.4 else Rotation.random(random_state=rng).as_matrix()
    size = rng.uniform(*radius) / np.abs(mesh.vertices).max()
    vertices = mesh.vertices * np.float32(size)
    lowest = float((vertices @ pose.T.astype(np.float32))[:, 2].min())
    sized = Mesh(vertices, mesh.normals, mesh.triangles)
    return Body(sized, _material(rng, texture, sized, plaster=plaster), pose, np.append(place, -lowest - 0.01))


def _table(rng: np.random.Generator, texture: Texture, *, plaster: bool) -> Body:
    steps = np.linspace(-1, 1, 40) * rng.uniform(1.3, 3.0)
    x, y = np.meshgrid(steps, steps, indexing="ij")
    flat = np.stack([x, y, np.zeros_like(x)], axis=2).astype(np.float32)
    flat[..., 2] = rng.uniform(0, 0.02) * smooth_noise(rng, flat.reshape(-1, 3), (0.4, 2.0)).reshape(x.shape)
    mesh = grid_mesh(flat, outward=np.array([0, 0, 1], np.float32))
    return Body(mesh, replace(_material(rng, texture, mesh, plaster=plaster), extent=None), np.eye(3), np.zeros(3))
