"""COLMAP's own mapping, incremental or global, with options that suit the matches.

The COLMAP database holds the verified matches with their two-view geometries, so nothing is
verified again. Pixels are COLMAP's (sfm.types).

Schonberger and Frahm, Structure-from-Motion Revisited, CVPR 2016 (incremental). Pan, Barath,
Pollefeys and Schonberger, Global Structure-from-Motion Revisited, ECCV 2024 (global).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pycolmap

from sfm.colmap.camera import prior_focal
from sfm.colmap.database import camera_ids, rig_ids
from sfm.colmap.log import quiet
from sfm.colmap.model_writer import save_model
from sfm.mapping.inputs import Attempt, MappingInput
from sfm.options import SMALL_SET, MappingOptions
from sfm.system.progress import progress_bar

# Of many images: by how much a model grows between two bundle adjustments of all of it, and how often each is repeated.
# With COLMAP's 1.1 and 5 a walk of 250 images takes twice as long and is as exact (benchmarks/mapping.py).
GROWTH, REFINEMENTS = 1.4, 2
INIT_ERROR, REGISTRATION_ERROR = 4.0, 12.0  # standard deviations of a match (MappingInput.sigma); COLMAP's px of SIFT


def incremental_options(attempt: Attempt, options: MappingOptions) -> pycolmap.IncrementalPipelineOptions:
    """COLMAP's options for these matches: its thresholds in standard deviations of a match."""
    data, strategy = attempt.data, attempt.strategy
    result = triangulation_options(data, options)
    result.min_model_size = min(options.min_model_size, len(data.images))
    if len(data.images) > SMALL_SET:
        result.ba_global_frames_ratio = result.ba_global_points_ratio = GROWTH
        result.ba_global_max_refinements = REFINEMENTS
    mapper = result.mapper
    mapper.init_min_num_inliers = strategy.init_min_num_inliers
    mapper.init_min_tri_angle = strategy.init_min_tri_angle
    mapper.abs_pose_min_num_inliers = strategy.abs_pose_min_num_inliers
    mapper.abs_pose_min_inlier_ratio = strategy.abs_pose_min_inlier_ratio
    if data.known_intrinsics or attempt.hold_focal:
        result.ba_refine_focal_length = mapper.abs_pose_refine_focal_length = False
    if data.known_intrinsics or attempt.hold_distortion:
        result.ba_refine_extra_params = mapper.abs_pose_refine_extra_params = False
    if data.rigs:
        ids = camera_ids(data.images)
        result.constant_cameras = mapper.constant_cameras = {ids[group] for group in data.known_groups}
        result.constant_rigs = mapper.constant_rigs = rig_ids(data.images, [rig for rig in data.rigs if rig.fixed])
    return result


def triangulation_options(data: MappingInput, options: MappingOptions) -> pycolmap.IncrementalPipelineOptions:
    """The part of the options that triangulation of known poses has in common with mapping."""
    result = pycolmap.IncrementalPipelineOptions()
    result.triangulation.ignore_two_view_tracks = len(data.images) > 2  # with two images there are no others
    result.num_threads = options.threads
    result.extract_colors = False  # the files' own pixels know no EXIF rotation
    for part in (result, result.mapper, result.triangulation):
        part.random_seed = options.seed
    mapper, triangulation = result.mapper, result.triangulation
    mapper.init_max_error = INIT_ERROR * data.sigma
    mapper.abs_pose_max_error = REGISTRATION_ERROR * data.sigma
    mapper.filter_max_reproj_error = data.filter_error
    triangulation.merge_max_reproj_error = triangulation.complete_max_reproj_error = data.filter_error
    return result


def global_options(attempt: Attempt, options: MappingOptions) -> pycolmap.GlobalPipelineOptions:
    """COLMAP's options for these matches: its thresholds in standard deviations of a match."""
    data = attempt.data
    result = pycolmap.GlobalPipelineOptions()
    result.min_model_size = min(options.min_model_size, len(data.images))
    result.num_threads = result.mapper.num_threads = options.threads
    mapper = result.mapper
    mapper.bundle_adjustment.ceres.solver_options.num_threads = options.threads
    for part in (result, mapper, mapper.rotation_averaging, mapper.global_positioning, mapper.retriangulation):
        part.random_seed = options.seed
    if len(data.images) <= 2:  # with two images there are no longer tracks
        mapper.track_min_num_views_per_track = mapper.bundle_adjustment.min_track_length = 2
        mapper.global_positioning.min_num_view_per_track = 2
        mapper.retriangulation.ignore_two_view_tracks = False
    adjustment = mapper.bundle_adjustment
    adjustment.refine_focal_length = not (data.known_intrinsics or attempt.hold_focal)
    adjustment.refine_extra_params = not (data.known_intrinsics or attempt.hold_distortion)
    if data.dense:  # COLMAP's own, a hundredth of the focal length, is made for what is sparse
        focal = float(np.median([prior_focal(record) for record in data.images]))
        mapper.max_normalized_reproj_error = data.filter_error / focal
    triangulation = mapper.retriangulation
    triangulation.merge_max_reproj_error = triangulation.complete_max_reproj_error = data.filter_error
    return result


def map_incrementally(
    attempt: Attempt, options: MappingOptions, folder: Path, start: Path | None = None, *, several: bool = True
) -> list[pycolmap.Reconstruction]:
    """COLMAP's incremental mapping (a mapper of sfm.mapping.registry). start: folder of a model to go on from.

    several: further models are made of the images that are in none.
    """
    num_images, pipeline = len(attempt.data.images), incremental_options(attempt, options)
    pipeline.multiple_models = several
    with quiet(), progress_bar(num_images, desc="mapping", unit="image") as bar:

        def advance(step: int) -> None:
            bar.update(min(step, max(num_images - bar.n, 0)))

        models: dict[int, pycolmap.Reconstruction] = pycolmap.incremental_mapping(
            folder / "database.db",
            folder,
            folder,
            pipeline,
            input_path=start or "",
            initial_image_pair_callback=lambda: advance(2),
            next_image_callback=lambda: advance(1),
        )
    return by_size(models.values())


def register_more(
    attempt: Attempt, options: MappingOptions, folder: Path, model: pycolmap.Reconstruction
) -> pycolmap.Reconstruction:
    """The model with the images that incremental mapping can add to it. folder: of the attempt's run."""
    start = folder / "start"
    start.mkdir()
    save_model(model, start)
    few = len(attempt.data.images) <= SMALL_SET  # where others are made as well, and may turn out larger
    models = map_incrementally(attempt, options, folder, start, several=few)
    return max(models, key=lambda m: m.num_reg_images(), default=model)


def map_globally(attempt: Attempt, options: MappingOptions, folder: Path) -> list[pycolmap.Reconstruction]:
    """COLMAP's global mapping (a mapper of sfm.mapping.registry).

    Without focal lengths to go by, COLMAP finds them from the pairs first: rotations come from them alone.
    """
    database = folder / "database.db"
    with quiet():
        if not all(record.camera.has_focal_prior for record in attempt.data.images):
            calibration = pycolmap.ViewGraphCalibrationOptions()
            calibration.random_seed = options.seed
            pycolmap.calibrate_view_graph(database, calibration)
        models: dict[int, pycolmap.Reconstruction] = pycolmap.global_mapping(
            database, folder, folder, global_options(attempt, options)
        )
    return by_size(models.values())


def by_size(models: Iterable[pycolmap.Reconstruction]) -> list[pycolmap.Reconstruction]:
    """Models, most images first; of equal ones the one with most points."""
    return sorted(models, key=lambda m: (-m.num_reg_images(), -m.num_points3D()))
