"""One run of COLMAP's own mapping, incremental or global, with options that suit semi-dense matches.

The COLMAP database holds the verified matches with their two-view geometries, so nothing is
verified again. Pixels are COLMAP's (sfm.types).

Schonberger and Frahm, Structure-from-Motion Revisited, CVPR 2016 (incremental). Pan, Barath,
Pollefeys and Schonberger, Global Structure-from-Motion Revisited, ECCV 2024 (global).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pycolmap

from sfm.colmap.database import write_colmap_database
from sfm.colmap.log import quiet
from sfm.colmap.model_files import save_model
from sfm.errors import BadFile
from sfm.geometry.epipolar import reduction
from sfm.options import MappingOptions
from sfm.system.progress import progress_bar
from sfm.types import Grid, ImageRecord, KeypointMatches, Keypoints, TwoViewGeometry

if TYPE_CHECKING:
    from sfm.storage.database import FeatureDatabase

# Thresholds of semi-dense matches in network px, where COLMAP has 4, 12 and 4 photo px. The filter is tighter than
# COLMAP's in units of the network's pixels: there are matches to spare, and the least exact of them bend the model.
INIT_ERROR, REGISTRATION_ERROR, FILTER_ERROR = 4.0, 12.0, 2.0


@dataclass(frozen=True, slots=True)
class Strategy:
    """Thresholds of one run of incremental mapping.

    Semi-dense matches come in hundreds, of which chance fits a dozen: a pose needs a fifth of them.
    """

    name: str
    init_min_num_inliers: int
    init_min_tri_angle: float  # degrees
    abs_pose_min_num_inliers: int
    abs_pose_min_inlier_ratio: float


@dataclass(frozen=True, slots=True)
class MappingInput:
    """All that mapping reads: images in order, and their keypoints, verified pairs and matches.

    known_intrinsics: the user gave the cameras' parameters; they stay as they are.
    """

    images: tuple[ImageRecord, ...]
    keypoints: tuple[Keypoints, ...]
    geometries: tuple[TwoViewGeometry, ...]
    matches: tuple[KeypointMatches, ...]
    grids: Mapping[str, Grid | None]
    known_intrinsics: bool = False

    @property
    def semi_dense(self) -> bool:
        """Whether the matcher has a coarse grid."""
        return any(grid is not None for grid in self.grids.values())

    @property
    def reduction(self) -> float:
        """Photo px per network px, the median over images; 1 for a detector."""
        return float(np.median([reduction(grid) for grid in self.grids.values()] or [1.0]))


def read_input(db: FeatureDatabase, *, known_intrinsics: bool) -> MappingInput:
    """What the stages before mapping left. BadFile where it does not belong together."""
    geometries = tuple(g for g in db.read_two_view() if len(g.inliers))
    matches = db.read_keypoint_matches()
    pairs = {m.pair for m in matches}
    if len(pairs) < len(matches) or not pairs <= {g.pair for g in geometries}:
        raise BadFile(f"{db.path}: its matches are not of its verified pairs; delete it to start afresh")
    return MappingInput(db.read_images(), db.read_keypoints(), geometries, matches, db.read_grids(), known_intrinsics)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of COLMAP's mapping. hold_distortion: only focal lengths are refined."""

    name: str
    strategy: Strategy
    data: MappingInput
    hold_distortion: bool = False


def write_database(path: Path, data: MappingInput) -> None:
    """A new COLMAP database of all that mapping reads."""
    write_colmap_database(path, data.images, data.keypoints, data.geometries, data.matches)


def incremental_options(attempt: Attempt, options: MappingOptions) -> pycolmap.IncrementalPipelineOptions:
    """COLMAP's options for these matches: its defaults for a detector, thresholds in network px otherwise."""
    data, strategy = attempt.data, attempt.strategy
    result = triangulation_options(data, options)
    result.min_model_size = min(options.min_model_size, len(data.images))
    mapper = result.mapper
    mapper.init_min_num_inliers = strategy.init_min_num_inliers
    mapper.init_min_tri_angle = strategy.init_min_tri_angle
    mapper.abs_pose_min_num_inliers = strategy.abs_pose_min_num_inliers
    mapper.abs_pose_min_inlier_ratio = strategy.abs_pose_min_inlier_ratio
    if data.known_intrinsics:
        result.ba_refine_focal_length = mapper.abs_pose_refine_focal_length = False
    if data.known_intrinsics or attempt.hold_distortion:
        result.ba_refine_extra_params = mapper.abs_pose_refine_extra_params = False
    return result


def triangulation_options(data: MappingInput, options: MappingOptions) -> pycolmap.IncrementalPipelineOptions:
    """The part of the options that triangulation of known poses has in common with mapping."""
    result = pycolmap.IncrementalPipelineOptions()
    result.triangulation.ignore_two_view_tracks = len(data.images) > 2  # with two photos there are no others
    result.num_threads = options.threads
    result.extract_colors = False  # the files' own pixels know no EXIF rotation
    for part in (result, result.mapper, result.triangulation):
        part.random_seed = options.seed
    if data.semi_dense:
        scale = data.reduction
        mapper, triangulation = result.mapper, result.triangulation
        mapper.init_max_error = INIT_ERROR * scale
        mapper.abs_pose_max_error = REGISTRATION_ERROR * scale
        mapper.filter_max_reproj_error = filter_error = FILTER_ERROR * scale
        triangulation.merge_max_reproj_error = triangulation.complete_max_reproj_error = filter_error
    return result


def global_options(attempt: Attempt, options: MappingOptions) -> pycolmap.GlobalPipelineOptions:
    """COLMAP's options for these matches: its defaults for a detector, thresholds in network px otherwise."""
    data = attempt.data
    result = pycolmap.GlobalPipelineOptions()
    result.min_model_size = min(options.min_model_size, len(data.images))
    result.num_threads = result.mapper.num_threads = options.threads
    mapper = result.mapper
    mapper.bundle_adjustment.ceres.solver_options.num_threads = options.threads
    for part in (result, mapper, mapper.rotation_averaging, mapper.global_positioning, mapper.retriangulation):
        part.random_seed = options.seed
    if len(data.images) <= 2:  # with two photos there are no longer tracks
        mapper.track_min_num_views_per_track = mapper.bundle_adjustment.min_track_length = 2
        mapper.global_positioning.min_num_view_per_track = 2
        mapper.retriangulation.ignore_two_view_tracks = False
    adjustment = mapper.bundle_adjustment
    adjustment.refine_focal_length = not data.known_intrinsics
    adjustment.refine_extra_params = not (data.known_intrinsics or attempt.hold_distortion)
    if data.semi_dense:
        scale = data.reduction
        focal = float(np.median([pinhole_focal(record) for record in data.images]))
        mapper.max_normalized_reproj_error = FILTER_ERROR * scale / focal
        triangulation = mapper.retriangulation
        triangulation.merge_max_reproj_error = triangulation.complete_max_reproj_error = FILTER_ERROR * scale
    return result


def pinhole_focal(record: ImageRecord) -> float:
    """Focal length of an image's prior, px; the mean of both directions where its model has two."""
    camera = pycolmap.Camera(
        model=record.camera.model, width=record.width, height=record.height, params=record.camera.params
    )
    return float(camera.mean_focal_length())


def run_mapper(attempt: Attempt, options: MappingOptions, folder: Path) -> list[pycolmap.Reconstruction]:
    """One run of COLMAP's mapping on a new folder/database.db: its models, most images first."""
    folder.mkdir(parents=True)
    write_database(folder / "database.db", attempt.data)
    run = _run_global if options.mapper == "global" else _run_incremental
    models = run(attempt, options, folder)
    return sorted(models.values(), key=lambda m: (-m.num_reg_images(), -m.num_points3D()))


def _run_incremental(
    attempt: Attempt, options: MappingOptions, folder: Path, start: Path | None = None
) -> dict[int, pycolmap.Reconstruction]:
    num_images = len(attempt.data.images)
    with quiet(), progress_bar(num_images, desc="mapping", unit="image") as bar:

        def advance(step: int) -> None:
            bar.update(min(step, max(num_images - bar.n, 0)))

        models: dict[int, pycolmap.Reconstruction] = pycolmap.incremental_mapping(
            folder / "database.db",
            folder,
            folder,
            incremental_options(attempt, options),
            input_path=start or "",
            initial_image_pair_callback=lambda: advance(2),
            next_image_callback=lambda: advance(1),
        )
    return models


def register_more(
    attempt: Attempt, options: MappingOptions, folder: Path, model: pycolmap.Reconstruction
) -> pycolmap.Reconstruction:
    """The model with the images that incremental mapping can add to it. folder: of the attempt's run."""
    start = folder / "start"
    start.mkdir()
    save_model(model, start)
    models = _run_incremental(attempt, options, folder, start)
    return max(models.values(), key=lambda m: m.num_reg_images(), default=model)


def _run_global(attempt: Attempt, options: MappingOptions, folder: Path) -> dict[int, pycolmap.Reconstruction]:
    """Without focal lengths to go by, COLMAP finds them from the pairs first: rotations come from them alone."""
    database = folder / "database.db"
    with quiet():
        if not all(record.camera.has_focal_prior for record in attempt.data.images):
            calibration = pycolmap.ViewGraphCalibrationOptions()
            calibration.random_seed = options.seed
            pycolmap.calibrate_view_graph(database, calibration)
        models: dict[int, pycolmap.Reconstruction] = pycolmap.global_mapping(
            database, folder, folder, global_options(attempt, options)
        )
    return models
