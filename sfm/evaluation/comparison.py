"""Two models of the same images side by side, say by LoFTR and by SIFT, with their errors where there is ground truth.

Images are the same where their names are. Without ground truth the comparison shows how far the models agree
after a similarity transformation between their camera centres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfm.evaluation.model import (
    Evaluation,
    ModelStatistics,
    Poses,
    align,
    camera_centres,
    camera_poses,
    evaluate,
    extent,
    model_statistics,
    read_ground_truth,
    read_model,
)
from sfm.geometry.poses import rotation_angle_deg
from sfm.system.tables import aligned

MAX_NAMES = 8


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two models. only_here: names of images that the other has not registered. evaluation: against the
    true_poses, None where none was given."""

    path: Path
    statistics: ModelStatistics
    only_here: tuple[str, ...]
    evaluation: Evaluation | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Distances of the common cameras of A to those of B after aligning A to B. Centres as parts of B's extent (the
    largest distance between two of its common centres), rotations in degrees."""

    centre_median: float
    centre_max: float
    rotation_median_deg: float
    rotation_max_deg: float
    worst_image: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models side by side. common: images registered in both. agreement: None with fewer than three common
    images, or all of them on a line."""

    a: Side
    b: Side
    common: int
    agreement: Agreement | None


def compare(model_a: Path, model_b: Path, ground_truth: Path | None = None) -> Comparison:
    """Compare the models at two paths: model folders, folders of sub-models (the largest counts), or run outputs.

    Raises BadFile where a path holds no readable model.
    """
    true_poses = None if ground_truth is None else read_ground_truth(ground_truth)
    a, b = (read_model(path, true_poses) for path in (model_a, model_b))
    poses_a, poses_b = camera_poses(a), camera_poses(b)
    evaluation_a, evaluation_b = (None if true_poses is None else evaluate(model, true_poses) for model in (a, b))
    return Comparison(
        Side(model_a, model_statistics(a), tuple(sorted(poses_a.keys() - poses_b.keys())), evaluation_a),
        Side(model_b, model_statistics(b), tuple(sorted(poses_b.keys() - poses_a.keys())), evaluation_b),
        common=len(poses_a.keys() & poses_b.keys()),
        agreement=agreement(poses_a, poses_b),
    )


def agreement(poses_a: Poses, poses_b: Poses) -> Agreement | None:
    """How far two sets of cam_from_world poses agree; None where they cannot be aligned."""
    aligned = align(poses_a, poses_b)
    if aligned is None:
        return None
    b_from_a, distances, names = aligned
    size = extent(camera_centres({name: poses_b[name] for name in names}))
    rotations = [b_from_a.transform_pose(poses_a[name])[:, :3] @ poses_b[name][:, :3].T for name in names]
    angles = rotation_angle_deg(np.array(rotations))
    return Agreement(
        centre_median=float(np.median(distances)) / size,
        centre_max=float(distances.max()) / size,
        rotation_median_deg=float(np.median(angles)),
        rotation_max_deg=float(angles.max()),
        worst_image=names[int(distances.argmax())],
    )


def format_table(comparison: Comparison, *, names: tuple[str, str] = ("A", "B")) -> str:
    """The comparison for people: a column a model, then what they do not share and how far they agree."""
    a, b = comparison.a, comparison.b
    rows = [("", *names), *table_rows(comparison)]
    lines = [f"{name} = {side.path}" for name, side in zip(names, (a, b), strict=True)]
    lines += ["", aligned(rows), "", f"images in both: {comparison.common}"]
    lines += [f"only in {name}: {_some(s.only_here)}" for name, s in zip(names, (a, b), strict=True) if s.only_here]
    return "\n".join([*lines, *agreement_lines(comparison.agreement, names)])


def table_rows(comparison: Comparison) -> list[tuple[str, str, str]]:
    """The figures of both models: label, A's, B's."""
    a, b = comparison.a, comparison.b
    rows = _statistics_rows(a.statistics, b.statistics)
    if a.evaluation and b.evaluation:
        rows += _evaluation_rows(a.evaluation, b.evaluation)
    return rows


def _statistics_rows(a: ModelStatistics, b: ModelStatistics) -> list[tuple[str, str, str]]:
    return [
        ("registered images", str(a.registered), str(b.registered)),
        ("3D points", f"{a.points3D:,}", f"{b.points3D:,}"),
        ("observations", f"{a.observations:,}", f"{b.observations:,}"),
        ("mean track length", _number(a.track_length, ".2f"), _number(b.track_length, ".2f")),
        ("reprojection error, px", _number(a.reprojection_error, ".3f"), _number(b.reprojection_error, ".3f")),
    ]


def _evaluation_rows(a: Evaluation, b: Evaluation) -> list[tuple[str, str, str]]:
    rows = [("registered of GT", f"{a.registered}/{a.total}", f"{b.registered}/{b.total}")]
    rows += [(f"pose AUC @ {deg:g}°", f"{area:.3f}", f"{b.auc[deg]:.3f}") for deg, area in a.auc.items()]
    (median_a, max_a), (median_b, max_b) = _centres(a), _centres(b)
    return [*rows, ("centre error, median", median_a, median_b), ("centre error, max", max_a, max_b)]


def _centres(evaluation: Evaluation) -> tuple[str, str]:
    found = evaluation.centres
    return ("-", "-") if found is None else (f"{found.median:.4g}", f"{found.max:.4g}")


def agreement_lines(found: Agreement | None, names: tuple[str, str]) -> list[str]:
    """How far the models agree, for people."""
    if found is None:
        return ["too few common images to align the models (three that are not on a line)"]
    return [
        f"{names[0]} aligned to {names[1]}: centres {found.centre_median:.3%} of the extent apart (median), "
        f"{found.centre_max:.3%} at most ({found.worst_image}); "
        f"rotations {found.rotation_median_deg:.3f}° (median), {found.rotation_max_deg:.3f}° at most"
    ]


def _number(value: float, spec: str) -> str:
    return format(value, spec) if np.isfinite(value) else "-"


def _some(names: Sequence[str]) -> str:
    rest = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {rest} more" if rest > 0 else "")
