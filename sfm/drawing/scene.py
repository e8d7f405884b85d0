"""What there is to see of a model: points, cameras, who sees what. Columns, in the model's own frame.

Camera frames are COLMAP's: x right, y down, z forward. A world that is upright has its z axis up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from sfm.colmap.bulk import POINT2D, bulk
from sfm.colmap.model_reader import model_folders
from sfm.errors import BadFile
from sfm.evaluation.model import Similarity, align, read_model
from sfm.georeferencing.frame import read_frame
from sfm.types import Float32, Float64, Int64

UInt8 = NDArray[np.uint8]
NOTHING = np.zeros(0, POINT2D)
LEVEL = 0.02  # sine of the angle under which a camera counts as level


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """N points: xyz (N, 3) f32, rgb (N, 3) u8, error (N,) f32 px (mean over their observations), length (N,) i64
    observations each."""

    xyz: Float32
    rgb: UInt8
    error: Float32
    length: Int64


@dataclass(frozen=True, slots=True, eq=False)
class Cameras:
    """C registered images in the order of their names. cam_from_world (C, 3, 4) f64; size (C, 2) i64 px, width and
    height; focal, principal (C, 2) f64 px."""

    names: tuple[str, ...]
    cam_from_world: Float64
    size: Int64
    focal: Float64
    principal: Float64

    @property
    def centres(self) -> Float64:
        """(C, 3) in the world."""
        return np.asarray(-np.einsum("cij,ci->cj", self.cam_from_world[:, :, :3], self.cam_from_world[:, :, 3]))


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """O observations, sorted by camera. camera, point (O,) i64: rows; xy (O, 2) f32 px; error (O,) f32 px, inf
    behind the camera."""

    camera: Int64
    point: Int64
    xy: Float32
    error: Float32

    def of_camera(self, row: int) -> slice:
        """Rows of one camera."""
        return slice(*np.searchsorted(self.camera, [row, row + 1]).tolist())


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A model to look at. title: what to call it. is_upright: its frame is geographic, with z up."""

    title: str
    points: Points
    cameras: Cameras
    observations: Observations
    is_upright: bool = False

    def observation_counts(self) -> Int64:
        """(C,) observations of each camera."""
        return np.bincount(self.observations.camera, minlength=len(self.cameras.names))

    def shared_points(self) -> Int64:
        """(C, C) points that two cameras both see; the diagonal is 0."""
        num = len(self.cameras.names)
        shared = np.zeros((num, num), np.int64)
        order = np.argsort(self.observations.point, kind="stable")
        camera, point = self.observations.camera[order], self.observations.point[order]
        for step in range(1, int(self.points.length.max(initial=1))):
            same = point[step:] == point[:-step]
            np.add.at(shared, (camera[:-step][same], camera[step:][same]), 1)
        return shared + shared.T


def read_scene(path: Path, title: str | None = None) -> Scene:
    """The model at a path: a COLMAP model, or a run's output folder, of which the largest counts. Raises BadFile."""
    scene = scene_of(read_model(path), title or path.name or str(path))
    return replace(scene, is_upright=_is_geographic(model_folders(path)[0]))


def _is_geographic(folder: Path) -> bool:
    """Whether a model is in a frame of east, north and up."""
    try:
        frame = read_frame(folder)
    except BadFile:  # another program's file of this name
        return False
    return frame is not None and frame.origin is not None


def scene_of(model: pycolmap.Reconstruction, title: str) -> Scene:
    """All that can be seen of a model. Stores the recomputed errors in its points."""
    model.update_point_3d_errors()
    images = sorted((model.images[i] for i in model.reg_image_ids()), key=lambda image: image.name)
    cameras = [model.cameras[image.camera_id] for image in images]
    columns = bulk(model)
    points, seen = columns.points, [columns.observed.get(image.image_id, NOTHING) for image in images]
    rows = [columns.rows(own["point"]) for own in seen]
    error = [_residuals(*each) for each in zip(images, cameras, seen, [columns.xyz[own] for own in rows], strict=True)]
    none = np.zeros(0, np.int64)
    return Scene(
        title,
        Points(
            points["xyz"].astype(np.float32),
            points["rgb"].copy(),
            points["error"].astype(np.float32),
            points["length"].astype(np.int64),
        ),
        Cameras(
            tuple(image.name for image in images),
            np.array([image.cam_from_world().matrix() for image in images]).reshape(-1, 3, 4),
            np.array([(c.width, c.height) for c in cameras], np.int64).reshape(-1, 2),
            np.array([(c.focal_length_x, c.focal_length_y) for c in cameras]).reshape(-1, 2),
            np.array([(c.principal_point_x, c.principal_point_y) for c in cameras]).reshape(-1, 2),
        ),
        Observations(
            np.repeat(np.arange(len(images)), [len(own) for own in seen]),
            np.concatenate([none, *rows]),
            np.concatenate([NOTHING["xy"], *(own["xy"] for own in seen)]).astype(np.float32),
            np.concatenate([none, *error]).astype(np.float32),
        ),
    )


def _residuals(image: pycolmap.Image, camera: pycolmap.Camera, seen: NDArray[np.void], xyz: Float64) -> Float64:
    """(O,) px from observations to where the camera sees their points (O, 3); inf behind it."""
    pose = image.cam_from_world().matrix()
    local, error = xyz @ pose[:, :3].T + pose[:, 3], np.full(len(seen), np.inf)
    front = local[:, 2] > 0
    if front.any():
        error[front] = np.linalg.norm(seen["xy"][front] - camera.img_from_cam(local[front]), axis=1)
    return np.where(np.isnan(error), np.inf, error)


def moved(scene: Scene, new_from_old: Similarity) -> Scene:
    """The scene in another frame; errors, in pixels, stay."""
    cameras, xyz = scene.cameras, new_from_old(scene.points.xyz.astype(np.float64)).astype(np.float32)
    poses = np.array([new_from_old.transform_pose(pose) for pose in cameras.cam_from_world]).reshape(-1, 3, 4)
    of_cameras = replace(cameras, cam_from_world=poses)
    return replace(scene, points=replace(scene.points, xyz=xyz), cameras=of_cameras, is_upright=False)


def aligned(scene: Scene, target: Scene) -> Scene | None:
    """The scene laid over another by the centres of their common images (names); None where too few are common."""
    poses, to = (dict(zip(s.cameras.names, s.cameras.cam_from_world, strict=True)) for s in (scene, target))
    found = align(poses, to)
    return None if found is None else moved(scene, found[0])


def upright(scene: Scene) -> Scene:
    """The scene rotated so that its z axis is up, centred on its points, at a scale where half of them lie within 1.

    People hold cameras level more often than not: up is the direction that is most nearly square to all the cameras'
    x axes, on the side where most of their heads are. Images on their side or upside down are a minority that the
    direction, fitted with absolute values, withstands. Where all images of a ring are sideways, the y axes decide.
    Cameras that all look along one line leave it to their heads. A geographic frame has its z axis up.
    """
    rotations = scene.cameras.cam_from_world[:, :, :3]
    up = np.array([0.0, 0.0, 1.0]) if scene.is_upright else _up(rotations)
    centre, radius = _middle(scene)
    rotation = _rotation_to_z(up)
    return moved(scene, Similarity(1 / radius, rotation, -rotation @ centre / radius))


def _up(rotations: Float64) -> Float64:
    """Unit (3,) of cameras' rotations (C, 3, 3): square to their x axes, or to their y axes where all images are on
    their side, as from a turntable and a rotated camera; the mean of their heads where neither decides."""
    right, head, forward = rotations[:, 0], -rotations[:, 1], rotations[:, 2]
    level, spread = _normal(right)
    side, side_spread = _normal(head)
    around = len(head) >= 3 and np.linalg.norm(head.mean(axis=0)) < 0.6
    if around and spread[1] < 0.15 * spread[2] and side_spread[0] < 0.1 * side_spread[1]:
        leaning = float(forward.mean(axis=0) @ side)  # on turntables cameras look down
        return -np.sign(leaning) * side if abs(leaning) > 0.02 else side
    up = head.sum(axis=0) if spread[1] < 0.04 * spread[2] or len(right) < 3 else level
    length = float(np.linalg.norm(up))
    sign = np.sign(np.median(head @ up)) if len(head) else 1.0
    return (sign or 1.0) * up / length if length > 0 else np.array([0.0, 0.0, 1.0])


def _normal(axes: Float64) -> tuple[Float64, Float64]:
    """The direction (3,) most nearly square to all axes (C, 3), by the sum of absolute sines; and how far they spread
    along three directions, least first (3,), by squares."""
    spread, vectors = np.linalg.eigh(axes.T @ axes)
    for _ in range(20):  # reweighted least squares
        weights = 1 / np.maximum(np.abs(axes @ vectors[:, 0]), LEVEL)
        vectors = np.linalg.eigh((axes * weights[:, None]).T @ axes)[1]
    return vectors[:, 0], spread


def _middle(scene: Scene) -> tuple[Float64, float]:
    """Geometric median (3,) of the points, and their median distance from it; of the cameras where there are none."""
    xyz = scene.points.xyz.astype(np.float64) if len(scene.points.xyz) else scene.cameras.centres
    if len(xyz) == 0:
        return np.zeros(3), 1.0
    centre = np.median(xyz, axis=0)
    for _ in range(20):  # Weiszfeld's iteration
        weights = 1 / np.maximum(np.linalg.norm(xyz - centre, axis=1), 1e-9)
        centre = weights @ xyz / weights.sum()
    return centre, float(np.median(np.linalg.norm(xyz - centre, axis=1))) or 1.0


def _rotation_to_z(up: Float64) -> Float64:
    """The smallest rotation (3, 3) that brings a unit vector to (0, 0, 1)."""
    axis, cosine = np.cross(up, [0.0, 0.0, 1.0]), float(up[2])
    if cosine < -1 + 1e-12:
        return np.diag([1.0, -1.0, -1.0])
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.asarray(np.eye(3) + cross + cross @ cross / (1 + cosine))
