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
    RotatedPair,
    find_rotations,
    find_ties,
    strength,
)
from sfm.matching.session import MatchingSession
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


def glancing(matcher: Matcher) -> Matcher:
    """The matcher that tells which images are rotated: the same at small images, where it can be had."""
    return matcher.at_size(GLANCE_PX) if isinstance(matcher, Resizable) else matcher


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


class Found(NamedTuple):
    """What is kept in mind of a pair's matches."""

    num_rows: int
    strength: float


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
                    found[task] = self._measure(task.pair, self._read(task))
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
        self, first: Sequence[ImagePair], names: Sequence[str], candidates: Candidates
    ) -> tuple[dict[RotatedPair, Found], list[TriedPair]]:
        """Matches pairs round after round, as sfm.matching.growth chooses them; what was found, and what was tried.

        first: the first round. names: of the rows that the candidates are pairs of.
        """
        row_of = {name: row for row, name in enumerate(names)}
        named = {ImagePair(names[i], names[j]): row for row, (i, j) in enumerate(candidates.rows.tolist())}
        of_candidate = [list(REASONS)[number] for number in candidates.reason.tolist()]
        growth = PairGrowth(len(names), candidates)
        found: dict[RotatedPair, Found] = {}
        tried: list[TriedPair] = []
        todo = {pair: of_candidate[named[pair]] if pair in named else "row" for pair in first}
        number = 1
        while todo:
            tasks = [RotatedPair(pair, 0) for pair in todo]
            answers = self.match(tasks, desc="matching" if number == 1 else f"matching, round {number}")
            ties = self._tied({task.pair: answer.strength for task, answer in answers.items()})
            growth.learn([Tried((row_of[pair.name0], row_of[pair.name1]), pair in ties) for pair in todo])
            tried += [TriedPair(t.pair, number, todo[t.pair], t.pair in ties) for t in tasks if t in answers]
            found |= answers
            todo = {ImagePair(names[i], names[j]): reason for (i, j), reason in growth.propose()}
            number += 1
        return found, tried

    def _tied(self, strengths: Mapping[ImagePair, float]) -> set[ImagePair]:
        """The pairs that match well as they are, by the measure of `rotate`: the geometry is asked where it is needed.

        Those that an earlier run rotated are none of them, and hold other matches now.
        """
        rotated_before = frozenset[ImagePair]().union(*(self.held(rotation) for rotation in ROTATIONS))
        upright = {pair: value for pair, value in strengths.items() if pair not in rotated_before}
        asked = {pair for pair in upright if not min(self._cells[pair.name0], self._cells[pair.name1])}  # a detector's
        tied = {pair for pair, value in upright.items() if value >= CLEARLY_TIED and pair not in asked}
        doubtful = [pair for pair, value in upright.items() if pair in asked or TIED <= value < CLEARLY_TIED]
        answers = self._session.fit(self._fits, ((pair, self._read(RotatedPair(pair, 0))) for pair in doubtful))
        return tied | {pair for pair, fits in zip(doubtful, answers, strict=True) if fits}

    def rotate(self, upright: Mapping[RotatedPair, Found], glance: PairMatching) -> dict[RotatedPair, Found]:
        """Matches pairs between groups of images again, rotated; clearly better matches replace the upright ones.

        glance: matches them at small images first; this one where there is no other (`glancing`). Returns the
        replaced ones, also those that an earlier run replaced.
        """
        rotated_before = frozenset[ImagePair]().union(*(self.held(rotation) for rotation in ROTATIONS))
        strengths = {task.pair: found.strength for task, found in upright.items()}
        never_rotated = {pair: value for pair, value in strengths.items() if pair not in rotated_before}
        tied = find_ties(never_rotated, lambda pair: self._fits(pair, self._read(RotatedPair(pair, 0))))
        proposed = FOUND if glance is self else PROPOSED
        tasks = find_rotations(list(strengths), tied, glance.strengths, self.strengths, proposed=proposed)
        again = self.match(tasks, desc="rotated images")
        before = {task: upright[RotatedPair(task.pair, 0)] for task in again}
        replaced = {task: found for task, found in again.items() if found.num_rows and found == before[task]}
        better = {t: found for t, found in again.items() if found.strength > CLEARLY * before[t].strength}
        self._replace(list(better))
        return replaced | better

    def strengths(self, probes: Sequence[RotatedPair]) -> dict[RotatedPair, float]:
        """How strongly pairs match when they are rotated so, without those of images that cannot be read."""
        return {task: found.strength for task, found in self.match(probes, desc="trying rotated images").items()}

    def _replace(self, tasks: Sequence[RotatedPair]) -> None:
        """Puts rotated matches in the place of upright ones."""
        for rotation in ROTATIONS:
            of_rotation = [task for task in tasks if task.rotation == rotation]
            for begin in range(0, len(of_rotation), FLUSH_PAIRS):
                batch = [(task.pair, self._read(task)) for task in of_rotation[begin : begin + FLUSH_PAIRS]]
                self._db.write_matches(batch, matcher_key=self._keys[0])

    def _read(self, task: RotatedPair) -> Matches:
        return self._db.read_matches(task.pair, matcher_key=self._keys[task.rotation])

    def _measure(self, pair: ImagePair, matches: Matches) -> Found:
        return Found(len(matches), strength(matches, min(self._cells[pair.name0], self._cells[pair.name1])))
