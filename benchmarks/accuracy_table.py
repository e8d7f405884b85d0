"""The rows of benchmarks/accuracy.py: a reconstruction evaluated against ground truth, and the tables of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pycolmap

from sfm.colmap.model_reader import model_folders
from sfm.errors import BadFile
from sfm.evaluation.model import (
    camera_poses,
    centre_errors,
    evaluate,
    model_statistics,
    read_ground_truth,
    read_model,
)

LABELS = {
    "colmap": "COLMAP",
    "colmap-refined": "COLMAP, then refine",
    "sift-unrefined": "SIFT, unrefined",
    "sift": "SIFT",
    "loftr-unrefined": "LoFTR, unrefined",
    "loftr": "LoFTR",
    "loftr+sift": "LoFTR + SIFT",
    "xfeat": "XFeat",
    "aliked-lightglue": "ALIKED + LightGlue",
}
INTRINSICS = ("known", "unknown")
MAPPERS = ("incremental", "global")
EVERY_RUN = ("images", "pairs")  # stages that take no time worth a column


@dataclass(frozen=True)
class Row:
    """One method on one scene. command: what was run. registered: images of the ground truth in the largest model, of
    `total`. models: how many there are. auc: degrees to 0..1, empty without ground truth. centre_error: median, as a
    part of the scene's extent. stages: seconds of each, matching too where its results were reused. seconds: wall time
    of the whole from nothing; where a model is refined, of that alone. peak_mib: of the largest process. made: when,
    where and with what it was measured."""

    scene: str
    method: str
    intrinsics: str
    mapper: str
    command: list[str]
    registered: int
    total: int
    models: int
    auc: dict[str, float]
    centre_error: float | None
    points3D: int
    observations: int
    track_length: float | None
    reprojection_error: float | None
    stages: dict[str, float]
    seconds: float
    peak_mib: float
    exit_code: int
    made: dict[str, str]


def model_columns(scene: Path, out: Path) -> dict[str, Any]:
    """The columns of a Row that the model in `out` gives, against scene/gt where there is one; no model is an empty
    one."""
    ground_truth = read_ground_truth(scene / "gt") if (scene / "gt").is_dir() else None
    try:
        model, num_models = read_model(out, ground_truth), len(model_folders(out))
    except BadFile:
        model, num_models = pycolmap.Reconstruction(), 0
    statistics = model_statistics(model)
    some = statistics.points3D > 0
    row: dict[str, Any] = {
        "registered": statistics.registered,
        "total": sum(path.is_file() for path in (scene / "images").rglob("*")),
        "models": num_models,
        "auc": {},
        "centre_error": None,
        "points3D": statistics.points3D,
        "observations": statistics.observations,
        "track_length": statistics.track_length if some else None,
        "reprojection_error": statistics.reprojection_error if some else None,
    }
    if ground_truth is None:
        return row
    found, centres = evaluate(model, ground_truth), centre_errors(camera_poses(model), ground_truth)
    return row | {
        "registered": found.registered,
        "total": found.total,
        "auc": {f"{threshold:g}": area for threshold, area in found.auc.items()},
        "centre_error": None if centres is None else centres.median_relative,
    }


def read_rows(out: Path) -> list[Row]:
    """All finished cells of a folder: scene by scene, in the order in which methods are compared."""
    rows = [Row(**json.loads(path.read_text())) for path in out.glob("*/*/row.json")]
    methods = tuple(LABELS)

    def order(row: Row) -> tuple[str, int, int, int]:
        return row.scene, MAPPERS.index(row.mapper), INTRINSICS.index(row.intrinsics), methods.index(row.method)

    return sorted(rows, key=order)


def report(rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """The whole Markdown: what was measured on what, the compact table, the full one."""
    mapper = next((mapper for mapper in MAPPERS if any(row.mapper == mapper for row in rows)), MAPPERS[0])
    parts = [
        "# Accuracy",
        heading(rows),
        *notes,
        f"## In short ({mapper} mapping)",
        compact_table([row for row in rows if row.mapper == mapper]),
        "## All runs",
        full_table(rows),
    ]
    return "\n\n".join(parts) + "\n"


def heading(rows: Sequence[Row]) -> str:
    """Date, machine, versions and weights of the rows: all that there are, if they were not the same throughout."""
    made = {key: _distinct(row.made.get(key, "") for row in rows) for key in ("date", "machine", "code", "versions")}
    weights = _distinct(row.made.get("weights", "") for row in rows)
    return (
        f"Measured {made['date']} on {made['machine']}. {made['versions']}. Code: {made['code']}. Weights: {weights}.\n"
        "AUC is over the relative poses of all image pairs (degrees); pairs with an unregistered image count as "
        "wrong. Known intrinsics: the ground truth's, kept fixed. Unknown: estimated, from EXIF where there is any. "
        "Each row is a process of its own; matching runs once per scene and matcher, and its time counts in every row. "
        "Centre error: median, relative to the scene's extent."
    )


def _distinct(values: Iterable[str]) -> str:
    return "; ".join(sorted({value for value in values if value}))


def compact_table(rows: Sequence[Row]) -> str:
    """A line a scene and method, known and unknown intrinsics beside each other; what else there is to say is of the
    unknown ones, where they were run."""
    lines = [
        "| scene | | registered | known intrinsics: AUC@1 / 3 / 5 | unknown: AUC@1 / 3 / 5 | points | track length "
        "| seconds | peak MiB |",
        "| --- " * 9 + "|",
    ]
    cells: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        cells.setdefault((row.scene, row.method), {})[row.intrinsics] = row
    for (scene, method), by_intrinsics in cells.items():
        last = by_intrinsics.get("unknown") or by_intrinsics["known"]
        registered = " and ".join(dict.fromkeys(_registered(row) for row in by_intrinsics.values()))
        lines.append(
            f"| {scene} | {LABELS[method]} | {registered} | {_areas(by_intrinsics.get('known'))} "
            f"| {_areas(by_intrinsics.get('unknown'))} | {last.points3D:,} | {_number(last.track_length, '.1f')} "
            f"| {last.seconds:.0f} | {last.peak_mib:.0f} |"
        )
    return "\n".join(lines)


def full_table(rows: Sequence[Row]) -> str:
    """A line a row, with the seconds of each stage."""
    stages = [name for name in dict.fromkeys(name for row in rows for name in row.stages) if name not in EVERY_RUN]
    columns = [
        *("scene", "method", "intrinsics", "mapper", "registered", "AUC@1 / 3 / 5", "centre error", "points"),
        *("observations", "track length", "reproj. px", *(f"{stage} s" for stage in stages), "all s", "peak MiB"),
    ]
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    return "\n".join(lines + [f"| {' | '.join(_full_line(row, stages))} |" for row in rows])


def _full_line(row: Row, stages: Sequence[str]) -> list[str]:
    return [
        *(row.scene, LABELS[row.method], row.intrinsics, row.mapper, _registered(row), _areas(row)),
        *(_number(row.centre_error, ".3%"), f"{row.points3D:,}", f"{row.observations:,}"),
        *(_number(row.track_length, ".2f"), _number(row.reprojection_error, ".3f")),
        *(_number(row.stages.get(stage), ".1f") for stage in stages),
        *(f"{row.seconds:.1f}", f"{row.peak_mib:.0f}"),
    ]


def line(row: Row) -> str:
    """A row in few words, for the terminal."""
    return (
        f"{row.scene}, {LABELS[row.method]}, {row.intrinsics}, {row.mapper}: {_registered(row)}, "
        f"AUC {_areas(row)}, {row.seconds:.0f} s"
    )


def _registered(row: Row) -> str:
    models = f" ({row.models} models)" if row.models > 1 else ""
    failed = f" (exit code {row.exit_code})" if row.exit_code else ""
    return f"{row.registered}/{row.total}{models}{failed}"


def _areas(row: Row | None) -> str:
    areas: Mapping[str, float] = {} if row is None else row.auc
    return " / ".join(f"{area:.3f}" for area in areas.values()) or "-"


def _number(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)
