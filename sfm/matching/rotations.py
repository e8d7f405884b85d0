"""Which images are rotated (sideways, upside down) relative to the others: a search over groups of images.

Images that match well form groups. A group that no good match ties to the others may have been
taken with the camera rotated (in Middlebury's temple ring 5 of 16 images are upside down). Images of
a group share one rotation, so a few pairs between two groups decide for all. A glance at small images
proposes the rotation, at a tenth of the cost, and the best of its pairs at full size confirm it. Pure
functions: what matches how well is asked of callbacks; all is a function of their answers, so a run that
was stopped comes to the same result.

A rotation is a number of quarter turns counterclockwise (sfm.matchers.rotated). Rotation r of a pair:
image 1 rotated by r matches image 0 as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import NamedTuple

import numpy as np

from sfm.types import ImagePair, Matches

ROTATIONS = (2, 1, 3)
STRONG = 0.5  # confidence of a strong match
TIED = 0.01  # share of cells with strong matches that connects two images whose geometry says so too
CLEARLY_TIED = 0.03  # and without; false pairs stay below half of it
NUM_BEST = 3  # pairs of two groups that speak for a rotation
GLANCE_PX = 240  # longer side of the images that are glanced at
PROPOSED = 0.05  # sum of their strengths at a glance (temple: 0.11, other quarter turns up to 0.045)
AHEAD = 2.0  # and its ratio to that of any other rotation
FOUND = 0.024  # sum of their strengths at full size for a rotation to be believed (false rotations: up to half)
CLEARLY = 1.5  # a pair's rotated matches replace upright ones that are weaker by this factor
PROBES_OF_TWO_GROUPS = 32  # pairs
PROBES_AT_ONCE = 8  # pairs, or an eighth of those that wait
MOST_PROBES = 512  # pairs, however many images there are
SPREAD_OVER = 512  # pairs of two groups that probes are chosen from


class RotatedPair(NamedTuple):
    """A pair of images and its rotation."""

    pair: ImagePair
    rotation: int


Measure = Callable[[Sequence[RotatedPair]], Mapping[RotatedPair, float]]  # matches them and says how strongly


def strength(matches: Matches, num_cells: int) -> float:
    """Share of the cells of the smaller grid (num_cells) that have a strong match."""
    strong = matches.cells0[matches.confidence >= STRONG]
    return len(np.unique(strong)) / max(num_cells, 1)


class ImageGroups:
    """Groups of images that match each other, and how far each image is turned beside the first of its group."""

    def __init__(self, names: Set[str], tied: Iterable[ImagePair]) -> None:
        """tied: pairs that match well as they are, and are supposed to be turned by nothing."""
        self._members = {name: [name] for name in sorted(names)}
        self.group = {name: name for name in names}
        self._turn = dict.fromkeys(names, 0.0)
        for pair in tied:
            self.join(pair, 0.0)

    def __len__(self) -> int:
        return len(self._members)

    def size(self, name: str) -> int:
        """Number of images in the image's group."""
        return len(self._members[self.group[name]])

    def apart(self, pair: ImagePair) -> bool:
        """The two images are in different groups."""
        return self.group[pair.name0] != self.group[pair.name1]

    def rotation_of(self, pair: ImagePair) -> int:
        """The rotation at which two images of one group match."""
        return round(((self._turn[pair.name1] - self._turn[pair.name0]) % 360) / 90) % 4

    def join(self, pair: ImagePair, turn: float) -> None:
        """Makes one group of two images' groups, where they are apart; the larger one's turns stay.

        turn: degrees by which image 1 is turned against image 0, clockwise; 90 of a pair that matches at rotation 1.
        """
        change = turn - (self._turn[pair.name1] - self._turn[pair.name0])
        if not self.apart(pair):
            return
        into, gone = self.group[pair.name0], self.group[pair.name1]
        if len(self._members[into]) < len(self._members[gone]):
            into, gone, change = gone, into, -change
        for name in self._members[gone]:
            self.group[name] = into
            self._turn[name] = (self._turn[name] + change) % 360
        self._members[into] += self._members.pop(gone)


def find_ties(strengths: Mapping[ImagePair, float], fits: Callable[[ImagePair], bool]) -> list[ImagePair]:
    """Pairs that match well as they are, as many as tell the groups of images.

    fits: whether a geometry explains a pair's matches better than chance would. It is asked of the pairs in doubt that
    would join two groups, strongest first: one false tie hides an image that is rotated.
    """
    ties = [pair for pair, value in strengths.items() if value >= CLEARLY_TIED]
    names = {name for pair in strengths for name in (pair.name0, pair.name1)}
    groups = ImageGroups(names, ties)
    doubtful = [(-value, pair) for pair, value in strengths.items() if TIED <= value < CLEARLY_TIED]
    for _, pair in sorted(doubtful):
        if groups.apart(pair) and fits(pair):
            groups.join(pair, 0.0)
            ties.append(pair)
    return ties


def probe_order(pairs: Sequence[ImagePair], groups: ImageGroups) -> list[ImagePair]:
    """Pairs between groups that are worth a try: spread over each two groups' images, large groups first."""
    between: dict[tuple[str, str], list[ImagePair]] = {}
    for pair in sorted(pairs):
        if groups.apart(pair):
            ends = sorted((groups.group[pair.name0], groups.group[pair.name1]))
            between.setdefault((ends[0], ends[1]), []).append(pair)
    ranked = [
        (rank, -groups.size(ends[0]) * groups.size(ends[1]), pair)
        for ends, candidates in between.items()
        for rank, pair in enumerate(_spread(candidates, PROBES_OF_TWO_GROUPS))
    ]
    return [pair for _, _, pair in sorted(ranked)]


def _spread(candidates: Sequence[ImagePair], num: int) -> Iterator[ImagePair]:
    """Pairs whose images came up least before, one after the other."""
    uses: Counter[str] = Counter()
    left = list(candidates[:: -(-len(candidates) // SPREAD_OVER)])
    while left and num > 0:
        best = min(
            left, key=lambda pair: (uses[pair.name0] + uses[pair.name1], max(uses[pair.name0], uses[pair.name1]))
        )
        left.remove(best)
        uses.update((best.name0, best.name1))
        num -= 1
        yield best


def find_rotations(
    pairs: Sequence[ImagePair],
    groups: ImageGroups,
    glance: Measure,
    measure: Measure,
    *,
    proposed: float = PROPOSED,
) -> list[RotatedPair]:
    """Pairs that should be matched again, and with what rotation; none where all images are of one group. The
    groups are joined as rotations are found.

    glance: at small images. measure: at full size. proposed: PROPOSED, or FOUND where a glance is at full size. At
    most a quarter of the pairs (64 where they are few, MOST_PROBES where they are many) is glanced at, each with three
    rotations.
    """
    if len(groups) <= 1:
        return []
    apart = [pair for pair in pairs if groups.apart(pair)]
    waiting = probe_order(pairs, groups)[: min(MOST_PROBES, max(64, len(pairs) // 4))]
    glanced: dict[RotatedPair, float] = {}
    refuted: set[frozenset[RotatedPair]] = set()
    while waiting:
        num = max(PROBES_AT_ONCE, len(waiting) // 8)
        glanced |= glance([RotatedPair(pair, rotation) for pair in waiting[:num] for rotation in ROTATIONS])
        while proposals := [best for best in _proposals(glanced, groups, proposed) if frozenset(best) not in refuted]:
            confirmed = measure(proposals[0])
            if sum(confirmed.values()) >= FOUND:
                strongest = max(confirmed, key=lambda probe: (confirmed[probe], probe))
                groups.join(strongest.pair, 90.0 * strongest.rotation)
            else:
                refuted.add(frozenset(proposals[0]))
        waiting = [pair for pair in waiting[num:] if groups.apart(pair)]
    return [
        RotatedPair(pair, groups.rotation_of(pair))
        for pair in apart
        if not groups.apart(pair) and groups.rotation_of(pair)
    ]


def _proposals(glanced: Mapping[RotatedPair, float], groups: ImageGroups, proposed: float) -> list[list[RotatedPair]]:
    """For each two groups the NUM_BEST pairs of the rotation that is clearly ahead, the strongest proposal first."""
    votes: dict[tuple[str, str], dict[int, list[tuple[float, RotatedPair]]]] = {}
    for probe, value in glanced.items():
        if groups.apart(probe.pair):
            ends = (groups.group[probe.pair.name0], groups.group[probe.pair.name1])
            change = (probe.rotation - groups.rotation_of(probe.pair)) % 4
            if ends[0] > ends[1]:
                ends, change = (ends[1], ends[0]), -change % 4
            votes.setdefault(ends, {}).setdefault(change, []).append((value, probe))
    found: list[tuple[float, list[RotatedPair]]] = []
    for of_change in votes.values():
        best = [sorted(of_one, reverse=True)[:NUM_BEST] for of_one in of_change.values()]
        sums = sorted(((sum(value for value, _ in of_one), of_one) for of_one in best), reverse=True)
        ahead = len(sums) == 1 or sums[0][0] >= AHEAD * sums[1][0]
        if sums[0][0] >= proposed and ahead:
            found.append((sums[0][0], [probe for _, probe in sums[0][1]]))
    return [probes for _, probes in sorted(found, reverse=True)]
