"""The Image Matching Challenge 2022: a matcher's score on scenes with known cameras, or its answers to the test set.

A pair's answer is a fundamental matrix, estimated from the matches by COLMAP's LO-RANSAC without knowledge of the
cameras. Scores: sfm.evaluation.pose_metrics; files: sfm.datasets.imc2022. Pixels are COLMAP's in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pycolmap

from sfm.datasets import imc2022
from sfm.errors import BadFile
from sfm.evaluation.ground_truth_pairs import sample
from sfm.evaluation.most_confident import Select, two_view_matcher
from sfm.evaluation.options import ChallengeEvaluation
from sfm.evaluation.pair_poses import ransac_options, reduction_of
from sfm.evaluation.pair_runner import EvaluatedPair, ImageFolder, PairProtocol, run_pairs
from sfm.evaluation.pose_metrics import (
    ROTATION_THRESHOLDS_DEG,
    TRANSLATION_THRESHOLDS_M,
    accuracies,
    challenge_errors,
    mean_average_accuracy,
)
from sfm.evaluation.result_log import Result, ResultLog
from sfm.geometry.poses import relative_pose
from sfm.images.index import read_images_index
from sfm.matchers.base import Matcher
from sfm.options import ImageOptions
from sfm.system.tables import aligned, write_json
from sfm.types import Float64

LOG = "imc2022.jsonl"


@dataclass(frozen=True, slots=True)
class SceneScore:
    """A scene's score. mAA: 0 to 1. accuracies: by pair of thresholds. Medians are over pairs, inf without an F."""

    scene: str
    pairs: int
    mAA: float
    accuracies: tuple[float, ...]
    median_rotation_deg: float
    median_translation_m: float
    without_F: float
    matches: float
    inliers: float


def evaluate_challenge(folder: Path, out: Path, options: ChallengeEvaluation | None = None) -> str:
    """Evaluates the options' matcher on the train split, or answers the test split; returns the table.

    folder: that has train/, or test.csv and test_images/. Writes out/imc2022.json or out/submission.csv, and
    out/imc2022.jsonl pair by pair: a run that was stopped carries on. Raises SfMError.
    """
    options = options or ChallengeEvaluation()
    if options.evaluation.split == "test":
        return _answer_test(folder, out, options)
    scales = imc2022.read_scaling_factors(folder)
    scenes = [_read_scene(folder, scene, scale, options) for scene, scale in scales.items()]
    log = ResultLog(out / LOG)
    matcher, select = two_view_matcher(options.matching)
    scores = [_score(scene, _protocol(scene.images, (matcher, select), options, log)) for scene in scenes]
    mean = float(np.mean([score.mAA for score in scores]))
    write_json(
        out / "imc2022.json",
        {
            "folder": str(folder),
            "matcher": dict(matcher.provenance),
            "options": asdict(options),
            "mAA": mean,
            "rotation_thresholds_deg": ROTATION_THRESHOLDS_DEG.tolist(),
            "translation_thresholds_m": TRANSLATION_THRESHOLDS_M.tolist(),
            "scenes": [asdict(score) for score in scores],
        },
    )
    return f"{matcher.name} on {folder}\n\n{table(scores, mean)}\n\nwritten: {out / 'imc2022.json'}"


# --- fundamental matrices ------------------------------------------------------------------------


def estimate_fundamental(points0: Float64, points1: Float64, *, max_error: float) -> tuple[Float64 | None, int]:
    """F (3, 3) of matches (M, 2), (M, 2) px, or None, and the number of inliers. max_error: px."""
    if len(points0) < 8:
        return None, 0
    found = pycolmap.estimate_fundamental_matrix(points0, points1, ransac_options(max_error, seed=0))
    if found is None or not np.isfinite(found["F"]).all():
        return None, 0
    return np.asarray(found["F"], np.float64), int(found["num_inliers"])


def _protocol(
    images: ImageFolder, matcher: tuple[Matcher, Select], options: ChallengeEvaluation, log: ResultLog
) -> PairProtocol:
    m = options.matching

    def evaluate_matches(pair: EvaluatedPair, points0: Float64, points1: Float64) -> Result:
        sizes = [(images.records[name].width, images.records[name].height) for name in (pair.name0, pair.name1)]
        max_error = options.evaluation.max_error * float(np.mean([reduction_of(size, m.resize) for size in sizes]))
        F, inliers = estimate_fundamental(points0, points1, max_error=max_error)
        numbers = None if F is None else F.ravel().tolist()
        return {"name0": pair.name0, "name1": pair.name1, "F": numbers, "matches": len(points0), "inliers": inliers}

    key = ["imc2022", options.evaluation.max_error, m.resize, m.confidence, m.at_least]
    return PairProtocol(*matcher, m, evaluate_matches, key, log)


def _matrix(result: Result) -> Float64 | None:
    return None if result["F"] is None else np.array(result["F"], np.float64).reshape(3, 3)


def _read_images(folder: Path) -> tuple[ImageFolder, dict[str, str]]:
    """The images of a folder, and their names without extension."""
    records, _ = read_images_index(folder, ImageOptions())
    stems = {PurePosixPath(record.name).with_suffix("").as_posix(): record.name for record in records}
    return ImageFolder(folder, {record.name: record for record in records}), stems


def _image(image: str, stems: dict[str, str], images: ImageFolder) -> str:
    if image not in stems:
        raise BadFile(f"{images.folder}: no usable image {image} in it")
    return stems[image]


# --- the train split -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    """ground_truths: of each pair K0, K1 and cam1_from_cam0 (3, 4) in the scene's unit."""

    name: str
    metres_per_unit: float
    images: ImageFolder
    pairs: tuple[EvaluatedPair, ...]
    ground_truths: tuple[tuple[Float64, Float64, Float64], ...]


def _read_scene(folder: Path, name: str, metres_per_unit: float, options: ChallengeEvaluation) -> _Scene:
    """The scene's pairs that count; all of its files are checked before anything is matched."""
    place = folder / "train" / name
    cameras = imc2022.read_calibration(place)
    covisible = imc2022.read_covisible_pairs(place, cameras, min_covisibility=options.evaluation.min_covisibility)
    chosen = sample([(pair.image_1, pair.image_2) for pair in covisible], options.evaluation.max_pairs)
    if not chosen:
        raise BadFile(f"{place / 'pair_covisibility.csv'}: no pair that counts; lower --min-covisibility")
    images, stems = _read_images(place / "images")
    pairs = tuple(EvaluatedPair(_image(a, stems, images), _image(b, stems, images)) for a, b in chosen)
    ground_truths = tuple(
        (cameras[a].K, cameras[b].K, relative_pose(cameras[a].cam_from_world, cameras[b].cam_from_world))
        for a, b in chosen
    )
    return _Scene(name, metres_per_unit, images, pairs, ground_truths)


def _score(scene: _Scene, how: PairProtocol) -> SceneScore:
    results = run_pairs(scene.images, scene.pairs, how, desc=scene.name)
    errors = np.array(
        [
            challenge_errors(_matrix(result), *ground_truth, scene.metres_per_unit)
            for result, ground_truth in zip(results, scene.ground_truths, strict=True)
        ]
    )  # (P, 2)
    rotation_deg, translation_m = errors.T
    return SceneScore(
        scene.name,
        len(results),
        mean_average_accuracy(rotation_deg, translation_m),
        tuple(accuracies(rotation_deg, translation_m).tolist()),
        float(np.median(rotation_deg)),
        float(np.median(translation_m)),
        float(np.mean([result["F"] is None for result in results])),
        float(np.mean([result["matches"] for result in results])),
        float(np.mean([result["inliers"] for result in results])),
    )


def table(scores: Sequence[SceneScore], mean: float) -> str:
    """Scores for people: a line a scene, then the challenge's score."""
    finest = f"{ROTATION_THRESHOLDS_DEG[0]:g}°, {TRANSLATION_THRESHOLDS_M[0]:g} m"
    coarsest = f"{ROTATION_THRESHOLDS_DEG[-1]:g}°, {TRANSLATION_THRESHOLDS_M[-1]:g} m"
    rows: list[tuple[str, ...]] = [
        ("scene", "pairs", "mAA", finest, coarsest, "median", "median", "no F", "matches", "inliers")
    ]
    for s in scores:
        rows.append(
            (
                s.scene,
                str(s.pairs),
                f"{s.mAA:.4f}",
                f"{s.accuracies[0]:.3f}",
                f"{s.accuracies[-1]:.3f}",
                f"{s.median_rotation_deg:.2f}°",
                f"{s.median_translation_m:.2f} m",
                f"{s.without_F:.0%}",
                f"{s.matches:.0f}",
                f"{s.inliers:.0f}",
            )
        )
    return f"{aligned(rows)}\n\nmean Average Accuracy over {len(scores)} scene(s): {mean:.4f}"


# --- the test split ------------------------------------------------------------------------------


def _answer_test(folder: Path, out: Path, options: ChallengeEvaluation) -> str:
    samples = imc2022.read_test_pairs(folder)
    images, stems = _read_images(folder / "test_images")
    names = [[_image(f"{one.batch}/{image}", stems, images) for image in (one.image_1, one.image_2)] for one in samples]
    pairs = [EvaluatedPair(first, second) for first, second in names]
    log = ResultLog(out / LOG)
    matcher, select = two_view_matcher(options.matching)
    results = run_pairs(images, pairs, _protocol(images, (matcher, select), options, log), desc="answering")
    matrices = {one.sample: _matrix(result) for one, result in zip(samples, results, strict=True)}
    imc2022.write_submission(out / "submission.csv", matrices)
    without = sum(F is None for F in matrices.values())
    return f"{out / 'submission.csv'}: {len(samples)} pairs by {matcher.name}, {without} of them without an answer"
