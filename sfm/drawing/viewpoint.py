"""Where a scene is looked at from: pinhole views, and how to find one that shows all of it.

A view's frame is COLMAP's: x right, y down, z forward. Worlds are upright: z is up (sfm.drawing.scene.upright).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from sfm.drawing.scene import Scene
from sfm.errors import BadOption
from sfm.types import Float32, Float64
from sfm.wording import nearest

FIELD_OF_VIEW = 45.0  # degrees, of the shorter side
NAMED = {"overview": (-35.0, 25.0), "front": (0.0, 5.0), "side": (90.0, 5.0), "top": (0.0, 90.0)}  # azimuth, elevation
FAR_POINTS = 0.03  # part of the points that may be outside a view of the whole
FAR_CAMERAS = 3.5  # cameras further away than this many radii of the scene may, too


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A pinhole camera. cam_from_world (3, 4); focal, principal (2,) px; size: width, height px."""

    cam_from_world: Float64
    focal: Float64
    principal: Float64
    size: tuple[int, int]

    @property
    def eye(self) -> Float64:
        """(3,) its centre in the world."""
        return np.asarray(-self.cam_from_world[:, :3].T @ self.cam_from_world[:, 3])

    def local(self, xyz: Float32 | Float64) -> Float64:
        """Points (N, 3) of the world in the view's frame."""
        return np.asarray(xyz @ self.cam_from_world[:, :3].T + self.cam_from_world[:, 3])

    def pixels(self, local: Float64) -> Float64:
        """(N, 2) px of points (N, 3) of the view's frame in front of it."""
        return np.asarray(local[:, :2] / local[:, 2:] * self.focal + self.principal)


def pinhole(size: tuple[int, int]) -> tuple[Float64, Float64]:
    """Focal lengths and principal point (2,) px of a view of this size."""
    focal = min(size) / 2 / np.tan(np.radians(FIELD_OF_VIEW / 2))
    return np.full(2, focal), np.array(size) / 2


def looking(azimuth_deg: float, elevation_deg: float) -> Float64:
    """Rotation (3, 3) of a view that looks at the z axis, from this azimuth about it and this high above the plane.

    Azimuth 0 is on the positive x axis; from the top the picture's up is away from that side.
    """
    a, e = np.radians([azimuth_deg, elevation_deg])
    forward = -np.array([np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)])
    right = np.array([-np.sin(a), np.cos(a), 0.0])
    return np.stack([right, np.cross(forward, right), forward])


def look_at(eye: Float64, target: Float64) -> Float64:
    """cam_from_world (3, 4) of a level view from one place (3,) towards another."""
    back = np.asarray(eye - target, np.float64)
    azimuth = np.degrees(np.arctan2(back[1], back[0]))
    rotation = looking(azimuth, np.degrees(np.arctan2(back[2], np.hypot(back[0], back[1]))))
    return np.column_stack([rotation, -rotation @ eye])


def from_camera(scene: Scene, row: int, size: tuple[int, int]) -> View:
    """What one camera of the scene sees, whole, in a picture of this size; lens distortion is left out."""
    cameras = scene.cameras
    scale = float(min(np.array(size) / cameras.size[row]))
    margin = (np.array(size) - scale * cameras.size[row]) / 2
    return View(cameras.cam_from_world[row], scale * cameras.focal[row], scale * cameras.principal[row] + margin, size)


def camera_row(scene: Scene, name: str) -> int:
    """Row of the camera of this name, of its path's end or without suffix. BadOption with the nearest names."""
    names = scene.cameras.names
    ends = [n.rpartition("/")[2] for n in names]
    for known in (list(names), ends, [n.rpartition(".")[0] for n in ends]):
        if known.count(name) == 1:
            return known.index(name)
    view = nearest(name, NAMED, cutoff=0.7)
    near = [view] if view is not None else get_close_matches(name, names, 3, 0.4) or names[:3]
    listed = f"; did you mean {', '.join(near)}?" if near else ": it has no cameras"
    raise BadOption(f"--view {name}: neither {', '.join(NAMED)} nor a camera of {scene.title}{listed}")


def landmarks(scene: Scene, far_cameras: float = FAR_CAMERAS) -> Float64:
    """(N, 3) what a view of the whole should show: the points but for the farthest, and the cameras around, up to this
    many radii of the points away."""
    xyz, centres = scene.points.xyz.astype(np.float64), scene.cameras.centres
    distance = np.linalg.norm(xyz, axis=1)
    radius = float(np.quantile(distance, 1 - FAR_POINTS)) if len(xyz) else np.inf
    return np.concatenate([xyz[distance <= radius], centres[np.linalg.norm(centres, axis=1) <= far_cameras * radius]])


def front_azimuth(scenes: Sequence[Scene]) -> float:
    """Degrees about the z axis of the side where the cameras of the largest scene are; where they are all around
    it, that of the one with most observations."""
    scene = max(scenes, key=lambda each: len(each.cameras.names))
    centres = scene.cameras.centres[:, :2]
    if len(centres) == 0:
        return 0.0
    side = (centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-9)).mean(axis=0)
    if np.linalg.norm(side) < 0.3:
        side = centres[int(scene.observation_counts().argmax())]
    return float(np.degrees(np.arctan2(side[1], side[0])))


def framed(rotation: Float64, xyz: Float64, size: tuple[int, int], margin: float = 0.06) -> View:
    """The nearest view with this rotation (3, 3) that shows all the points (N, 3) inside a margin, a part of the size.

    A side plane of the view's pyramid touches the outermost point; opposite planes meet where the eye is.
    """
    focal, principal = pinhole(size)
    local = (xyz if len(xyz) else np.zeros((1, 3))) @ rotation.T
    slope = np.array(size) / 2 * (1 - 2 * margin) / focal
    plus = (local[:, :2] - slope * local[:, 2:]).max(axis=0)
    minus = (-local[:, :2] - slope * local[:, 2:]).max(axis=0)
    depth = float((-(plus + minus) / (2 * slope)).min())
    eye = np.array([*(plus - minus) / 2, min(depth, local[:, 2].min() - 0.05)])
    return View(np.column_stack([rotation, -eye]), focal, principal, size)


def named_view(scenes: Sequence[Scene], name: str, size: tuple[int, int]) -> View:
    """The view overview, top, front or side of all the scenes, or that of a camera of one of them. BadOption."""
    if name not in NAMED:
        known = [s for s in scenes if name in s.cameras.names] or [max(scenes, key=lambda s: len(s.cameras.names))]
        return from_camera(known[0], camera_row(known[0], name), size)
    azimuth, elevation = NAMED[name]
    shown = np.concatenate([landmarks(scene) for scene in scenes])
    return framed(looking(front_azimuth(scenes) + azimuth, elevation), shown, size)


def orbit(scenes: Sequence[Scene], size: tuple[int, int], frames: int, elevation: float = 18.0) -> list[View]:
    """Views once around the scenes, all at one distance from the middle, beginning at the front."""
    shown = np.concatenate([landmarks(scene) for scene in scenes])
    focal, principal = pinhole(size)
    rotations = [looking(front_azimuth(scenes) + 360.0 * k / frames, elevation) for k in range(frames)]
    middle = np.array([0.0, 0.0, (shown[:, 2].min() + shown[:, 2].max()) / 2 if len(shown) else 0.0])
    away = [_distance(rotation, shown - middle, size) for rotation in rotations[:: max(1, frames // 24)]]
    back = np.array([0.0, 0.0, max(away)])
    return [View(np.column_stack([r, back - r @ middle]), focal, principal, size) for r in rotations]


def _distance(rotation: Float64, xyz: Float64, size: tuple[int, int], margin: float = 0.06) -> float:
    """The distance from the origin at which a view straight at it shows the points (N, 3)."""
    local = (xyz if len(xyz) else np.zeros((1, 3))) @ rotation.T
    slope = np.array(size) / 2 * (1 - 2 * margin) / pinhole(size)[0]
    return float(max(0.1, (np.abs(local[:, :2]) / slope - local[:, 2:]).max()))
