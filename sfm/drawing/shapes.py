"""What is drawn besides points: cameras' frustums, the ground's grid, the axes. Segments and corners, no pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfm.drawing.scene import Cameras, Scene
from sfm.types import Float64

UInt8 = NDArray[np.uint8]
AXES = (
    (213, 94, 0),
    (0, 158, 115),
    (0, 114, 178),
)  # x, y, z; Okabe and Ito's colours for the colour-blind


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """S straight lines. start, end (S, 3) f64 in the world; rgb (S, 3) u8."""

    start: Float64
    end: Float64
    rgb: UInt8


def segments(start: Float64, end: Float64, rgb: tuple[int, int, int] | UInt8) -> Segments:
    """Lines of one colour, or each of its own (S, 3)."""
    return Segments(start, end, np.broadcast_to(np.asarray(rgb, np.uint8), (len(start), 3)))


def frustum_size(scene: Scene) -> float:
    """Depth of the frustums: a part of the usual distance of neighbouring cameras, within bounds of the scene's."""
    centres = scene.cameras.centres[:2000]
    if len(centres) < 2:
        return 0.3
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=2) + np.diag(np.full(len(centres), np.inf))
    return float(np.clip(0.4 * np.median(apart.min(axis=1)), 0.03, 0.35))


def image_corners(cameras: Cameras, depth: float) -> Float64:
    """(C, 4, 3) corners of each camera's image, at this depth in front of it, from the top left one clockwise."""
    unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
    xy = (unit * cameras.size[:, None] - cameras.principal[:, None]) / cameras.focal[:, None]  # (C, 4, 2)
    local = depth * np.concatenate([xy, np.ones((*xy.shape[:2], 1))], axis=2)
    rotation, translation = cameras.cam_from_world[:, :, :3], cameras.cam_from_world[:, :, 3]
    return np.asarray(np.einsum("cji,ckj->cki", rotation, local - translation[:, None]))


def frustum_lines(cameras: Cameras, depth: float, rgb: tuple[int, int, int] | UInt8) -> Segments:
    """Eight lines a camera, camera by camera: from its centre to the image's corners, and around the image."""
    corners = image_corners(cameras, depth)
    centre = np.broadcast_to(cameras.centres[:, None], corners.shape)
    start, end = np.concatenate([centre, corners], axis=1), np.concatenate([corners, np.roll(corners, -1, axis=1)], 1)
    colours = np.repeat(np.broadcast_to(np.asarray(rgb, np.uint8), (len(corners), 3)), 8, axis=0)
    return Segments(start.reshape(-1, 3), end.reshape(-1, 3), colours)


def floor_height(scene: Scene) -> float:
    """z under nearly all of the points."""
    return float(np.quantile(scene.points.xyz[:, 2], 0.01)) if len(scene.points.xyz) else 0.0


def grid_lines(scene: Scene, rgb: tuple[int, int, int]) -> Segments:
    """The ground under the points and the cameras, in squares of 1, 2 or 5 times a power of ten."""
    points, centres = np.abs(scene.points.xyz[:, :2]).max(axis=1), np.abs(scene.cameras.centres[:, :2]).max(axis=1)
    reach = max(float(np.quantile(away, 0.95)) if len(away) else 0.0 for away in (points, centres))
    reach = float(np.clip(1.1 * reach, 1.0, 12.0))
    power = 10.0 ** np.floor(np.log10(reach / 4))
    step = power * max(factor for factor in (1, 2, 5) if factor * power <= reach / 4)
    at = step * np.arange(-np.ceil(reach / step), np.ceil(reach / step) + 1)
    low, high, z = np.full_like(at, at[0]), np.full_like(at, at[-1]), np.full_like(at, floor_height(scene))
    start = np.concatenate([np.column_stack([at, low, z]), np.column_stack([low, at, z])])
    end = np.concatenate([np.column_stack([at, high, z]), np.column_stack([high, at, z])])
    return segments(start, end, rgb)


def axis_lines(scene: Scene) -> Segments:
    """The world's axes, half a radius long, on the ground."""
    origin = np.tile([0.0, 0.0, floor_height(scene)], (3, 1))
    return segments(origin, origin + 0.5 * np.eye(3), np.array(AXES, np.uint8))
