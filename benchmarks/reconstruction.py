"""Whole reconstructions beside COLMAP's SIFT: registered images, pose AUC@1/3/5, points, time and peak memory.

    python -m benchmarks.reconstruction [--datasets FOLDER] [--scenes NAME ...] [--out FOLDER] [--json FILE]
                                        [-- OPTIONS OF RECONSTRUCT.PY]

A scene is a folder with images/ and, where the truth is known, a COLMAP model gt/. Each method runs in a process
of its own, one after the other, from nothing: `python reconstruct.py IMAGES OUT`, and benchmarks/colmap_sift.py.
Both estimate the intrinsics, one camera for all photos of one size. A method that leaves no model has registered
nothing. AUC is over all pairs of the truth's images, unregistered ones infinitely wrong (sfm/evaluation.py).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pycolmap

from benchmarks.measure import DATASETS, Measured, run_measured
from sfm.errors import BadFile
from sfm.evaluation import (
    ModelStatistics,
    camera_poses,
    centre_errors,
    evaluate,
    model_folders,
    model_statistics,
    read_model,
    read_truth,
)


@dataclass(frozen=True)
class Row:
    """One method on one scene. auc: degrees to 0..1, empty without truth. centre_error: median, as a part of the
    scene's extent. models: sub-models, of which the one with most images is measured."""

    scene: str
    method: str
    registered: int
    total: int
    models: int
    auc: dict[str, float]
    centre_error: float | None
    points3D: int
    observations: int
    track_length: float | None
    reprojection_error: float | None
    seconds: float
    cpu_seconds: float
    peak_mib: float
    exit_code: int


def commands(images: Path, out: Path, options: Sequence[str]) -> dict[str, list[str]]:
    """What is run, by the method's name."""
    return {
        "ours": [sys.executable, "reconstruct.py", str(images), str(out / "ours"), *options],
        "COLMAP SIFT": [sys.executable, "-m", "benchmarks.colmap_sift", str(images), str(out / "COLMAP SIFT")],
    }


def measure(scene: Path, method: str, command: Sequence[str], out: Path) -> Row:
    """Run one method on one scene and judge its model."""
    folder = out / method
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    measured = run_measured(command, out / f"{method}.log")
    if measured.exit_code:
        print(f"{scene.name}, {method}: exit code {measured.exit_code}, see {out / f'{method}.log'}", file=sys.stderr)
    return judge(scene, method, folder, measured)


def judge(scene: Path, method: str, folder: Path, measured: Measured) -> Row:
    """The Row of a finished run."""
    truth = read_truth(scene / "gt") if (scene / "gt").is_dir() else None
    try:
        model, num_models = read_model(folder, truth), len(model_folders(folder))
    except BadFile:
        model, num_models = pycolmap.Reconstruction(), 0
    statistics = model_statistics(model)
    row: dict[str, Any] = {"registered": statistics.registered, "auc": {}, "centre_error": None}
    row["total"] = sum(path.is_file() for path in (scene / "images").rglob("*"))
    if truth is not None:
        found = evaluate(model, truth)
        row |= {"registered": found.registered, "total": found.total}
        row["auc"] = {f"{threshold:g}": area for threshold, area in found.auc.items()}
        centres = centre_errors(camera_poses(model), truth)
        row["centre_error"] = None if centres is None else centres.median_relative
    return Row(
        scene=scene.name,
        method=method,
        models=num_models,
        **row,
        **plain(statistics),
        seconds=measured.seconds,
        cpu_seconds=measured.cpu_seconds,
        peak_mib=measured.peak_mib,
        exit_code=measured.exit_code,
    )


def plain(statistics: ModelStatistics) -> dict[str, Any]:
    """Columns of the model alone; means over no points are None."""
    some = statistics.points3D > 0
    return {
        "points3D": statistics.points3D,
        "observations": statistics.observations,
        "track_length": statistics.track_length if some else None,
        "reprojection_error": statistics.reprojection_error if some else None,
    }


def markdown(rows: Sequence[Row]) -> str:
    """One line a method and scene."""
    lines = [
        "| scene | method | registered | AUC@1 / 3 / 5 | centre error | points | track length | reproj. px | s | CPU s "
        "| peak MiB |",
        "| --- " * 11 + "|",
    ]
    for row in rows:
        areas = " / ".join(f"{area:.3f}" for area in row.auc.values()) or "-"
        models = f" ({row.models} models)" if row.models > 1 else ""
        lines.append(
            f"| {row.scene} | {row.method} | {row.registered}/{row.total}{models} | {areas} "
            f"| {number(row.centre_error, '.2%')} | {row.points3D} | {number(row.track_length, '.2f')} "
            f"| {number(row.reprojection_error, '.2f')} | {row.seconds:.1f} | {row.cpu_seconds:.1f} "
            f"| {row.peak_mib:.0f} |"
        )
    return "\n".join(lines)


def number(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reconstruction",
        description=(__doc__ or "").split("\n")[0],
        epilog="what follows -- goes to reconstruct.py",
    )
    parser.add_argument("--datasets", type=Path, default=DATASETS, help="folder of scenes")
    parser.add_argument("--scenes", nargs="+", metavar="NAME", help="default: all that have images/")
    parser.add_argument("--methods", nargs="+", choices=("ours", "COLMAP SIFT"), default=("ours", "COLMAP SIFT"))
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="keep models and logs here")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers")
    parser.add_argument("options", nargs="*", metavar="OPTION", help="of reconstruct.py, after --")
    args = parser.parse_args(argv)
    names = args.scenes or sorted(path.parent.name for path in args.datasets.glob("*/images"))
    args.scenes = [args.datasets / name for name in names]
    if missing := [str(scene) for scene in args.scenes if not (scene / "images").is_dir()]:
        parser.error(f"no images/ in {', '.join(missing)}")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for scene in args.scenes:
            out = (args.out or Path(scratch)).resolve() / scene.name
            for method, command in commands((scene / "images").resolve(), out, args.options).items():
                if method in args.methods:
                    rows.append(measure(scene, method, command, out))
                    print(markdown(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(markdown(rows))
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
