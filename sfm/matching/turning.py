"""Which pairs are matched with one image rotated while the graph of pairs grows, as drones and hands turn a camera.

A pair that matches says by how many degrees one image is turned against the other in its plane (sfm.geometry.in_plane).
Carried along the strongest pairs this gives the turn between any two images of a group, also where the camera turned by
and by, and so the quarter turn at which they should match: pairs are matched at that. Between groups nothing foretells
it, so pairs that do not match as they are are tried in every rotation, spread over the groups' images. What is found
there joins groups, and foretells others. Both end where hardly anything is found. All is a function of what was
answered, so a run that was stopped, and reads the first answers from its database, comes to the same pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from sfm.matching.growth import FOUND, JUDGED
from sfm.matching.rotations import ROTATIONS, ImageGroups, RotatedPair, probe_order
from sfm.types import ImagePair

PROBES_AT_ONCE = 24  # pairs, each in three rotations


class Found(NamedTuple):
    """What is kept in mind of a pair's matches. turn: degrees in the plane from image 0 to image 1, None where the
    matches do not say."""

    num_rows: int
    strength: float
    turn: float | None = None


class Tie(NamedTuple):
    """A pair that matched well, at a rotation."""

    found: Found
    rotation: int

    @property
    def turn(self) -> float:
        """Degrees from image 0 to image 1."""
        return 90.0 * self.rotation if self.found.turn is None else self.found.turn


Tied = Callable[[Mapping[RotatedPair, Found]], set[RotatedPair]]


class Match(Protocol):
    """Matches pairs at a rotation: what there is of each, without those of images that cannot be read."""

    def __call__(self, tasks: Sequence[RotatedPair], /, *, desc: str) -> Mapping[RotatedPair, Found]:
        """desc: of the progress bar."""


@dataclass
class Tally:
    """Pairs that were tried for one reason, and how many of them showed one place."""

    pairs: set[ImagePair] = field(default_factory=set)
    found: int = 0

    @property
    def pays(self) -> bool:
        """Whether more of them are worth their time: it is given up where hardly any of them shows one place."""
        return len(self.pairs) < JUDGED or self.found >= FOUND * len(self.pairs)


class Turning:
    """Pairs matched at the rotation that is foretold, or in all."""

    def __init__(
        self,
        names: Sequence[str],
        match: Match,
        tied: Tied,
        *,
        rotating: bool,
        ties: Mapping[ImagePair, Tie] | None = None,
    ) -> None:
        """tied: those that match well. rotating: whether any pair is rotated. ties: that are known before."""
        self._names = frozenset(names)
        self._match, self._tied = match, tied
        self._rotating = rotating
        self._answers: dict[ImagePair, dict[int, Found]] = {}
        self._asked: set[RotatedPair] = set()
        self._foretold, self._probed = Tally(), Tally()
        self.ties = dict(ties or {})
        self.groups = self._grouped()

    def match(self, pairs: Sequence[ImagePair], *, desc: str) -> set[ImagePair]:
        """Matches pairs, and others again that should be rotated, as is known now; the pairs that are tied now and were
        not before."""
        before = set(self.ties)
        self._ask([self._as_foretold(pair) for pair in pairs], desc)
        while self._rotating:
            if again := self._to_turn():
                tally = self._foretold
            elif again := self._to_probe():
                tally = self._probed
            else:
                break
            known = set(self.ties)
            self._ask(again, "rotated images")
            tally.pairs |= {task.pair for task in again}
            tally.found += len(self.ties.keys() - known)
        return self.ties.keys() - before

    @property
    def answers(self) -> dict[RotatedPair, Found]:
        """What there is of each pair: at the rotation at which it is tied, or as it is, or as it was tried."""
        chosen = {
            pair: self.ties[pair].rotation if pair in self.ties else min(found) for pair, found in self._answers.items()
        }
        return {RotatedPair(pair, rotation): self._answers[pair][rotation] for pair, rotation in chosen.items()}

    def _ask(self, tasks: Sequence[RotatedPair], desc: str) -> None:
        answers = self._match(tasks, desc=desc)
        self._asked.update(tasks)
        tied = self._tied(answers)
        for task in tasks:
            if (found := answers.get(task)) is None:
                continue
            self._answers.setdefault(task.pair, {})[task.rotation] = found
            held = self.ties.get(task.pair)
            if task in tied and (held is None or held.found.strength < found.strength):
                self.ties[task.pair] = Tie(found, task.rotation)
        self.groups = self._grouped()

    def _grouped(self) -> ImageGroups:
        """Groups of images, joined by the strongest ties first."""
        groups = ImageGroups(self._names, ())
        for pair, tie in sorted(self.ties.items(), key=lambda item: (-item[1].found.strength, item[0])):
            groups.join(pair, tie.turn)
        return groups

    def _as_foretold(self, pair: ImagePair) -> RotatedPair:
        """The pair as it should match: as it is, where nothing says otherwise."""
        foretold = self._rotating and not self.groups.apart(pair)
        return RotatedPair(pair, self.groups.rotation_of(pair) if foretold else 0)

    def _to_turn(self) -> list[RotatedPair]:
        """Pairs of one group that are not tied, and were not matched at the rotation that is foretold."""
        if not self._foretold.pays:
            return []
        left = (pair for pair in self._answers if pair not in self.ties and not self.groups.apart(pair))
        tasks = [self._as_foretold(pair) for pair in left]
        return [task for task in tasks if task not in self._asked]

    def _to_probe(self) -> list[RotatedPair]:
        """The next few pairs between groups, in all rotations in which they were not matched."""
        probed = self._probed.pairs
        most = max(JUDGED, len(self._answers) // 4)
        if not self._probed.pays or len(probed) >= most:
            return []
        left = [pair for pair in self._answers if pair not in probed and self.groups.apart(pair)]
        chosen = probe_order(left, self.groups)[: min(PROBES_AT_ONCE, most - len(probed))]
        return [RotatedPair(pair, rotation) for pair in chosen for rotation in ROTATIONS]
