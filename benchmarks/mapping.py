"""Time and memory of mapping against the number of images: walks along a corridor (tests/support/corridor.py).

python -m benchmarks.mapping [--images 100 250 1000] [--keypoints 600] [--threads 0]

Each walk is mapped in a process of its own, whose processor time and peak memory are printed, with how many images are
registered and how far their centres are from where they were (metres, after a similarity; images are 0.12 m apart).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from sfm.geometry.similarity import fit_similarity
from sfm.mapping.stage import reconstruct
from sfm.options import MappingOptions
from tests.support.corridor import walk

COLUMNS = ("images", "registered", "observations", "wall_s", "cpu_s", "cpu_ms_an_image", "peak_mb", "error_m")


def measure(num_images: int, keypoints: int, threads: int) -> dict[str, float]:
    """One walk, mapped in this process."""
    truth = walk(num_images, per_image=keypoints)
    started, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        model = reconstruct(truth.data, MappingOptions(threads=threads), Path(folder)).models[0]
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    ids = sorted(model.reg_image_ids())
    centres = np.array([model.images[i].projection_center() for i in ids])
    true = np.array([-pose[:, :3].T @ pose[:, 3] for pose in (truth.poses[i - 1] for i in ids)])
    similarity = fit_similarity(centres, true)
    assert similarity is not None
    values = (
        *(num_images, len(ids), model.compute_num_observations(), round(wall, 1), round(cpu, 1)),
        round(1000 * cpu / num_images),
        round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        round(float(np.sqrt((np.linalg.norm(similarity(centres) - true, axis=1) ** 2).mean())), 4),
    )
    return dict(zip(COLUMNS, values, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[100, 250, 1000])
    parser.add_argument("--keypoints", type=int, default=600, help="an image, about")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.images[0], args.keypoints, args.threads)))
        return
    print("  ".join(COLUMNS))
    for num in args.images:
        words = ["--one", "--images", num, "--keypoints", args.keypoints, "--threads", args.threads]
        run = [sys.executable, "-m", "benchmarks.mapping", *map(str, words)]
        row = json.loads(subprocess.run(run, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        print("  ".join(f"{row[name]:>{len(name)}}" for name in COLUMNS), flush=True)


if __name__ == "__main__":
    main()
