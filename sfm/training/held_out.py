"""Held-out pairs of a training run, and what the network's matches of them are worth: AUC@5/10/20 of relative poses.

Images of sequences and models have true poses. Some of them are in no pair that is trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from sfm.colmap.model_reader import read_reconstruction
from sfm.datasets.training_pairs.depth_pairs import DepthDifficulty, DepthSequence, overlapping_pairs
from sfm.datasets.training_pairs.textures import image_size, read_grey
from sfm.datasets.training_pairs.track_pairs import TrackDifficulty, TrackScene, is_held_out
from sfm.errors import BadImage
from sfm.evaluation.ground_truth_pairs import PosedPair, sample
from sfm.evaluation.options import PairEvaluation, PairEvaluationOptions
from sfm.evaluation.pair_poses import THRESHOLDS_DEG, evaluate_pair, summarise
from sfm.geometry.poses import relative_pose
from sfm.matchers.loftr.matcher import LoFTRMatcher
from sfm.training.sources import HELD_OUT, Sources

NUM_PAIRS = 48  # that are evaluated
OPTIONS = PairEvaluation(evaluation=PairEvaluationOptions(seeds=1))


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutPair:
    """Two image files with their true cameras and pose."""

    path0: Path
    path1: Path
    posed: PosedPair


def held_out_pairs(sources: Sources) -> tuple[HeldOutPair, ...]:
    """At most NUM_PAIRS pairs, always the same; none where only images without poses are trained on."""
    found = [pair for sequence in sources.sequences for pair in _of_sequence(sequence.held_out(HELD_OUT)[1])]
    found += [pair for scene in sources.scenes for model in scene.models for pair in _of_model(scene, model)]
    return sample(found, NUM_PAIRS)


def _of_sequence(sequence: DepthSequence) -> list[HeldOutPair]:
    pairs, _ = overlapping_pairs(sequence, DepthDifficulty(overlap=(0.1, 1.0)))
    poses = np.linalg.inv(sequence.world_from_cam)[:, :3]
    return [
        _pair(
            (sequence.paths[i], sequence.paths[j]),
            (_pinhole(sequence.paths[i], sequence.K[i]), _pinhole(sequence.paths[j], sequence.K[j])),
            relative_pose(poses[i], poses[j]),
        )
        for i, j in pairs
    ]


def _pinhole(path: Path, K: NDArray[np.float64]) -> pycolmap.Camera:
    width, height = image_size(path)
    return pycolmap.Camera(model="PINHOLE", width=width, height=height, params=[K[0, 0], K[1, 1], K[0, 2], K[1, 2]])


def _of_model(scene: TrackScene, model: Path) -> list[HeldOutPair]:
    """Pairs of a held-out image with any other, that share enough points."""
    known = read_reconstruction(model, "reconstruct the scene again")
    images = sorted((known.images[i] for i in known.reg_image_ids()), key=lambda image: str(image.name))
    images = [image for image in images if image.num_points3D]
    points = [{p.point3D_id for p in image.points2D if p.has_point3D()} for image in images]
    found = []
    for i, j in combinations(range(len(images)), 2):
        if not (is_held_out(i, HELD_OUT) or is_held_out(j, HELD_OUT)):
            continue
        if len(points[i] & points[j]) < TrackDifficulty().min_points:
            continue
        cameras = [pycolmap.Camera(known.cameras[images[k].camera_id].todict()) for k in (i, j)]
        poses = [images[k].cam_from_world().matrix() for k in (i, j)]
        paths = scene.images / images[i].name, scene.images / images[j].name
        found.append(_pair(paths, (cameras[0], cameras[1]), relative_pose(poses[0], poses[1])))
    return found


def _pair(
    paths: tuple[Path, Path], cameras: tuple[pycolmap.Camera, pycolmap.Camera], pose: NDArray[np.float64]
) -> HeldOutPair:
    return HeldOutPair(*paths, PosedPair(paths[0].name, paths[1].name, *cameras, pose))


def held_out_auc(matcher: LoFTRMatcher, pairs: Sequence[HeldOutPair]) -> tuple[float, ...]:
    """AUC at THRESHOLDS_DEG, 0 to 1. Pairs whose images cannot be read are left out."""
    results = []
    for pair in pairs:
        try:
            images = [read_grey(path) for path in (pair.path0, pair.path1)]
        except BadImage:
            continue
        features = matcher.encode(images)
        (matches,) = matcher.match([(features[0], features[1])])
        ends = (matches.points0.astype(np.float64), matches.points1.astype(np.float64))
        results.append(evaluate_pair(pair.posed, *ends, options=OPTIONS))
    areas = summarise(results).auc if results else {}
    return tuple(areas.get(threshold, 0.0) for threshold in THRESHOLDS_DEG)
