"""Which pairs a value of --pairs matches, replayed on a run that has matched many more: nothing is matched again.

    python -m benchmarks.pair_growth OUT retrieval:20 auto ...

OUT: of a run with --pairs exhaustive (or as many pairs as there is time for) up to verification. Prints for each value
the pairs that it tried, how many of them are verified, and the share that this is of all verified pairs of the run,
counted, and weighed by their inliers. Pairs that the run has not matched are left out and counted. Descriptors are read
from OUT/descriptors.npz or made anew; nothing is written.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sfm.match_graph import TriedPair
from sfm.matching.pair_matching import PairMatching, num_cells
from sfm.matching.rotations import RotatedPair
from sfm.matching.stage import fits_one_place
from sfm.pairs.base import ImageSet
from sfm.pairs.registry import choose
from sfm.results.files import DATABASE, DESCRIPTORS
from sfm.results.run_json import images_folder
from sfm.storage.database import FeatureDatabase
from sfm.types import ImagePair, Matches


class ReadOnly:
    """The matches of a database under one key, and no rotated ones."""

    def __init__(self, db: FeatureDatabase) -> None:
        self._db = db
        self._held = frozenset(db.match_counts())

    def matched_pairs(self, matcher_key: str) -> frozenset[ImagePair]:
        """All pairs under the key "held"."""
        return self._held if matcher_key == "held" else frozenset()

    def read_matches(self, pair: ImagePair, *, matcher_key: str | None = None) -> Matches:
        """Of the current matcher."""
        return self._db.read_matches(pair)

    def write_matches(self, batch: Sequence[tuple[ImagePair, Matches]], *, matcher_key: str) -> None:
        """Nothing is matched."""
        raise AssertionError("nothing is matched")


class NothingMatched:
    """A session that can match nothing: what is not held is missing."""

    def __init__(self) -> None:
        self.missing: set[ImagePair] = set()

    def match_all(self, tasks: Sequence[RotatedPair]) -> Iterator[tuple[list[Any], int]]:
        """No results."""
        self.missing |= {task.pair for task in tasks}
        yield [], len(tasks)

    def fit(self, fits: Callable[..., bool], items: Iterable[tuple[ImagePair, Matches]]) -> Iterator[bool]:
        """As of sfm.matching.session."""
        return (fits(*item) for item in items)


def replayed(db: FeatureDatabase, images: ImageSet, spec: str) -> tuple[list[TriedPair], int]:
    """The pairs that a value of --pairs tries, and how many more it would have tried."""
    chosen = choose(spec, images)
    grids, traits, session = db.read_grids(), db.read_traits(), NothingMatched()
    if chosen.candidates is None:
        held = db.match_counts()
        tried = [TriedPair(pair) for pair in chosen.pairs if pair in held]
        return tried, len(chosen.pairs) - len(tried)
    cells = num_cells({record.name: record for record in images.records}, grids)
    fits = partial(fits_one_place, grids=grids, traits=traits)
    work = PairMatching(ReadOnly(db), session, ["held", "", "", ""], cells, fits)  # type: ignore[arg-type]
    tried = work.grow(chosen.pairs, images.names, chosen.candidates).tried
    return tried, len(session.missing)


def line(spec: str, tried: Sequence[TriedPair], missing: int, inliers: Mapping[ImagePair, int], seconds: float) -> str:
    """The figures of one value of --pairs. inliers: of the verified pairs of the run."""
    verified = [each.pair for each in tried if each.pair in inliers]
    weight = sum(inliers[pair] for pair in verified) / max(sum(inliers.values()), 1)
    rounds = Counter(each.round for each in tried)
    reasons = ", ".join(f"{number} {reason}" for reason, number in Counter(each.reason for each in tried).most_common())
    return (
        f"{spec:24} {len(tried):7,} tried {len(verified):7,} verified ({len(verified) / max(len(tried), 1):.1%}), "
        f"{len(verified) / max(len(inliers), 1):.1%} of all, {weight:.1%} by inliers; {len(rounds)} rounds "
        f"{list(rounds.values())}; {reasons}; {missing:,} not there; {seconds:.1f} s"
    )


def main() -> None:
    """Prints a line for each value."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="output folder of a run that matched many pairs")
    parser.add_argument("specs", nargs="+", metavar="PAIRS", help="values of --pairs")
    parser.add_argument("--images", type=Path, help="folder of the images (default: as run.json says)")
    args = parser.parse_args()
    with FeatureDatabase.open(args.out / DATABASE, "r") as db:
        folder = args.images or images_folder(args.out)
        images = ImageSet(db.read_images(), folder, cache=args.out / DESCRIPTORS)
        inliers = {g.pair: len(g.inliers) for g in db.read_two_view() if len(g.inliers)}
        print(f"{len(images.records):,} images, {len(db.match_counts()):,} pairs matched, {len(inliers):,} verified")
        for spec in args.specs:
            start = time.perf_counter()
            tried, missing = replayed(db, images, spec)
            print(line(spec, tried, missing, inliers, time.perf_counter() - start))


if __name__ == "__main__":
    main()
