"""Stage 3: each image encoded as rarely as memory allows, each pair matched once, streamed into the database.

A thread decodes the next images while the matcher works. Pairs that the database already holds for
these images and this matcher are not matched again, so a run that was stopped carries on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from sfm.finders import Finder
from sfm.geometry.evidence import Blocks
from sfm.geometry.pixels import allowed_error
from sfm.geometry.two_view import screen, shows_same_place
from sfm.match_graph import Candidates, TriedPair
from sfm.matchers.base import Matcher
from sfm.matching.fallback import help_loose
from sfm.matching.loose_images import LooseImages, among
from sfm.matching.pair_matching import (
    Grown,
    MatchTable,
    PairMatching,
    glancing,
    keys_by_rotation,
    may_rotate,
    num_cells,
)
from sfm.matching.prefetch import ImageReader
from sfm.matching.rotations import RotatedPair
from sfm.matching.session import MatchingSession, Session
from sfm.matching.turning import Found
from sfm.options import MatchingOptions, VerificationOptions
from sfm.types import Grid, ImagePair, ImageRecord, MatcherTraits, Matches, StageSummary


class _MatchStore(MatchTable, Protocol):
    """What the stage needs of the feature database."""

    def read_images(self) -> tuple[ImageRecord, ...]: ...
    def read_pairs(self) -> tuple[ImagePair, ...]: ...
    def read_candidates(self) -> Candidates | None: ...
    def write_tried(self, tried: Sequence[TriedPair]) -> None: ...
    def write_grids(
        self, grids: Mapping[str, Grid | None], *, traits: MatcherTraits | None = None, others: Sequence[Finder] = ()
    ) -> None: ...
    def use_matcher(self, matcher_key: str, *others: str) -> None: ...


_Records = Mapping[str, ImageRecord]
SessionMaker = Callable[[Matcher, Mapping[str, ImageRecord]], MatchingSession]  # of a matcher, and records by name


class OneOfSeveral(NamedTuple):
    """A matcher of a run. options: its own. make_session: of what matches elsewhere than here."""

    matcher: Matcher
    options: MatchingOptions
    make_session: SessionMaker | None = None


class _Result(NamedTuple):
    """What one matcher found. rotated: of found or in its place, what is not as the images are. num_helped: pairs that
    a fallback ties."""

    found: Mapping[RotatedPair, Found]
    rotated: Mapping[RotatedPair, Found]
    tried: list[TriedPair]
    num_helped: int = 0

    @property
    def of_pairs(self) -> dict[ImagePair, Found]:
        """What is kept of each pair."""
        return {task.pair: found for task, found in (*self.found.items(), *self.rotated.items())}

    @property
    def num_rows(self) -> int:
        """Matches of all pairs."""
        return sum(found.num_rows for found in self.of_pairs.values())


class _Work:
    """What one matcher does in the stage."""

    def __init__(self, db: _MatchStore, one: OneOfSeveral, finder: Finder, reader: ImageReader, records: _Records):
        self._db, self._one, self._records = db, one, records
        self._make = one.make_session or (lambda matcher, _: Session(matcher, reader, one.options))
        self._fits = partial(fits_one_place, grids=finder.grids, traits=finder.traits)
        self.keys = keys_by_rotation(one.matcher, one.options)
        self.session = self._make(one.matcher, records)
        self.pairs = PairMatching(db, self.session, self.keys, num_cells(records, finder.grids), self._fits)

    def matched(self, pairs: Sequence[ImagePair], candidates: Candidates | None, desc: str = "matching") -> _Result:
        """What there is of each pair, without those of images that cannot be read. candidates: that may follow."""
        rotating = may_rotate(self._one.matcher, self._one.options)
        if candidates is None:
            grown = self.pairs.match_each(pairs, desc=desc, rotating=rotating)
            rotated = self._rotated(grown, carried=False)
            grown = self.pairs.probe(grown, rotated) if rotating else grown
        else:
            grown = self.pairs.grow(pairs, list(self._records), candidates, rotating=rotating)
            rotated = self._rotated(grown, carried=True)
        self.session.forget()
        return _Result(grown.found, rotated | grown.turned, grown.tried)

    def helping(self, first: _Result, candidates: Candidates | None) -> _Result:
        """What this detector finds of images that the first matcher hardly ties to others."""
        names = list(self._records)
        likely = among(first.found, names) if candidates is None else candidates
        helped = help_loose(self.pairs, first.of_pairs, first.tried, LooseImages(names, likely))
        self.session.forget()
        return _Result(helped.found, {}, helped.tried, num_helped=len(helped.tied))

    def _rotated(self, grown: Grown, *, carried: bool) -> dict[RotatedPair, Found]:
        """Pairs that match better with one image rotated, as they do then. carried: as of PairMatching.rotate."""
        matcher, options = self._one.matcher, self._one.options
        if not may_rotate(matcher, options):
            return {}
        glance, small = self.pairs, glancing(matcher)
        if small is not matcher:
            grids = {name: small.grid(record.width, record.height) for name, record in self._records.items()}
            keys, cells = keys_by_rotation(small, options), num_cells(self._records, grids)
            glance = PairMatching(self._db, self._make(small, self._records), keys, cells, self._fits)
        return self.pairs.rotate(grown, glance, carried=carried)


def run(
    db: _MatchStore,
    matcher: Matcher,
    folder: Path,
    options: MatchingOptions,
    *,
    masks: Path | None = None,
    make_session: SessionMaker | None = None,
) -> StageSummary:
    """The stage with one matcher: as run_several."""
    return run_several(db, [OneOfSeveral(matcher, options, make_session)], folder, masks=masks)


def run_several(
    db: _MatchStore,
    matchers: Sequence[OneOfSeveral],
    folder: Path,
    *,
    masks: Path | None = None,
    fallback: OneOfSeveral | None = None,
) -> StageSummary:
    """Matches the database's pairs that are not matched yet; an image that cannot be read costs its pairs only.

    Where more pairs may follow, these are the first round, and others come as the first matcher's matches speak for
    them (sfm.matching.growth). The others match the same pairs, each under a key of its own. What was matched is
    written as what was tried, without pairs of images that cannot be read. folder: the images. masks: folder of masks
    or None. fallback: a detector for images that the first matcher hardly ties to others (sfm.matching.fallback); where
    it finds nothing all is as without it. Raises SfMError when memory does not suffice for a single pair.
    """
    start = time.perf_counter()
    records = {record.name: record for record in db.read_images()}
    pairs, candidates = db.read_pairs(), db.read_candidates()
    finders = [_finder(one.matcher, records) for one in matchers]
    db.write_grids(finders[0].grids, traits=finders[0].traits, others=finders[1:])
    with ImageReader(folder, records, masks) as reader:
        first = _Work(db, matchers[0], finders[0], reader, records)
        held, each = first.pairs.held(0), [first]
        results = [first.matched(pairs, candidates)]
        tried = results[0].tried
        for one, finder in zip(matchers[1:], finders[1:], strict=True):
            each.append(_Work(db, one, finder, reader, records))
            own = each[-1].matched([known.pair for known in tried], None, f"matching by {one.matcher.name}")
            results.append(own)
        if fallback is not None:
            finders.append(_finder(fallback.matcher, records))
            helper = _Work(db, fallback, finders[-1], reader, records)
            helped = helper.helping(results[0], candidates)
            if helped.num_helped:
                tried, each, results = helped.tried, [*each, helper], [*results, helped]
                db.write_grids(finders[0].grids, traits=finders[0].traits, others=finders[1:])
    db.use_matcher(*(work.keys[0] for work in each))
    db.write_tried(tried)  # later stages see only pairs that have matches; the next run tries the others again
    turned = sum(len(result.rotated) for result in results)
    helps = sum(result.num_helped for result in results)
    counts: dict[str, int | float] = {
        "pairs": len(tried),
        "matches": sum(result.num_rows for result in results),
        "encoded": sum(work.session.num_encoded for work in each),
        "reused": sum(known.pair in held for known in tried),
        **({"turned": turned} if turned else {}),
        **({"helped": helps} if helps else {}),
        **_counts_of_rounds(tried),
    }
    notes = tuple(dict.fromkeys(note for work in each for note in work.session.notes))
    skipped = {name: reason for work in reversed(each) for name, reason in work.session.skipped}
    return StageSummary("matching", counts, time.perf_counter() - start, skipped=tuple(skipped.items()), notes=notes)


def _finder(matcher: Matcher, records: _Records) -> Finder:
    return Finder({name: matcher.grid(record.width, record.height) for name, record in records.items()}, matcher.traits)


def _counts_of_rounds(tried: Sequence[TriedPair]) -> dict[str, int | float]:
    """Of a graph that grew: how many rounds, and of each how many pairs, and how many of them showed one place."""
    asked = [each for each in tried if each.fits is not None]
    if not asked:
        return {}
    counts: dict[str, int | float] = {"rounds": max(each.round for each in asked)}
    for number in range(1, int(counts["rounds"]) + 1):
        own = [each.fits for each in asked if each.round == number]
        counts |= {f"round_{number}": len(own), f"round_{number}_fit": sum(map(bool, own))}
    return counts


def fits_one_place(
    pair: ImagePair, matches: Matches, *, grids: Mapping[str, Grid | None], traits: MatcherTraits
) -> bool:
    """Whether one geometry explains the matches of two images: of a detector's, as many as verification asks for."""
    grid0, grid1, options = grids[pair.name0], grids[pair.name1], VerificationOptions()
    max_error = allowed_error((grid0, grid1), traits, options.max_error)
    if grid0 is None or grid1 is None:
        return len(matches) >= options.min_inliers and len(screen(matches, max_error, 0)) >= options.min_inliers
    return shows_same_place(matches, max_error, Blocks.of(grid0, grid1))
