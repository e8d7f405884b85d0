"""Which pairs are refused because their images show two places that look alike: by their own sightlines, and by those
of the places.

A pair is refused where its images look through so much of what each other shows that few right pairs do
(`contradicted`). Pairs of the same two places that share less say nothing by themselves, and suffice to put the places
in one spot again. So where refused pairs are still in one spot of a model made without them, its images are put
together anew, strongest pair first, and no two groups that look through each other on the whole; what joined such
groups is refused as well: two right models are better than one that is folded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt

import pycolmap

from sfm.mapping.alike.sightlines import MatchedBlocks, Sightlines, sightlines
from sfm.mapping.inputs import MappingInput
from sfm.match_graph import RefusedPair
from sfm.types import ImagePair
from sfm.wording import counted

LOOKED_THROUGH = 0.1  # of the blocks that show something about a pair; of right pairs at least this few
DEVIATIONS = 2.0  # of the interval's lower end


def least_share(some: float, others: float) -> float:
    """Lower end of the share that `some` blocks have of those and others: Wilson's interval, DEVIATIONS wide."""
    num, z = some + others, DEVIATIONS
    if num <= 0:
        return 0.0
    share = some / num
    spread = z * sqrt(share * (1 - share) * num + z * z / 4)
    return max(0.0, (share * num + z * z / 2 - spread) / (num + z * z))


def contradicted(own: Sightlines) -> bool:
    """Whether images look through each other by more than errors of a right model explain. What a pair shares is
    counted once, though both images have it."""
    return least_share(own.through, own.shared / 2) > LOOKED_THROUGH


@dataclass(slots=True)
class Refusals:
    """Which pairs are refused, so far. matched: of all verified pairs. trusted: pairs that never are."""

    matched: MatchedBlocks
    trusted: frozenset[ImagePair]
    refused: dict[ImagePair, RefusedPair] = field(default_factory=dict)

    @classmethod
    def of(cls, data: MappingInput, trusted: Collection[ImagePair] = ()) -> Refusals:
        """None yet. data: with all verified pairs."""
        return cls(MatchedBlocks.of(data), frozenset(trusted))

    def add(self, models: Sequence[pycolmap.Reconstruction]) -> int:
        """Adds the pairs that contradict models that were made without those before; how many they are."""
        num = len(self.refused)
        seen = [sightlines(model, self.matched, self.matched.packed) for model in models]
        for own in seen:
            self._refuse({pair: lines for pair, lines in own.items() if contradicted(lines)})
        if len(self.refused) == num:
            for own in seen:
                if any(pair in self.refused and contradicted(lines) for pair, lines in own.items()):
                    self._refuse(_between_groups(own))
        return len(self.refused) - num

    def _refuse(self, found: Mapping[ImagePair, Sightlines]) -> None:
        for pair, lines in found.items():
            if pair not in self.trusted:
                self.refused.setdefault(pair, RefusedPair(pair, lines.shared, lines.through))


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


def _between_groups(own: Mapping[ImagePair, Sightlines]) -> dict[ImagePair, Sightlines]:
    """The pairs between groups of images that look through each other on the whole."""
    label = {name: name for pair in own for name in (pair.name0, pair.name1)}
    members = {name: {name} for name in label}
    between: dict[str, dict[str, tuple[int, int]]] = {name: {} for name in label}
    for pair, lines in own.items():
        between[pair.name0][pair.name1] = between[pair.name1][pair.name0] = (lines.shared, lines.through)
    for pair in sorted(own, key=lambda p: (own[p].through - own[p].shared, p)):
        a, b = sorted((label[pair.name0], label[pair.name1]), key=lambda name: (-len(members[name]), name))
        if a == b or contradicted(own[pair]) or contradicted(Sightlines(*between[a][b], 0)):
            continue
        for other, (shared, through) in between.pop(b).items():
            del between[other][b]
            if other != a:
                before = between[a].get(other, (0, 0))
                between[a][other] = between[other][a] = (before[0] + shared, before[1] + through)
        for name in members[b]:
            label[name] = a
        members[a] |= members.pop(b)
    return {pair: lines for pair, lines in own.items() if label[pair.name0] != label[pair.name1]}
