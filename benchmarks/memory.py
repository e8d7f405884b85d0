"""Peak memory of whole runs over more and more images of one place, under one --memory.

    python -m benchmarks.memory --out FOLDER [--images 40 100 400] [--memory GB] [-- OPTIONS OF THE RUN]

The images are rendered once, as many as the largest run takes; a smaller run takes every so manieth. Each image is
matched with the next one and with five others, about 3 to 16 degrees further along, whatever their number. The peak
of a run is the resident set of its process as the system counts it (VmHWM, reset before each stage, and wait4).
Runs that are there already are not repeated: remove their folders in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import ROOT, machine, run_measured

ARC_DEG, STEP_DEG, AHEAD = 130.0, 3.3, 5
SIZE = (480, 360)
STAGES = ("images", "pairs", "matching", "verification", "tracks", "mapping", "refinement")
_RENDER = """
import sys
from pathlib import Path
from sfm.datasets.courtyard.synthetic import SyntheticScene, write_scene
scene = SyntheticScene.render(num_images={num}, size={size}, seed=0)
write_scene(scene, Path({folder!r}))
"""


def _images(folder: Path, num: int) -> list[Path]:
    """At least `num` images along the arc, in order; rendered in a process of their own if they are not there."""

    def found() -> list[Path]:
        return sorted((folder / "images").glob("*.jpg"), key=lambda path: int(re.findall(r"\d+", path.name)[-1]))

    if len(found()) < num:
        subprocess.run(
            [sys.executable, "-c", _RENDER.format(num=num, size=SIZE, folder=str(folder))], cwd=ROOT, check=True
        )
    return found()


def _choose(images: Sequence[Path], num: int, folder: Path) -> Path:
    """A folder with `num` of the images, evenly along the arc, and their pairs in pairs.txt beside it."""
    chosen = [images[i * len(images) // num] for i in range(num)]
    (folder / "photos").mkdir(parents=True)
    for image in chosen:
        os.link(image, folder / "photos" / image.name)
    stride = max(1, round(STEP_DEG / ARC_DEG * num))
    ahead = sorted({1, *(stride * k for k in range(1, AHEAD + 1))})
    lines = [f"{chosen[i].name} {chosen[i + k].name}" for i in range(num) for k in ahead if i + k < num]
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    return folder


def _run(folder: Path, memory: float, more: Sequence[str]) -> dict[str, float]:
    """Peak MB of the whole run and of its stages, and what came out."""
    command = [
        sys.executable,
        "-c",
        "import sys; from sfm.cli.main import main; sys.exit(main())",
        str(folder / "photos"),
        str(folder / "out"),
        "--no-report",
    ]
    command += ["--pairs", str(folder / "pairs.txt"), "--memory", str(memory), *more]
    done = run_measured(command, folder / "log.txt")
    if done.exit_code not in (0, 4):  # 4: a model that is probably bad
        sys.exit(f"{folder / 'log.txt'}: the run ended with {done.exit_code}\n{done.output[-2000:]}")
    run = json.loads((folder / "out" / "run.json").read_text())
    row = {"photos": run["images"], "registered": run["registered"], "points": run["points3D"], "seconds": done.seconds}
    peaks = {stage["stage"]: stage["peak_mb"] for stage in run["stages"]}
    return row | peaks | {"peak": max(done.peak_mib * 2**20 / 1e6, *peaks.values())}  # each stage counts anew


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, nargs="+", default=[40, 100, 400])
    parser.add_argument("--memory", type=float, default=0.4, help="GB; default 0.4, the features of 33 images")
    parser.add_argument("more", nargs="*", help="options of the run")
    args = parser.parse_args()
    images = _images(args.out / "scene", max(args.images))
    print(f"{machine()}; --memory {args.memory} GB; peaks in MB\n")
    print("| " + " | ".join(("photos", "registered", "points", "seconds", "peak", *STAGES)) + " |")
    for num in args.images:
        folder = args.out / f"{num}_{args.memory}"
        if not (folder / "row.json").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            row = _run(_choose(images, num, folder), args.memory, args.more)
            (folder / "row.json").write_text(json.dumps(row))
        row = json.loads((folder / "row.json").read_text())
        cells = (round(row[key] or 0) for key in ("photos", "registered", "points", "seconds", "peak", *STAGES))
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
