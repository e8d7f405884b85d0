"""Pairs of images matched or taken from the database, and matched again with one image rotated where that helps.

Where the pairs that match well leave groups of images apart, and the matcher is not rotation
invariant, pairs between groups are matched again with one image rotated (sfm.matching.rotations). Each
rotation's matches are kept under a key of their own, and the better ones then take the place of the
upright ones. What is decided depends only on pairs that were never rotated, so it comes out the same
after a stop at any point. The same holds of the growth of the graph of pairs (sfm.matching.growth): a
pair that is tied is never rotated, so one that was rotated was not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from sfm.geometry.in_plane import in_plane_rotation
from sfm.match_graph import REASONS, Candidates, TriedPair
from sfm.matchers.base import Matcher, Resizable
from sfm.matching.growth import PairGrowth, Tried
from sfm.matching.match_writer import FLUSH_PAIRS, MatchSink, MatchWriter
from sfm.matching.rotations import (
    CLEARLY,
    CLEARLY_TIED,
    FOUND,
    GLANCE_PX,
    PROPOSED,
    ROTATIONS,
    TIED,
    ImageGroups,
    RotatedPair,
    find_rotations,
    find_ties,
    strength,
)
from sfm.matching.session import MatchingSession, parts_of
from sfm.matching.turning import Found, Tie, Turning
from sfm.options import MatchingOptions
from sfm.system.hashing import json_digest
from sfm.system.progress import progress_bar
from sfm.types import Grid, ImagePair, ImageRecord, Matches


class MatchTable(MatchSink, Protocol):
    """What matching needs of the feature database's matches."""

    def matched_pairs(self, matcher_key: str) -> frozenset[ImagePair]:
        """Pairs whose matches by this matcher are held."""

    def read_matches(self, pair: ImagePair, *, matcher_key: str | None = None) -> Matches:
        """Matches of a pair by a matcher, None for the current one."""


def matcher_key(provenance: Mapping[str, str]) -> str:
    """Hex SHA-256 of all that a matcher's answers depend on: equal keys, equal matches."""
    return json_digest(dict(provenance))


def may_rotate(matcher: Matcher, options: MatchingOptions) -> bool:
    """Whether pairs are tried with one image rotated: the option says so, the matcher is not
    rotation invariant, and it has a grid, by which cells of rotated images map to cells of the original images."""
    return options.turns == "auto" and not matcher.rotation_invariant and matcher.grid(64, 64) is not None


def glancing(matcher: Matcher, longer_side: int = GLANCE_PX) -> Matcher:
    """The matcher that tells which images are rotated: the same at small images, where it can be had."""
    if not isinstance(matcher, Resizable) or 0 < matcher.size <= longer_side:
        return matcher
    return matcher.at_size(longer_side)


def keys_by_rotation(matcher: Matcher, options: MatchingOptions) -> list[str]:
    """Keys of the matches in the database: of those that later stages see, then of rotation 1, 2 and 3."""
    seen = {"turns": "auto"} if may_rotate(matcher, options) else {}
    rotated = [matcher_key({**matcher.provenance, "turned": f"{90 * rotation}"}) for rotation in (1, 2, 3)]
    return [matcher_key({**matcher.provenance, **seen}), *rotated]


def num_cells(records: Mapping[str, ImageRecord], grids: Mapping[str, Grid | None]) -> dict[str, int]:
    """Cells of each image's grid; 0 for a detector."""
    return {
        name: grid.columns * grid.num_rows(records[name].height) if grid is not None else 0
        for name, grid in grids.items()
    }


class Grown(NamedTuple):
    """A graph of pairs that was grown. found: of each pair, at the rotation that is kept. ties: pairs that match well.
    groups: of images that these connect."""

    found: dict[RotatedPair, Found]
    tried: list[TriedPair]
    ties: dict[ImagePair, Tie]
    groups: ImageGroups

    @property
    def turned(self) -> dict[RotatedPair, Found]:
        """What matches well, but not as it is."""
        return {task: found for task, found in self.found.items() if task.rotation and task.pair in self.ties}


class PairMatching:
    """Pairs and rotations, matched or taken from the database."""

    def __init__(
        self,
        db: MatchTable,
        session: MatchingSession,
        keys: Sequence[str],
        cells: Mapping[str, int],
        fits: Callable[[ImagePair, Matches], bool],
    ) -> None:
        """keys: of the matches in the database, by rotation. fits: whether a geometry explains a pair's matches."""
        self._db = db
        self._session = session
        self._keys = keys
        self._cells = cells
        self._fits = fits

    def held(self, rotation: int) -> frozenset[ImagePair]:
        """Pairs that the database has matches of."""
        return self._db.matched_pairs(self._keys[rotation])

    def match(self, tasks: Sequence[RotatedPair], *, desc: str) -> dict[RotatedPair, Found]:
        """What there is of each task, without those of images that cannot be read."""
        found: dict[RotatedPair, Found] = {}
        for rotation in {task.rotation for task in tasks}:
            held = self.held(rotation)
            for task in tasks:
                if task.rotation == rotation and task.pair in held:
                    found[task] = self._measure(task.pair, self.read(task))
        todo = [task for task in tasks if task not in found]
        with (
            MatchWriter(self._db, self._keys) as writer,
            progress_bar(len(tasks), desc=desc, unit="pair", initial=len(found)) as bar,
        ):
            for results, num_pairs in self._session.match_all(todo):
                writer.add(results)
                found |= {task: self._measure(task.pair, matches) for task, matches in results}
                bar.update(num_pairs)
        return found

    def grow(
        self, first: Sequence[ImagePair], names: Sequence[str], candidates: Candidates, *, rotating: bool = False
    ) -> Grown:
        """Matches pairs round after round, as sfm.matching.growth chooses them, and sfm.matching.turning turns them.

        first: the first round. names: of the rows that the candidates are pairs of. rotating: whether pairs are tried
        with one image rotated.
        """
        row_of = {name: row for row, name in enumerate(names)}
        named = {ImagePair(names[i], names[j]): row for row, (i, j) in enumerate(candidates.rows.tolist())}
        of_candidate = [list(REASONS)[number] for number in candidates.reason.tolist()]
        growth = PairGrowth(len(names), candidates)
        turning = Turning(names, self.match, self.tied, rotating=rotating)
        tried: dict[ImagePair, TriedPair] = {}
        todo = {pair: of_candidate[named[pair]] if pair in named else "row" for pair in first}
        number = 1
        while todo:
            new = turning.match(list(todo), desc="matching" if number == 1 else f"matching, round {number}")
            learned = dict.fromkeys(todo, False) | dict.fromkeys(sorted(new), True)
            growth.learn([Tried((row_of[pair.name0], row_of[pair.name1]), fits) for pair, fits in learned.items()])
            tried |= {pair: TriedPair(pair, number, reason) for pair, reason in todo.items()}
            todo = {ImagePair(names[i], names[j]): reason for (i, j), reason in growth.propose()}
            number += 1
        found = turning.answers
        self._replace(list(found))
        known = [tried[task.pair]._replace(fits=task.pair in turning.ties) for task in found]
        return Grown(found, known, turning.ties, turning.groups)

    def match_each(self, pairs: Sequence[ImagePair], *, desc: str, rotating: bool) -> Grown:
        """Matches pairs, and turns those of a group that should be turned. rotating: whether that is tried."""
        turning = Turning(sorted(self._cells), self.match, self.tied, rotating=rotating, probing=False)
        turning.match(pairs, desc=desc)
        found = turning.answers
        self._replace(list(found))
        return Grown(found, [TriedPair(task.pair) for task in found], turning.ties, turning.groups)

    def probe(self, grown: Grown, rotated: Mapping[RotatedPair, Found]) -> Grown:
        """Matches pairs between groups that are still apart in all rotations, as far as that pays.

        rotated: what `rotate` has replaced.
        """
        known = {task.pair: Tie(rotated[task], task.rotation) for task in self.tied(rotated)}
        answers = dict(grown.found) | dict(rotated)
        turning = Turning(
            sorted(self._cells), self.match, self.tied, rotating=True, ties=grown.ties | known, answers=answers
        )
        new = turning.match([], desc="")
        found = {task: each for task, each in turning.answers.items() if task.pair not in known}
        found |= {task: each for task, each in grown.found.items() if task.pair in known}
        self._replace([task for task in found if task.pair in new])
        return Grown(found, grown.tried, turning.ties, turning.groups)

    def tied(self, answers: Mapping[RotatedPair, Found]) -> set[RotatedPair]:
        """Those that match well, by the measure of `rotate`: the geometry is asked where it is needed.

        Pairs that an earlier run matched again did not match as they were, and hold other matches now.
        """
        again = self._matched_again()
        each = {t: found.strength for t, found in answers.items() if t.rotation or t.pair not in again}
        asked = {task for task in each if not self._num_cells(task.pair)}  # a detector's
        tied = {task for task, value in each.items() if value >= CLEARLY_TIED and task not in asked}
        doubtful = [task for task, value in each.items() if task in asked or TIED <= value < CLEARLY_TIED]
        fits = self._session.fit(self._fits, ((task.pair, self.read(task)) for task in doubtful))
        return tied | {task for task, yes in zip(doubtful, fits, strict=True) if yes}

    def _matched_again(self) -> frozenset[ImagePair]:
        return frozenset[ImagePair]().union(*map(self.held, ROTATIONS))

    def rotate(self, grown: Grown, glance: PairMatching, *, carried: bool) -> dict[RotatedPair, Found]:
        """Matches pairs between groups of images again, rotated; clearly better matches replace the upright ones.

        glance: matches them at small images first; this one where there is no other (`glancing`). carried: whether the
        images of a group are turned as its pairs say, or by quarter turns. Returns the replaced ones, also those that
        an earlier run replaced.
        """
        strengths = {task.pair: found.strength for task, found in grown.found.items()}
        groups = grown.groups if carried else self._groups(strengths, grown.ties)
        proposed = FOUND if glance is self else PROPOSED
        tasks = find_rotations(list(strengths), groups, glance.strengths, self.strengths, proposed=proposed)
        again = self.match(tasks, desc="rotated images")
        before = {task: grown.found[RotatedPair(task.pair, 0)] for task in again}
        replaced = {task: found for task, found in again.items() if found.num_rows and found == before[task]}
        better = {t: found for t, found in again.items() if found.strength > CLEARLY * before[t].strength}
        self._replace(list(better))
        return replaced | better

    def _groups(self, strengths: Mapping[ImagePair, float], ties: Mapping[ImagePair, Tie]) -> ImageGroups:
        """Groups of images that pairs connect, as they are, and by quarter turns."""
        again = self._matched_again()
        never_again = {pair: value for pair, value in strengths.items() if pair not in again}
        tied = find_ties(never_again, lambda pair: self._fits(pair, self.read(RotatedPair(pair, 0))))
        groups = ImageGroups({name for pair in strengths for name in (pair.name0, pair.name1)}, tied)
        for pair, tie in ties.items():
            groups.join(pair, 90.0 * tie.rotation)
        return groups

    def strengths(self, probes: Sequence[RotatedPair]) -> dict[RotatedPair, float]:
        """How strongly pairs match when they are rotated so, without those of images that cannot be read."""
        return {task: found.strength for task, found in self.match(probes, desc="trying rotated images").items()}

    def _replace(self, tasks: Sequence[RotatedPair]) -> None:
        """Puts rotated matches in the place of upright ones."""
        for rotation in ROTATIONS:
            for part in parts_of((task for task in tasks if task.rotation == rotation), FLUSH_PAIRS):
                self._db.write_matches([(task.pair, self.read(task)) for task in part], matcher_key=self._keys[0])

    def read(self, task: RotatedPair) -> Matches:
        """The matches of a pair at a rotation."""
        return self._db.read_matches(task.pair, matcher_key=self._keys[task.rotation])

    def _measure(self, pair: ImagePair, matches: Matches) -> Found:
        strong = strength(matches, self._num_cells(pair))
        return Found(len(matches), strong, in_plane_rotation(matches) if strong >= TIED else None)

    def _num_cells(self, pair: ImagePair) -> int:
        """Of the smaller grid; 0 of a detector's images."""
        return min(self._cells[pair.name0], self._cells[pair.name1])
