"""Images that are tied to few others, and which of their pairs another way of matching should look at."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence, Set

import numpy as np

from sfm.match_graph import Candidates, reason_number
from sfm.matching.growth import FEW, JUDGED
from sfm.matching.rotations import RotatedPair
from sfm.matching.turning import Found, Tally
from sfm.types import ImagePair

TRIES = 2, 8  # pairs of an image: in a round, and in all
OF_ALL = 2  # half of the pairs count as candidates where all were matched
SHARE = 8  # one of so many pairs that may be matched, or JUDGED of however few


class LooseImages:
    """Which pairs to look at: the nearest candidates of images that are tied to few others."""

    def __init__(self, names: Sequence[str], candidates: Candidates) -> None:
        """names: of the rows that the candidates are pairs of."""
        self._partners: dict[str, list[ImagePair]] = {name: [] for name in names}
        near = np.isin(candidates.reason, [reason_number("near"), reason_number("row")])
        for row in np.lexsort((-candidates.likeness, ~near)).tolist():
            pair = ImagePair(*(names[i] for i in candidates.rows[row].tolist()))
            self._partners[pair.name0].append(pair)
            self._partners[pair.name1].append(pair)
        self._most = max(JUDGED, candidates.budget // SHARE)
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
        room = (self._most if self._tally else JUDGED) - len(self._tally)
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
