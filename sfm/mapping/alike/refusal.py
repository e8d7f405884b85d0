"""Which pairs are refused because their images show two places that look alike: by their own sightlines, and by those
of the places.

A pair is refused by itself where its images look through so much of what each other shows as no right pair does. Most
pairs of two places share too little, or are seen from too different sides, to say so. But a place has several images,
and those of two places match each other many times: all pairs between an image and its nearest partners and another
and its partners are judged together, by what is looked through and by what is not matched though both see it from the
same side. Where pairs that were refused contradict the model that was made without them all the same, its images are
put together anew, and whatever joins groups that contradict each other is refused: two right models are better than
one that is folded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import NamedTuple

import pycolmap

from sfm.geometry.evidence import lower_end
from sfm.mapping.alike.sightlines import MatchedBlocks, ReadPoints, Sightlines, sightlines
from sfm.mapping.inputs import MappingInput
from sfm.match_graph import RefusedPair
from sfm.types import ImagePair
from sfm.wording import counted

# Least shares of blocks: looked through, of what one pair matches, and of what all pairs of two places match as far as
# they can be compared; not matched, of what they see from the same side. Of 11 right models (15,000 pairs, by all
# matches) pairs reach 0.09 and places 0.04, in one model of few drone images 0.15 and 0.08; what is not matched reaches
# 0.6 by itself, but of no model three pairs whose places reach 0.3 and 0.03 looked through.
THROUGH, THROUGH_TOGETHER = 0.15, 0.1
SOME_THROUGH, UNMATCHED = 0.04, 0.3  # of two places: both, where one alone would be too little
FEWEST = 3  # pairs that contradict a model: where two places are in one spot there are many
PARTNERS, BETWEEN = 2, 4  # other images of an image's place; pairs of two places, from which on they can be judged


def least_share(some: float, others: float) -> float:
    """Lower end of the share that `some` blocks have of those and others."""
    num = some + others
    return lower_end(some / num, num) if num > 0 else 0.0


def contradicted(own: Sightlines) -> bool:
    """Whether two images look through each other by more than errors of a right model explain. What a pair shares is
    counted once, though both images have it."""
    return least_share(own.through, own.matched / 2) > THROUGH


class Together(NamedTuple):
    """How many pairs, and their blocks as in Sightlines."""

    pairs: int = 0
    compared: int = 0
    through: int = 0
    shared: int = 0
    unmatched: int = 0

    @classmethod
    def of(cls, own: Sightlines) -> Together:
        """Of one pair."""
        return cls(1, own.compared, own.through, own.shared, own.unmatched)

    def plus(self, other: Together) -> Together:
        """Of the pairs of both."""
        return Together(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def are_apart(self) -> bool:
        """Whether the images of two places contradict each other, by all their pairs together. A few pairs do not say:
        a matcher may have recognised little of a right one."""
        if self.pairs < BETWEEN or not self.may_be_apart:
            return False
        through, unmatched = least_share(self.through, self.compared / 2), least_share(self.unmatched, self.shared / 2)
        return through > THROUGH_TOGETHER or unmatched > UNMATCHED

    @property
    def may_be_apart(self) -> bool:
        """The same where it is known that places are in one spot, and the question is which."""
        return least_share(self.through, self.compared / 2) > SOME_THROUGH


def contradictions(own: Mapping[ImagePair, Sightlines]) -> set[ImagePair]:
    """The pairs of a model that are of two places: by themselves, or as their places are."""
    found = {pair for pair, lines in own.items() if contradicted(lines)}
    while True:
        place, num = _places(own, found), len(found)
        for pair in own.keys() - found:
            place0, place1 = place[pair.name0], place[pair.name1]
            if place0 & place1:
                continue
            between = (ImagePair.of(a, b) for a in place0 for b in place1)
            if reduce(Together.plus, (Together.of(own[each]) for each in between if each in own)).are_apart:
                found.add(pair)
        if len(found) == num:
            return found if num >= FEWEST else set()


def _places(own: Mapping[ImagePair, Sightlines], without: Collection[ImagePair]) -> dict[str, set[str]]:
    """Each image with those of most matched blocks in common, but for some pairs."""
    partners: dict[str, list[tuple[int, str]]] = {name: [] for pair in own for name in (pair.name0, pair.name1)}
    for pair in own.keys() - without:
        partners[pair.name0].append((-own[pair].matched, pair.name1))
        partners[pair.name1].append((-own[pair].matched, pair.name0))
    return {name: {name, *(other for _, other in sorted(each)[:PARTNERS])} for name, each in partners.items()}


@dataclass(slots=True)
class Refusals:
    """Which pairs are refused, so far. matched: of all verified pairs. trusted: pairs that never are. read_points: all
    verified matches of a pair, (M, 2) and (M, 2) px, of which tracks may have left some out."""

    matched: MatchedBlocks
    trusted: frozenset[ImagePair]
    read_points: ReadPoints | None = None
    refused: dict[ImagePair, RefusedPair] = field(default_factory=dict)

    @classmethod
    def of(
        cls, data: MappingInput, trusted: Collection[ImagePair] = (), read_points: ReadPoints | None = None
    ) -> Refusals:
        """None yet. data: with all verified pairs."""
        return cls(MatchedBlocks.of(data), frozenset(trusted), read_points)

    def add(self, models: Sequence[pycolmap.Reconstruction]) -> int:
        """Adds the pairs that contradict models that were made without those before; how many they are."""
        num = len(self.refused)
        for model in models:
            own, found = self._contradictions(model)
            if found and found <= self.refused.keys() | self.trusted:  # their images are in one spot all the same
                found = between_groups(own, found | self.refused.keys())
            self._refuse({pair: own[pair] for pair in found})
        return len(self.refused) - num

    def _contradictions(self, model: pycolmap.Reconstruction) -> tuple[dict[ImagePair, Sightlines], set[ImagePair]]:
        """The sightlines in a model, and the pairs that contradict it: by all matches, which are read where there is a
        doubt, of the doubtful pairs and then of all. By those in tracks there are more blocks that are not matched."""
        own = sightlines(model, self.matched, self.matched.packed)
        found = contradictions(own)
        if found and self.read_points is not None:
            own |= sightlines(model, self.matched.exact(self.read_points, found), found)
            found = contradictions(own)
        if found and self.read_points is not None:
            self.matched, self.read_points = self.matched.exact(self.read_points, self.matched.packed), None
            own = sightlines(model, self.matched, self.matched.packed)
            found = contradictions(own)
        return own, found

    def _refuse(self, found: Mapping[ImagePair, Sightlines]) -> None:
        for pair, lines in found.items():
            if pair not in self.trusted:
                self.refused.setdefault(pair, RefusedPair(pair, lines.matched, lines.through))


def refused_note(refused: Sequence[RefusedPair]) -> tuple[str, ...]:
    """A line for the user; none where no pair was refused."""
    if not refused:
        return ()
    names = {name for each in refused for name in (each.pair.name0, each.pair.name1)}
    return (
        f"{counted(len(refused), 'pair')} of {counted(len(names), 'image')} {'was' if len(refused) == 1 else 'were'} "
        "refused, because they show places that look alike, not the same: report.html shows them, and --trust-pairs "
        "overrules it",
    )


def between_groups(own: Mapping[ImagePair, Sightlines], without: Collection[ImagePair]) -> set[ImagePair]:
    """The pairs between groups of images. Images join, those of the pair that matches most first, but for pairs
    `without`, and for groups that contradict each other together."""
    label = {name: name for pair in own for name in (pair.name0, pair.name1)}
    members = {name: {name} for name in label}
    between: dict[str, dict[str, Together]] = {name: {} for name in label}
    for pair, lines in own.items():
        between[pair.name0][pair.name1] = between[pair.name1][pair.name0] = Together.of(lines)
    for pair in sorted(own.keys() - without, key=lambda p: (-own[p].matched, p)):
        a, b = sorted((label[pair.name0], label[pair.name1]), key=lambda name: (-len(members[name]), name))
        if a == b or between[a][b].may_be_apart:
            continue
        for other, lines_together in between.pop(b).items():
            del between[other][b]
            if other != a:
                both = between[a].get(other, Together()).plus(lines_together)
                between[a][other] = between[other][a] = both
        for name in members[b]:
            label[name] = a
        members[a] |= members.pop(b)
    return {pair for pair in own if label[pair.name0] != label[pair.name1]}
