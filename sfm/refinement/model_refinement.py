"""A finished model, whoever made it, refined in its images: its own observations are the tracks.

Nothing is known of its matcher, so its positions count as good to a px. What rounds complete tracks from are the
observations that the model began with: one that did not fit at first may fit the better model. Ids of images, cameras
and points stay, and so does the world's frame, but for what adjustment moves. Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pycolmap

from sfm.colmap.database import write_model_database
from sfm.colmap.model_arrays import ModelColumns
from sfm.colmap.rig_models import without_rigs
from sfm.errors import BadFile
from sfm.geometry.poses import relative_pose
from sfm.mapping.inputs import MappingInput
from sfm.options import MappingOptions, RefinementOptions
from sfm.refinement.checkpoint import Refined
from sfm.refinement.rounds import ReadGrey, ReadMask, Refiner, calibrate, refine
from sfm.types import CameraPrior, Float64, ImagePair, ImageRecord, KeypointMatches, Keypoints, TwoViewGeometry

LINKS = 3  # observations of a track that each is matched with: linear in its length, and hardly ever in two pieces
NOT_MOVED = 0.01  # px


@dataclass(frozen=True, slots=True)
class PixelSource:
    """The pixels of a model's images, and what may be spent on them.

    read_grey: (H, W) u8 of an image name, in the pixels of the model. read_mask: (H, W) bool, where the image may be
    used, None for all. unusable: names of images without pixels. memory: bytes for images and patches. device: cpu or
    cuda.
    """

    read_grey: ReadGrey
    read_mask: ReadMask = lambda name: None
    unusable: frozenset[str] = frozenset()
    memory: int = 10**9
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class RefinedModel:
    """A refined model and what was done to it. moved_px: (M,) of the observations that it has in common with the one
    before. cameras: a line about each, of what was found of its intrinsics."""

    model: pycolmap.Reconstruction
    state: Refined
    moved_px: Float64
    cameras: tuple[str, ...]

    @property
    def num_moved(self) -> int:
        """Observations that are not where they were."""
        return int((self.moved_px > NOT_MOVED).sum())


def refine_model(
    model: pycolmap.Reconstruction,
    pixels: PixelSource,
    scratch: Path,
    *,
    options: RefinementOptions,
    seed: int = 0,
    threads: int = 1,
    fix_intrinsics: bool = False,
) -> RefinedModel:
    """The model with sub-pixel tracks; it stays as it is itself. scratch: folder of rounds that are done, for a resume.

    fix_intrinsics: cameras stay as they are. Raises BadFile where there is nothing to refine (no points, or cameras
    without a focal length), and where nothing is left of the model.
    """
    _check(model)
    before = without_rigs(model)
    frame = before.normalize()  # large coordinates, as maps have them, cost digits
    data = model_input(before, known_intrinsics=fix_intrinsics)
    refiner = Refiner(
        data,
        options,
        MappingOptions(seed=seed, threads=threads),
        pixels.read_grey,
        pixels.read_mask,
        pixels.memory,
        pixels.device,
        unusable=pixels.unusable,
        write_database=partial(_write_database, data.geometries),
        with_priors=False,
    )
    state = refine(refiner, before, scratch)
    if state.model.num_points3D() == 0:
        raise BadFile("none of the model's points is where it should be in the images: are these the model's images?")
    refined, cameras = calibrate(refiner, state)
    refined = pycolmap.Reconstruction(refined)
    refined.transform(frame.inverse())
    return RefinedModel(refined, state, moved_px(before, refined), cameras)


def _check(model: pycolmap.Reconstruction) -> None:
    if model.num_points3D() == 0 or model.compute_num_observations() == 0:
        raise BadFile("the model has no points that its images observe: there is nothing to refine")
    for camera in model.cameras.values():
        if not len(camera.focal_length_idxs()):
            raise BadFile(f"camera {camera.camera_id}: a {camera.model_name} camera has no focal length; not refined")


def _write_database(
    geometries: Sequence[TwoViewGeometry],
    path: Path,
    model: pycolmap.Reconstruction,
    matches: Sequence[KeypointMatches],
) -> None:
    write_model_database(path, model, geometries, matches)


def write_tracks_database(path: Path, model: pycolmap.Reconstruction) -> None:
    """A new COLMAP database of a model with its own ids: its cameras, its keypoints, and matches that hold its tracks.

    Between COLMAP's own matches and what refinement has added or taken away no keypoint would fit: this one does.
    """
    poses = {image.name: image.cam_from_world().matrix() for image in _registered(model)}
    matches = track_matches(ModelColumns.of(model))
    geometries = []
    for own in matches:
        relative = relative_pose(poses[own.pair.name0], poses[own.pair.name1])
        baseline = float(np.linalg.norm(relative[:, 3]))
        known = np.column_stack([relative[:, :3], relative[:, 3] / baseline]) if baseline > 0 else None
        rows = np.arange(len(own.indices), dtype=np.uint32)
        geometries.append(TwoViewGeometry(own.pair, rows, "calibrated", known))
    write_model_database(path, model, geometries, matches)


def _registered(model: pycolmap.Reconstruction) -> list[pycolmap.Image]:
    return [model.images[i] for i in sorted(model.reg_image_ids())]


def model_input(model: pycolmap.Reconstruction, *, known_intrinsics: bool = False) -> MappingInput:
    """What mapping would have read to make this model: its images, keypoints, and matches that hold its tracks."""
    images = _registered(model)
    columns = ModelColumns.of(model)
    matches = track_matches(columns)
    return MappingInput(
        tuple(_record(image, model.cameras[image.camera_id]) for image in images),
        tuple(_keypoints(image) for image in images),
        tuple(TwoViewGeometry(m.pair, np.arange(len(m.indices), dtype=np.uint32), "calibrated") for m in matches),
        matches,
        {},
        known_intrinsics,
    )


def _record(image: pycolmap.Image, camera: pycolmap.Camera) -> ImageRecord:
    prior = CameraPrior(camera.model_name, np.array(camera.params), True, f"camera {camera.camera_id}")
    return ImageRecord(image.name, camera.width, camera.height, prior, "")


def _keypoints(image: pycolmap.Image) -> Keypoints:
    xy = np.array([point.xy for point in image.points2D], np.float32).reshape(-1, 2)
    return Keypoints(xy, np.ones(len(xy), np.float32))


def track_matches(columns: ModelColumns) -> tuple[KeypointMatches, ...]:
    """Matches that hold the tracks together: each observation with the next LINKS of its track, by image."""
    first, second = [], []
    for step in range(1, LINKS + 1):
        rows = np.arange(len(columns.point) - step)
        rows = rows[columns.point[rows] == columns.point[rows + step]]
        rows = rows[columns.image[rows] != columns.image[rows + step]]  # COLMAP may have a point twice in an image
        first.append(rows)
        second.append(rows + step)
    rows0, rows1 = np.concatenate(first), np.concatenate(second)
    key = columns.image[rows0] * len(columns.names) + columns.image[rows1]
    order = np.argsort(key, kind="stable")
    rows0, rows1, key = rows0[order], rows1[order], key[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    found = []
    for own0, own1 in zip(np.split(rows0, starts[1:]), np.split(rows1, starts[1:]), strict=True):
        if len(own0) == 0:
            continue
        name0, name1 = columns.names[columns.image[own0[0]]], columns.names[columns.image[own1[0]]]
        indices = np.stack([columns.point2D[own0], columns.point2D[own1]], axis=1)
        if name0 > name1:
            indices = indices[:, ::-1]
        indices = np.unique(indices, axis=0).astype(np.uint32)
        found.append(KeypointMatches(ImagePair.of(name0, name1), indices, np.ones(len(indices), np.float32)))
    return tuple(found)


def moved_px(before: pycolmap.Reconstruction, after: pycolmap.Reconstruction) -> Float64:
    """(M,) px that each observation moved which is some point's in both models."""
    parts = [np.zeros(0)]
    for image_id in after.reg_image_ids():
        if image_id not in before.images:
            continue
        pairs = zip(before.images[image_id].points2D, after.images[image_id].points2D, strict=False)
        xy = [(p.xy, q.xy) for p, q in pairs if p.has_point3D() and q.has_point3D()]
        if xy:
            parts.append(np.linalg.norm(np.diff(np.array(xy), axis=1)[:, 0], axis=1))
    return np.concatenate(parts)
