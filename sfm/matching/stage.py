"""Stage 3: each image encoded as rarely as memory allows, each pair matched once, streamed into the database.

A thread decodes the next images while the matcher works. Pairs that the database already holds for
these images and this matcher are not matched again, so a run that was stopped carries on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from sfm.geometry.evidence import Blocks
from sfm.geometry.pixels import allowed_error
from sfm.geometry.two_view import screen, shows_same_place
from sfm.match_graph import Candidates, TriedPair
from sfm.matchers.base import Matcher
from sfm.matching.pair_matching import MatchTable, PairMatching, glancing, keys_by_rotation, may_rotate, num_cells
from sfm.matching.prefetch import ImageReader
from sfm.matching.rotations import RotatedPair
from sfm.matching.session import MatchingSession, Session
from sfm.options import MatchingOptions, VerificationOptions
from sfm.types import Grid, ImagePair, ImageRecord, MatcherTraits, Matches, StageSummary


class _MatchStore(MatchTable, Protocol):
    """What the stage needs of the feature database."""

    def read_images(self) -> tuple[ImageRecord, ...]: ...
    def read_pairs(self) -> tuple[ImagePair, ...]: ...
    def read_candidates(self) -> Candidates | None: ...
    def write_tried(self, tried: Sequence[TriedPair]) -> None: ...
    def write_grids(self, grids: Mapping[str, Grid | None], *, traits: MatcherTraits | None = None) -> None: ...
    def use_matcher(self, matcher_key: str) -> None: ...


SessionMaker = Callable[[Matcher, Mapping[str, ImageRecord]], MatchingSession]  # of a matcher, and records by name


def run(
    db: _MatchStore,
    matcher: Matcher,
    folder: Path,
    options: MatchingOptions,
    *,
    masks: Path | None = None,
    make_session: SessionMaker | None = None,
) -> StageSummary:
    """Matches the database's pairs that are not matched yet; an image that cannot be read costs its pairs only.

    Where more pairs may follow, these are the first round, and others come as the matches speak for them
    (sfm.matching.growth). What was matched is written as what was tried, without pairs of images that cannot be read.
    folder: the images. masks: folder of masks or None. make_session: of what matches elsewhere than here. Raises
    SfMError when memory does not suffice for a single pair.
    """
    start = time.perf_counter()
    records = {record.name: record for record in db.read_images()}
    pairs = db.read_pairs()
    grids = {name: matcher.grid(record.width, record.height) for name, record in records.items()}
    db.write_grids(grids, traits=matcher.traits)
    keys = keys_by_rotation(matcher, options)
    with ImageReader(folder, records, masks) as reader:
        make = make_session or (lambda matcher, _: Session(matcher, reader, options))
        session = make(matcher, records)
        fits = partial(fits_one_place, grids=grids, traits=matcher.traits)
        work = PairMatching(db, session, keys, num_cells(records, grids), fits)
        held, candidates = work.held(0), db.read_candidates()
        if candidates is None:
            upright = work.match([RotatedPair(pair, 0) for pair in pairs], desc="matching")
            tried = [TriedPair(pair) for pair in pairs if RotatedPair(pair, 0) in upright]
        else:
            upright, tried = work.grow(pairs, list(records), candidates)
        glance, small = work, glancing(matcher)
        if small is not matcher:
            small_grids = {name: small.grid(record.width, record.height) for name, record in records.items()}
            small_cells, small_keys = num_cells(records, small_grids), keys_by_rotation(small, options)
            glance = PairMatching(db, make(small, records), small_keys, small_cells, fits)
        rotated = work.rotate(upright, glance) if may_rotate(matcher, options) else {}
    db.use_matcher(keys[0])
    db.write_tried(tried)  # later stages see only pairs that have matches; the next run tries the others again
    final = {task.pair: found for task, found in upright.items()} | {
        task.pair: found for task, found in rotated.items()
    }
    counts: dict[str, int | float] = {
        "pairs": len(tried),
        "matches": sum(found.num_rows for found in final.values()),
        "encoded": session.num_encoded,
        "reused": sum(each.pair in held for each in tried),
        **({"turned": len(rotated)} if rotated else {}),
        **_counts_of_rounds(tried),
    }
    return StageSummary("matching", counts, time.perf_counter() - start, skipped=session.skipped, notes=session.notes)


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
