"""Which pairs are matched with one image rotated as drones and hands turn a camera.

A pair that matches says by how many degrees one image is turned against the other in its plane (sfm.geometry.in_plane).
Carried along the strongest pairs this gives the turn between any two images of a group, also where the camera turned by
and by, and so the quarter turn at which they should match: pairs are matched at that, and as they are where that shows
nothing (round an object that is seen from above, turns add up to something else than none). Between groups nothing
foretells it, so pairs that do not match as they are are tried in every rotation, spread over the groups' images. What
is found there joins groups, and foretells others. Both end where hardly anything is found. All is a function of what
was answered, so a run that was stopped, and reads the first answers from its database, comes to the same pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from sfm.match_graph import partners
from sfm.matching.growth import FOUND, JUDGED
from sfm.matching.rotations import ROTATIONS, ImageGroups, RotatedPair, probe_order
from sfm.types import ImagePair

PAIRS_AT_ONCE = 24
LEAST_JUDGED = 6  # pairs that say whether others are worth their time, of however few


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


class Tally(dict[ImagePair, bool]):
    """Pairs that were tried for one reason, and whether they showed one place."""

    def pays(self, enough: int = JUDGED) -> bool:
        """Whether more of them are worth their time: no, where hardly any showed one place.

        enough: pairs that say something.
        """
        return len(self) < enough or sum(self.values()) >= FOUND * len(self)


class Turning:
    """Pairs matched at the rotation that is foretold, or in all."""

    def __init__(
        self,
        names: Sequence[str],
        match: Match,
        tied: Tied,
        *,
        rotating: bool,
        probing: bool = True,
        ties: Mapping[ImagePair, Tie] | None = None,
        answers: Mapping[RotatedPair, Found] | None = None,
    ) -> None:
        """tied: those that match well. rotating: whether any pair is rotated; probing: those between groups too. ties,
        answers: that are known before."""
        self._names = frozenset(names)
        self._match, self._tied = match, tied
        self._rotating, self._probing = rotating, rotating and probing
        self._asked = set(answers or {})
        self._answers: dict[ImagePair, dict[int, Found]] = {}
        for task, found in (answers or {}).items():
            self._answers.setdefault(task.pair, {})[task.rotation] = found
        self._foretold, self._probed = Tally(), Tally()
        self.ties = dict(ties or {})
        self.groups = self._grouped()

    def match(self, pairs: Sequence[ImagePair], *, desc: str) -> set[ImagePair]:
        """Matches pairs, and others again that should be rotated, as is known now; the pairs that are tied now and were
        not before."""
        before = set(self.ties)
        first = [self._as_foretold(pair) for pair in pairs]
        self._ask(first, desc)
        turned = [task.pair for task in first if task.rotation]
        self._note(self._foretold, turned)
        self._ask([RotatedPair(pair, 0) for pair in turned if pair not in self.ties], desc)
        while again := self._to_turn() or self._to_probe():
            pairs_again = list(dict.fromkeys(task.pair for task in again))
            tally = self._probed if self.groups.apart(pairs_again[0]) else self._foretold
            self._ask(again, "rotated images")
            self._note(tally, pairs_again)
        return self.ties.keys() - before

    @property
    def answers(self) -> dict[RotatedPair, Found]:
        """What there is of each pair: at the rotation at which it is tied, or as it is, or as it was tried."""
        chosen = {
            pair: self.ties[pair].rotation if pair in self.ties else min(found) for pair, found in self._answers.items()
        }
        return {RotatedPair(pair, rotation): self._answers[pair][rotation] for pair, rotation in chosen.items()}

    def _note(self, tally: Tally, pairs: Sequence[ImagePair]) -> None:
        tally.update({pair: pair in self.ties for pair in pairs})

    def _ask(self, tasks: Sequence[RotatedPair], desc: str) -> None:
        if not tasks:
            return
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

    @property
    def _enough(self) -> int:
        """Pairs that say whether others are worth their time; few of a small set."""
        return min(JUDGED, max(LEAST_JUDGED, len(self._answers) // 8))

    def _as_foretold(self, pair: ImagePair) -> RotatedPair:
        """The pair as it should match: as it is, where nothing says otherwise, or what is said is not borne out."""
        foretold = self._rotating and not self.groups.apart(pair) and self._foretold.pays(self._enough)
        return RotatedPair(pair, self.groups.rotation_of(pair) if foretold else 0)

    def _to_turn(self) -> list[RotatedPair]:
        """Next pairs of one group that are not tied, and were not matched at the rotation that is foretold: those first
        whose images are tied to the same others."""
        left = (pair for pair in self._answers if pair not in self.ties and not self.groups.apart(pair))
        tasks = [task for task in map(self._as_foretold, left) if task not in self._asked]
        tied_to = partners(self.ties)
        shared = {t: len(tied_to.get(t.pair.name0, set()) & tied_to.get(t.pair.name1, set())) for t in tasks}
        return sorted(tasks, key=lambda task: (-shared[task], task))[: self._at_once]

    def _to_probe(self) -> list[RotatedPair]:
        """The next few pairs between groups, in all rotations in which they were not matched."""
        most = max(JUDGED, len(self._answers) // 4)
        if not (self._probing and self._probed.pays(self._enough)) or len(self._probed) >= most:
            return []
        left = [pair for pair in self._answers if pair not in self._probed and self.groups.apart(pair)]
        chosen = probe_order(left, self.groups)[: min(self._at_once, most - len(self._probed))]
        return [RotatedPair(pair, rotation) for pair in chosen for rotation in ROTATIONS]

    @property
    def _at_once(self) -> int:
        return min(PAIRS_AT_ONCE, self._enough)
