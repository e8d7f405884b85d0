"""A closer look, at images twice as large, where images show one place with few others.

A matcher sees images reduced, since that is what its time goes with. On fields, gravel, roofs or bare walls what tells
one place from another is finer than that. So where an image is tied to fewer than three others, its nearest
candidates are matched once more at twice the size, turned as sfm.matching.turning says. What a geometry explains takes
the place of what there was. Cells become those of the matcher's own grid, so that keypoints stay the same in every
pair.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from sfm.match_graph import Candidates, reason_number
from sfm.matchers.base import Matcher, Resizable
from sfm.matching.growth import FEW, JUDGED
from sfm.matching.rotations import RotatedPair
from sfm.matching.turning import Found, Tally
from sfm.types import Grid, ImagePair, ImageRecord, Int64, Matches

CLOSER = 2  # times the size that the matcher sees otherwise
GAIN = 1.25  # an image that is not so many times as large as the matcher sees it has nothing more to show
TRIES = 2, 8  # pairs of an image: in a round, and in all
# Share of cells that a geometry must explain: of 90 wrong pairs of fields (90 to 400 m apart, four rotations each) up
# to 0.0027, of right ones 0.007 in the median.
EXPLAINED = 0.003
OF_ALL = 2  # half of the pairs count as candidates where all were matched: it takes a quarter more time at most
SHARE = 8  # one of so many pairs that may be matched: each costs what four of the others do


def closer_matcher(matcher: Matcher, records: Mapping[str, ImageRecord]) -> Matcher | None:
    """The matcher at twice its size, or at that of the largest image; None where no two images would gain by it."""
    if not isinstance(matcher, Resizable) or matcher.size == 0 or matcher.grid(64, 64) is None:
        return None
    sides = sorted(max(record.width, record.height) for record in records.values())
    if len(sides) < 2 or sides[-2] < GAIN * matcher.size:
        return None
    return matcher.at_size(min(CLOSER * matcher.size, sides[-1]))


def explained(
    pair: ImagePair, matches: Matches, *, cells: Mapping[str, int], fits: Callable[[ImagePair, Matches], bool]
) -> bool:
    """Whether a geometry explains the matches of two images seen closer. cells: of each image's grid."""
    share = len(np.unique(matches.cells0)) / max(1, min(cells[pair.name0], cells[pair.name1]))
    return share >= EXPLAINED and fits(pair, matches)


class LooseImages:
    """Which pairs to look at: the nearest candidates of images that are tied to few others."""

    def __init__(self, names: Sequence[str], candidates: Candidates, large: Set[str], *, least: int = 0) -> None:
        """names: of the rows that the candidates are pairs of. large: images with more to show than was seen. least:
        pairs that may be looked at of however few."""
        self._partners: dict[str, list[ImagePair]] = {name: [] for name in names if name in large}
        near = np.isin(candidates.reason, [reason_number("near"), reason_number("row")])
        for row in np.lexsort((-candidates.likeness, ~near)).tolist():
            pair = ImagePair(*(names[i] for i in candidates.rows[row].tolist()))
            if pair.name0 in self._partners and pair.name1 in self._partners:
                self._partners[pair.name0].append(pair)
                self._partners[pair.name1].append(pair)
        self._most = max(least, candidates.budget // SHARE)
        self._tries: Counter[str] = Counter()
        self._tally = Tally()
        self._random = random.Random(0)

    def next(self, ties: Set[ImagePair]) -> list[ImagePair]:
        """The next pairs; none where no image is loose, all were tried, or hardly any of them showed one place.

        ties: pairs that match well by now.
        """
        self._tally.update({pair: pair in ties for pair in self._tally})
        degree = Counter(name for pair in ties for name in (pair.name0, pair.name1))
        loose = [name for name in self._partners if degree[name] < FEW] if self._tally.pays() else []
        self._random.shuffle(loose)  # the first to be tried are of the whole set
        room = (self._most if self._tally else min(JUDGED, self._most)) - len(self._tally)
        chosen: dict[ImagePair, bool] = {}
        for name in loose * TRIES[0]:
            left = (
                pair
                for pair in self._partners[name]
                if pair not in ties and pair not in self._tally and pair not in chosen
            )
            if self._tries[name] < TRIES[1] and len(chosen) < room and (pair := next(left, None)) is not None:
                self._tries[name] += 1
                chosen[pair] = False
        self._tally |= chosen
        return list(chosen)


def among(found: Mapping[RotatedPair, Found], names: Sequence[str]) -> Candidates:
    """Pairs that were matched, as candidates: the better they match the sooner. names: of the rows, sorted."""
    row_of = {name: row for row, name in enumerate(names)}
    strengths = {(row_of[task.pair.name0], row_of[task.pair.name1]): each.strength for task, each in found.items()}
    rows = np.array(sorted(strengths), np.int64).reshape(-1, 2)
    likeness = np.array([strengths[i, j] for i, j in rows.tolist()], np.float32)
    return Candidates(rows, likeness, np.full(len(rows), reason_number("chosen")), budget=len(rows) // OF_ALL)


def large_ones(records: Mapping[str, ImageRecord], size: int) -> set[str]:
    """Images that are larger than the matcher sees them. size: px, the longer side that it sees."""
    return {name for name, record in records.items() if max(record.width, record.height) >= GAIN * size}


@dataclass(frozen=True, slots=True, eq=False)
class Coarsening:
    """Cells of finer grids become the cells of others that their centres are in. All by image."""

    fine: Mapping[str, Grid | None]
    grids: Mapping[str, Grid | None]
    records: Mapping[str, ImageRecord]

    def __call__(self, pair: ImagePair, matches: Matches) -> Matches:
        """The same matches of a pair, with other cells."""
        cells0, cells1 = self._containing(pair.name0, matches.cells0), self._containing(pair.name1, matches.cells1)
        return Matches(matches.points0, matches.points1, matches.confidence, cells0, cells1)

    def _containing(self, name: str, cells: Int64) -> Int64:
        fine, grid = self.fine[name], self.grids[name]
        assert fine is not None  # only a matcher with a grid looks closer
        assert grid is not None
        column = ((cells % fine.columns + 0.5) * fine.cell_width / grid.cell_width).astype(np.int64)
        row = ((cells // fine.columns + 0.5) * fine.cell_height / grid.cell_height).astype(np.int64)
        last_row = grid.num_rows(self.records[name].height) - 1
        found: Int64 = np.minimum(row, last_row) * grid.columns + np.minimum(column, grid.columns - 1)
        return found
