"""Matchers evaluated by the relative poses that their matches give: AUC@5/10/20 over image pairs.

The protocol of SuperGlue (Sarlin et al., CVPR 2020) and LoFTR (Sun et al., CVPR 2021): an essential matrix from the
matches and the true intrinsics by RANSAC, its pose's error the larger of rotation's and direction's, the area under
the recall curve to 5, 10 and 20 degrees. A pair without a pose is infinitely wrong and stays in every mean. The
estimator is COLMAP's LO-RANSAC, and what it finds is refined as in `match` (sfm.geometry.pose_refinement); each pose is
estimated under several random seeds, and the AUCs of the seeds are averaged.

Errors in pixels are of images reduced to the matching options' --resize, so that they mean the same for images of any
size. Precision is LoFTR's: the share of matches whose squared epipolar errors, at unit focal length, add up to less
than 1e-4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from sfm.evaluation.ground_truth_pairs import PosedPair, read_posed_pairs
from sfm.evaluation.model import auc
from sfm.evaluation.most_confident import two_view_matcher
from sfm.evaluation.options import PairEvaluation
from sfm.evaluation.pair_runner import EvaluatedPair, ImageFolder, PairProtocol, run_pairs
from sfm.evaluation.pose_metrics import epipolar_errors, pose_errors_deg
from sfm.evaluation.result_log import Result, ResultLog
from sfm.geometry.pose_refinement import refine_pose
from sfm.geometry.two_view import unit_pose
from sfm.images.index import read_images_index
from sfm.options import ImageOptions
from sfm.system.tables import aligned, write_json
from sfm.types import Float64

THRESHOLDS_DEG = (5.0, 10.0, 20.0)
PRECISE = 1e-4
ROTATIONS_DEG = ((0.0, 15.0), (15.0, 30.0), (30.0, 60.0), (60.0, 180.1))


@dataclass(frozen=True, slots=True)
class PairResult:
    """What a matcher's matches of a pair are worth. rotation_deg: of the true pose. errors_deg: one a seed, inf
    without a pose. inliers: mean over seeds. precision, under_1px: shares of the matches."""

    name0: str
    name1: str
    rotation_deg: float
    errors_deg: tuple[float, ...]
    matches: int
    inliers: float
    precision: float
    under_1px: float


@dataclass(frozen=True, slots=True)
class PairSummary:
    """Means over pairs. auc: threshold in degrees to 0..1, mean over seeds. auc5_spread: standard deviation over seeds.
    median_error_deg: over pairs and seeds, inf where more than half have no pose."""

    pairs: int
    auc: dict[float, float]
    auc5_spread: float
    median_error_deg: float
    without_pose: float
    matches: float
    inliers: float
    precision: float
    under_1px: float


# --- one pair ------------------------------------------------------------------------------------


def reduction_of(size: tuple[int, int], resize: int) -> float:
    """Image px a px of the image reduced to a longer side of `resize`; 1 for 0."""
    return max(size) / resize if resize else 1.0


def ransac_options(max_error: float, seed: int) -> pycolmap.RANSACOptions:
    """Of all robust estimations here. max_error: px of the images."""
    options = pycolmap.RANSACOptions()
    options.max_error = max_error
    options.confidence = 0.99999
    options.min_num_trials = 100
    options.max_num_trials = 10_000
    options.random_seed = seed
    return options


def estimate_pose(
    pair: PosedPair, points0: Float64, points1: Float64, *, max_error: float, seed: int
) -> tuple[Float64 | None, int]:
    """cam1_from_cam0 (3, 4), translation of unit length, or None, and the number of inliers. max_error: px."""
    if len(points0) < 5:
        return None, 0
    ransac = ransac_options(max_error, seed)
    found = pycolmap.estimate_essential_matrix(points0, points1, pair.camera0, pair.camera1, ransac)
    if found is None:
        return None, 0
    cameras = (pair.camera0, pair.camera1)
    pose = unit_pose(refine_pose(found["cam2_from_cam1"], cameras, points0, points1, max_error=max_error))
    return pose, int(found["num_inliers"])


def evaluate_pair(pair: PosedPair, points0: Float64, points1: Float64, *, options: PairEvaluation) -> PairResult:
    """Errors of the poses that the matches (M, 2), (M, 2) px give, and how many of them are right."""
    cameras = (pair.camera0, pair.camera1)
    scales = [reduction_of((camera.width, camera.height), options.matching.resize) for camera in cameras]
    max_error = options.evaluation.max_error * float(np.mean(scales))
    poses = [
        estimate_pose(pair, points0, points1, max_error=max_error, seed=seed)
        for seed in range(options.evaluation.seeds)
    ]
    xy0, xy1 = (_normalised(*both) for both in zip(cameras, (points0, points1), strict=True))
    in0, in1 = epipolar_errors(xy0, xy1, pair.cam1_from_cam0)
    focal0, focal1 = (camera.mean_focal_length() / scale for camera, scale in zip(cameras, scales, strict=True))
    return PairResult(
        pair.name0,
        pair.name1,
        pair.rotation_deg,
        tuple(max(pose_errors_deg(pose, pair.cam1_from_cam0)) for pose, _ in poses),
        len(points0),
        float(np.mean([inliers for _, inliers in poses])),
        _share(in0**2 + in1**2 < PRECISE),
        _share((in0 * focal0 + in1 * focal1) / 2 < 1.0),
    )


def _normalised(camera: pycolmap.Camera, points: Float64) -> Float64:
    """(M, 2) at unit focal length without distortion."""
    return np.asarray(camera.cam_from_img(points), np.float64).reshape(-1, 2)


def _share(right: Any) -> float:
    return float(right.mean()) if len(right) else 0.0


# --- all pairs -----------------------------------------------------------------------------------


def evaluate_pairs(images: Path, ground_truth: Path, out: Path, options: PairEvaluation | None = None) -> str:
    """Evaluates the options' matcher on pairs of images; returns the table.

    ground_truth: see read_posed_pairs. Writes out/pairs.json, and out/pairs.jsonl pair by pair: a run that was stopped
    carries on. Raises SfMError.
    """
    options = options or PairEvaluation()
    records = {record.name: record for record in read_images_index(images, ImageOptions(), keep_copies=True)[0]}
    posed = read_posed_pairs(ground_truth, records, options.evaluation)
    log = ResultLog(out / "pairs.jsonl")
    matcher, select = two_view_matcher(options.matching)
    image_pairs = [EvaluatedPair(pair.name0, pair.name1, pair.image_rotation, pair.numbers) for pair in posed]
    posed_pairs = {(pair.name0, pair.name1): pair for pair in posed}

    def evaluate_matches(pair: EvaluatedPair, points0: Float64, points1: Float64) -> Result:
        return as_json(evaluate_pair(posed_pairs[pair.name0, pair.name1], points0, points1, options=options))

    e = options.evaluation
    m = options.matching
    key = ["pairs, refined", e.max_error, e.seeds, m.resize, m.confidence, m.at_least]
    how = PairProtocol(matcher, select, m, evaluate_matches, key, log)
    results = [
        from_json(values) for values in run_pairs(ImageFolder(images, records), image_pairs, how, desc="evaluating")
    ]
    groups = by_rotation(results)
    write_json(
        out / "pairs.json",
        {
            "images": str(images),
            "ground_truth": str(ground_truth),
            "matcher": dict(matcher.provenance),
            "options": asdict(options),
            "summary": {name: asdict(group) for name, group in groups.items()},
            "pairs": [asdict(result) for result in results],
        },
    )
    return f"{matcher.name}, {len(results)} pairs of {images}\n\n{table(groups)}\n\nwritten: {out / 'pairs.json'}"


def as_json(result: PairResult) -> Result:
    """Plain values; an infinite error is None."""
    return {**asdict(result), "errors_deg": [error if np.isfinite(error) else None for error in result.errors_deg]}


def from_json(values: Result) -> PairResult:
    """The other way."""
    plain = {key: value for key, value in values.items() if key != "id"}
    errors = tuple(float("inf") if error is None else float(error) for error in values["errors_deg"])
    return PairResult(**{**plain, "errors_deg": errors})


# --- tables --------------------------------------------------------------------------------------


def summarise(results: Sequence[PairResult]) -> PairSummary:
    """Means over at least one pair."""
    errors = np.array([result.errors_deg for result in results])  # (P, S)
    areas = {threshold: [auc(of_seed, threshold) for of_seed in errors.T] for threshold in THRESHOLDS_DEG}

    def mean(column: Callable[[PairResult], float]) -> float:
        return float(np.mean([column(result) for result in results]))

    return PairSummary(
        pairs=len(results),
        auc={threshold: float(np.mean(of_seeds)) for threshold, of_seeds in areas.items()},
        auc5_spread=float(np.std(areas[THRESHOLDS_DEG[0]])),
        median_error_deg=float(np.median(errors)),
        without_pose=float(np.isinf(errors).mean()),
        matches=mean(lambda result: result.matches),
        inliers=mean(lambda result: result.inliers),
        precision=mean(lambda result: result.precision),
        under_1px=mean(lambda result: result.under_1px),
    )


def by_rotation(results: Sequence[PairResult]) -> dict[str, PairSummary]:
    """Summaries of all pairs and by the true rotation, of the groups that hold a pair."""
    groups = {"all": list(results)}
    for low, high in ROTATIONS_DEG:
        groups[f"{low:g}° to {min(high, 180):g}°"] = [r for r in results if low <= r.rotation_deg < high]
    return {name: summarise(members) for name, members in groups.items() if members}


def table(groups: dict[str, PairSummary]) -> str:
    """Summaries for people, a line a group."""
    header = ("rotation", "pairs", *(f"AUC@{t:g}°" for t in THRESHOLDS_DEG), "± @5°", "median", "no pose")
    header = (*header, "matches", "inliers", "precision", "< 1 px")
    rows = [header]
    for name, s in groups.items():
        areas = [f"{100 * s.auc[threshold]:.1f}" for threshold in THRESHOLDS_DEG]
        rows.append(
            (
                name,
                str(s.pairs),
                *areas,
                f"{100 * s.auc5_spread:.1f}",
                f"{s.median_error_deg:.2f}°",
                f"{s.without_pose:.0%}",
                f"{s.matches:.0f}",
                f"{s.inliers:.0f}",
                f"{s.precision:.1%}",
                f"{s.under_1px:.1%}",
            )
        )
    return aligned(rows)
