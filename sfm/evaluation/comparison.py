"""Models of the same images side by side, say by LoFTR and by SIFT, with their errors where there is ground truth.

Images are the same where their names are. Without ground truth the comparison shows how far the models agree
after a similarity transformation between their camera centres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

import numpy as np

from sfm.errors import BadOption
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
    some_names,
)
from sfm.geometry.poses import rotation_angle_deg
from sfm.system.tables import aligned

MAX_MODELS = len(ascii_uppercase)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the models. only_here: names of images that no other has registered. evaluation: against the true_poses,
    None where none was given."""

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
    """Two or more models side by side. common: images registered in all. agreements: of each but the first with the
    first; None with fewer than three common images, or all of them on a line."""

    sides: tuple[Side, ...]
    common: int
    agreements: tuple[Agreement | None, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of all models. values: nan where a model has none. sign: 1 where more is better, -1 where less is, 0
    where neither is."""

    label: str
    texts: tuple[str, ...]
    values: tuple[float, ...]
    sign: int

    @property
    def best(self) -> tuple[int, ...]:
        """The models of the best value, by number; none where it says nothing or all have the same."""
        known = {k: self.sign * value for k, value in enumerate(self.values) if np.isfinite(value)}
        top = max(known.values(), default=0.0)
        found = tuple(k for k, value in known.items() if value == top)
        return found if self.sign and len(found) < len(self.values) else ()


def compare(models: Sequence[Path], ground_truth: Path | None = None) -> Comparison:
    """Compare the models at two or more paths: model folders, folders of sub-models (the largest counts), or run
    outputs.

    Raises BadFile where a path holds no readable model, BadOption where there are fewer than two paths or too many.
    """
    if not 2 <= len(models) <= MAX_MODELS:
        raise BadOption(
            f"compare: {len(models)} given; give 2 to {MAX_MODELS} models (OUT of a run, or a COLMAP model)"
        )
    true_poses = None if ground_truth is None else read_ground_truth(ground_truth)
    read = [read_model(path, true_poses) for path in models]
    poses = [camera_poses(model) for model in read]
    sides = []
    for k, (path, model) in enumerate(zip(models, read, strict=True)):
        others = {name for j, own in enumerate(poses) if j != k for name in own}
        evaluation = None if true_poses is None else evaluate(model, true_poses)
        sides.append(Side(path, model_statistics(model), tuple(sorted(poses[k].keys() - others)), evaluation))
    common = set(poses[0]).intersection(*poses[1:])
    return Comparison(tuple(sides), len(common), tuple(agreement(own, poses[0]) for own in poses[1:]))


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


def letters(comparison: Comparison) -> tuple[str, ...]:
    """Short names of the models: A, B, C, ..."""
    return tuple(ascii_uppercase[: len(comparison.sides)])


def format_table(comparison: Comparison, *, names: Sequence[str] | None = None) -> str:
    """The comparison for people: a column a model, then what they do not share and how far they agree."""
    names = letters(comparison) if names is None else tuple(names)
    rows = [("", *names), *((row.label, *row.texts) for row in table_rows(comparison))]
    named = list(zip(names, comparison.sides, strict=True))
    lines = [f"{name} = {side.path}" for name, side in named]
    lines += ["", aligned(rows), "", f"images in {'both' if len(named) == 2 else 'all'}: {comparison.common}"]
    lines += [f"only in {name}: {some_names(side.only_here)}" for name, side in named if side.only_here]
    return "\n".join([*lines, *agreement_lines(comparison, names)])


def table_rows(comparison: Comparison) -> list[Row]:
    """The figures of all models."""
    statistics = [side.statistics for side in comparison.sides]
    rows = [
        row("registered images", [own.registered for own in statistics], "d", 1),
        row("3D points", [own.points3D for own in statistics], ",d", 1),
        row("observations", [own.observations for own in statistics], ",d", 1),
        row("mean track length", [own.track_length for own in statistics], ".2f", 1),
        row("reprojection error, px", [own.reprojection_error for own in statistics], ".3f", -1),
    ]
    evaluations = [side.evaluation for side in comparison.sides if side.evaluation is not None]
    return rows + (_evaluation_rows(evaluations) if len(evaluations) == len(statistics) else [])


def _evaluation_rows(found: Sequence[Evaluation]) -> list[Row]:
    shares = tuple(f"{own.registered}/{own.total}" for own in found)
    rows = [Row("registered of GT", shares, tuple(float(own.registered) for own in found), 1)]
    rows += [row(f"pose AUC @ {deg:g}°", [own.auc[deg] for own in found], ".3f", 1) for deg in found[0].auc]
    for what in ("median", "max"):
        errors = [float("nan") if own.centres is None else float(getattr(own.centres, what)) for own in found]
        rows.append(row(f"centre error, {what}", errors, ".4g", -1))
    return rows


def row(label: str, values: Sequence[float], spec: str, sign: int) -> Row:
    """A row of numbers written by one format; nan as "-"."""
    texts = tuple(format(value, spec) if np.isfinite(value) else "-" for value in values)
    return Row(label, texts, tuple(map(float, values)), sign)


def agreement_lines(comparison: Comparison, names: Sequence[str]) -> list[str]:
    """How far the models agree with the first, for people."""
    lines = []
    for name, found in zip(names[1:], comparison.agreements, strict=True):
        lines.append(
            f"{name} and {names[0]}: too few common images to align the models (three that are not on a line)"
            if found is None
            else f"{name} aligned to {names[0]}: centres {found.centre_median:.3%} of the extent apart (median), "
            f"{found.centre_max:.3%} at most ({found.worst_image}); "
            f"rotations {found.rotation_median_deg:.3f}° (median), {found.rotation_max_deg:.3f}° at most"
        )
    return lines
