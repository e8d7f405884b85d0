"""Time and peak memory of each step on a model that mapping has finished, for more and more images, without pixels.

    python -m benchmarks.finished_models [--images 100 1000]

The models are of a walk through a room (tests/support/room_walk.py): 2,000 observations an image, tracks of 8 to 9. The
peak is the resident set of the process (VmHWM, reset before each step), with the model and its copies in it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pycolmap

from benchmarks.measure import machine
from sfm.alignment.patch_warps import patch_maps, references, surface_normals
from sfm.calibration.self_calibration import calibrated_cameras
from sfm.colmap.model_arrays import ModelColumns
from sfm.colmap.model_reader import read_reconstruction
from sfm.colmap.model_writer import colour_points, write_models
from sfm.evaluation.comparison import compare
from sfm.evaluation.model import camera_poses, evaluate
from sfm.quality.parallax import rotation_share
from sfm.refinement.bundle_adjustment import Freedom, adjust
from sfm.refinement.checkpoint import Refined, load_round, save_round
from sfm.refinement.track_completion import propose
from sfm.report.any_model import write_any_report
from sfm.report.comparison import write_comparison
from sfm.system.machine import peak_mb, reset_peak
from tests.support.room_walk import SIZE, room_walk

PX = 0.5  # standard deviation of the observations


def steps(num: int, folder: Path) -> dict[str, Callable[[], object]]:
    """What is measured, in order, on a model of so many images."""
    room_walk(num, noise=PX, off=0.002).write_binary(folder)
    model = read_reconstruction(folder)
    names = {image.name for image in model.images.values()}
    covariances = {i: np.tile(PX**2 * np.eye(2), (model.images[i].num_points2D(), 1, 1)) for i in model.reg_image_ids()}
    columns = ModelColumns.of(model)
    reference = references(columns)
    focals = np.full((num, 24), columns.focals[0]) * np.geomspace(0.5, 2.0, 24)
    grey = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    rows = np.flatnonzero(reference[columns.point] != np.arange(len(columns.point)))[: 1 << 18]
    return {
        "columns": lambda: ModelColumns.of(model),
        "residuals": columns.residuals,
        "patch maps (262,144 at once)": lambda: patch_maps(
            columns, rows, reference, surface_normals(columns, reference)
        ),
        "proposals": lambda: propose(columns, reference),
        "bundle adjustment": lambda: adjust(pycolmap.Reconstruction(model), covariances, Freedom()),
        "keep and read a round": lambda: (save_round(Refined(model, covariances), folder), load_round(folder, names)),
        "calibration": lambda: calibrated_cameras(model),
        "rotation check": lambda: rotation_share(columns, focals, max_error=4 * PX),
        "colours, without decoding": lambda: colour_points(model, lambda name: grey),
        "writing": lambda: write_models([model], folder / "written"),
        "evaluation": lambda: evaluate(model, camera_poses(model)),
        "report": lambda: write_any_report(folder),
        "comparison and its report": lambda: write_comparison(
            compare([folder, folder], folder), folder / "compare.html", ground_truth=folder
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[100, 1000])
    args = parser.parse_args()
    print(f"{machine()}\n\n| images | step | s | processor s | peak MB |\n| --- " + "| --- " * 4 + "|")
    for num in args.images:
        with tempfile.TemporaryDirectory() as folder:
            for name, work in steps(num, Path(folder)).items():
                reset_peak()
                started, cpu = time.perf_counter(), time.process_time()
                work()
                seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
                print(f"| {num:,} | {name} | {seconds:.1f} | {cpu:.1f} | {peak_mb():,.0f} |", flush=True)


if __name__ == "__main__":
    main()
