"""Which poses of two images `loftr-sfm match` trusts, and how many of these are wrong, on pairs with true poses.

    python -m benchmarks.trusted [--sets room strecha dino] [--weights NAME ...] [--confidence C] [--at-least N ...]

Each pair is matched as `match A B --rotations off` does with its true intrinsics. A pose is right where the larger one
of the errors of its rotation and of its direction is at most 10 degrees. The columns: pairs; right poses; poses that
are trusted; of these the wrong ones; right ones that are trusted, as a share of the right ones; and pose AUC.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.measure import DATASETS
from benchmarks.scale import table
from benchmarks.two_view import SETS, Array, PosedPair, View, cached, pose_error_deg, read_set
from benchmarks.wide_baseline import room_pairs
from sfm.evaluation.aligned_matches import align_pair
from sfm.evaluation.model import auc
from sfm.evaluation.most_confident import two_view_matcher
from sfm.geometry.pixels import allowed_error
from sfm.two_view.api import GIVEN, two_view
from sfm.two_view.options import TwoImageOptions
from sfm.types import CameraPrior, ImageRecord

RIGHT_DEG = 10.0
THRESHOLDS = (5, 10, 20)  # degrees


@dataclass(frozen=True)
class Judged:
    """A pair: the error of its pose, degrees, inf without one, and whether it is trusted."""

    error_deg: float
    trusted: bool

    @property
    def right(self) -> bool:
        """The pose is near enough."""
        return self.error_deg <= RIGHT_DEG


def record(view: View) -> ImageRecord:
    """A view with its true camera, which somebody gave."""
    height, width = view.grey.shape
    params = np.array([view.K[0, 0], view.K[1, 1], view.K[0, 2], view.K[1, 2]])
    camera = CameraPrior("PINHOLE", params, has_focal_prior=True, group=GIVEN)
    return ImageRecord(view.name, width, height, camera, "")


def judged(pairs: Sequence[PosedPair], options: TwoImageOptions) -> list[Judged]:
    """All pairs, matched with these options."""
    matcher, select = two_view_matcher(options)
    encode = cached(lambda view: matcher.encode([view.grey])[0])
    found = []
    for pair in pairs:
        images = record(pair.view0), record(pair.view1)
        grids = [matcher.grid(image.width, image.height) for image in images]
        error = allowed_error(grids, matcher.traits, options.max_error)
        (matches,) = matcher.match([(encode(pair.view0), encode(pair.view1))])
        greys = (pair.view0.grey, pair.view1.grey)
        matches, _ = align_pair(select(matches), greys, matcher, options, seed=options.seed)
        result = two_view(matches, images, max_error=error, seed=options.seed, dense=matcher.traits.dense)
        pose: Array | None = result.cam1_from_cam0
        found.append(Judged(pose_error_deg(pair, pose), result.trusted))
    return found


def row(pairs: Sequence[Judged]) -> list[str]:
    """Its columns of the table."""
    right = [pair for pair in pairs if pair.right]
    trusted = [pair for pair in pairs if pair.trusted]
    wrong = sum(not pair.right for pair in trusted)
    share = sum(pair.trusted for pair in right) / max(len(right), 1)
    errors = [pair.error_deg for pair in pairs]
    return [
        *map(str, (len(pairs), len(right), len(trusted), wrong)),
        f"{share:.0%}",
        " / ".join(f"{100 * auc(errors, threshold):.1f}" for threshold in THRESHOLDS),
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """The benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", type=Path, default=DATASETS, metavar="FOLDER", help="folder of the scenes")
    parser.add_argument("--sets", nargs="+", choices=("room", *SETS), default=["room", "strecha", "dino"])
    parser.add_argument("--weights", nargs="+", default=["compact", "compact-wide"], metavar="NAME|FILE")
    parser.add_argument("--confidence", type=float, default=TwoImageOptions().confidence, metavar="C")
    parser.add_argument("--no-align", action="store_true", help="as of `loftr-sfm match`")
    parser.add_argument("--at-least", nargs="+", type=int, default=[0, TwoImageOptions().at_least], metavar="N")
    args = parser.parse_args(argv)
    rows = []
    for name in args.sets:
        pairs = room_pairs(args.datasets) if name == "room" else read_set(name, args.datasets)
        for weights in args.weights:
            for at_least in args.at_least:
                options = TwoImageOptions(
                    weights=weights, confidence=args.confidence, at_least=at_least, turns="off", no_align=args.no_align
                )
                rows.append([name, Path(weights).stem, str(at_least), *row(judged(pairs, options))])
                print(*rows[-1], sep="  ", flush=True)
    titles = (
        "set",
        "weights",
        "at least",
        "pairs",
        "right",
        "trusted",
        "of them wrong",
        "right ones trusted",
        "AUC@5/10/20",
    )
    print("", table(titles, rows), sep="\n")


if __name__ == "__main__":
    main()
