"""Places that look alike: sets with exact truth, rendered, reconstructed, and judged.

    python -m benchmarks.alike --out FOLDER [--sets NAME ...] [--run NAME] [--keep] [-- OPTIONS OF RECONSTRUCT.PY]

Sets are rendered to FOLDER/sets (once), reconstructed in FOLDER/RUN/SET, and judged: FOLDER/RUN/alike.json and .md have
a line for each. A model is folded where two or more of its cameras are elsewhere than they were, by a quarter of the
distance between the places that look alike or by 15 degrees, after the similarity that most of its cameras agree on.
`refused`: verified pairs that were; `wrongly`: those of which most verified matches are right; `wrong pairs kept`:
verified pairs of which most are wrong, and that were not refused. In brackets: how many models are right.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.alike_truth import Truth, misplaced
from benchmarks.measure import code_version, machine, run_measured
from sfm.datasets.alike.sets import RECIPES, write
from sfm.evaluation.model import camera_poses, read_model
from sfm.storage.database import FeatureDatabase
from sfm.types import TwoViewGeometry

RIGHT = 0.5  # of a pair's verified matches


@dataclass(frozen=True)
class Row:
    """One set. models: sizes, largest first. misplaced: of each. right: how many models there should be. wrong: pairs
    that were kept, most of whose matches are wrong."""

    name: str
    images: int
    registered: int
    models: tuple[int, ...]
    misplaced: tuple[int, ...]
    right: int
    refused: int
    wrongly_refused: int
    wrong: int

    @property
    def is_folded(self) -> bool:
        """Whether one of the models is."""
        return any(num >= 2 for num in self.misplaced)


def judged(name: str, folder: Path, out: Path) -> Row:
    """The run of a set, by its truth."""
    truth = Truth.read(folder)
    kept = out / ("sparse" if (out / "sparse").is_dir() else "unrefined")
    paths = sorted(p for p in kept.glob("*") if (p / "images.bin").is_file())
    found = [camera_poses(read_model(path)) for path in paths]
    with FeatureDatabase.open(out / "features.h5") as db:
        alike = {each.pair for each in db.read_refused()}
        right = {g.pair: _is_right(db, g, truth) for g in db.read_two_view() if len(g.inliers)}
    return Row(
        name,
        len(truth.poses),
        len(set().union(*found)) if found else 0,
        tuple(len(poses) for poses in found),
        tuple(len(misplaced(poses, truth)) for poses in found),
        truth.models,
        len(alike),
        sum(right[pair] for pair in alike),
        sum(not ok for pair, ok in right.items() if pair not in alike),
    )


def _is_right(db: FeatureDatabase, geometry: TwoViewGeometry, truth: Truth) -> bool:
    """Whether most of a pair's verified matches lead to the same spot."""
    matches = db.read_matches(geometry.pair)
    rows = geometry.inliers.astype(np.int64)
    return truth.share_right(geometry.pair, matches.points0[rows], matches.points1[rows]) >= RIGHT


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = ["| set | folded | registered | models (right) | misplaced | refused | wrongly | wrong pairs kept |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        models = f"{' + '.join(map(str, row.models)) or 'none'} ({row.right})"
        cells = [row.name, "**folded**" if row.is_folded else "no", f"{row.registered} of {row.images}", models]
        cells += [" + ".join(map(str, row.misplaced)), str(row.refused), str(row.wrongly_refused), str(row.wrong)]
        lines.append("| " + " | ".join(cells) + " |")
    folded, lost = sum(row.is_folded for row in rows), sum(row.images - row.registered for row in rows)
    lines.append(f"\n{folded} of {len(rows)} folded; {lost} images in no model; {code_version()}; {machine()}")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=list(RECIPES), default=list(RECIPES), metavar="NAME")
    parser.add_argument("--run", default="run", help="name of the folder of results")
    parser.add_argument("--keep", action="store_true", help="judge the runs that are there already without another")
    parser.add_argument("options", nargs="*", help="of reconstruct.py, after --")
    args = parser.parse_args()
    rows = []
    for name in args.sets:
        folder, out = args.out / "sets" / name, args.out / args.run / name
        if not (folder / "truth.npz").is_file():
            write(name, folder)
        if not (args.keep and (out / "run.json").is_file()):
            out.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "reconstruct.py", str((folder / "images").resolve()), str(out.resolve())]
            run_measured([*command, *args.options], out.with_suffix(".log"))
        rows.append(judged(name, folder, out))
        print(table(rows).splitlines()[len(rows) + 1], flush=True)
    text = table(rows)
    (args.out / args.run / "alike.md").write_text(text, encoding="utf-8")
    (args.out / args.run / "alike.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
