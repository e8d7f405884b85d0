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
from sfm.geometry.two_view import shows_same_place
from sfm.matchers.base import Matcher
from sfm.matching.pair_matching import MatchTable, PairMatching, keys_by_rotation, may_rotate, num_cells
from sfm.matching.prefetch import ImageReader
from sfm.matching.rotations import RotatedPair
from sfm.matching.session import MatchingSession, Session
from sfm.options import MatchingOptions, VerificationOptions
from sfm.types import Grid, ImagePair, ImageRecord, MatcherTraits, Matches, StageSummary


class _MatchStore(MatchTable, Protocol):
    """What the stage needs of the feature database."""

    def read_images(self) -> tuple[ImageRecord, ...]: ...
    def read_pairs(self) -> tuple[ImagePair, ...]: ...
    def write_pairs(self, pairs: Sequence[ImagePair]) -> None: ...
    def write_grids(self, grids: Mapping[str, Grid | None], *, traits: MatcherTraits | None = None) -> None: ...
    def use_matcher(self, matcher_key: str) -> None: ...


SessionMaker = Callable[[Mapping[str, ImageRecord]], MatchingSession]  # of the images' records by name


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

    Pairs of such an image are taken out of the database's list of pairs.
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
        session = Session(matcher, reader, options) if make_session is None else make_session(records)
        fits = partial(_fits, grids=grids, traits=matcher.traits)
        work = PairMatching(db, session, keys, num_cells(records, grids), fits)
        num_reused = len(work.held(0).intersection(pairs))
        upright = work.match([RotatedPair(pair, 0) for pair in pairs], desc="matching")
        rotated = work.rotate(upright) if may_rotate(matcher, options) else {}
    db.use_matcher(keys[0])
    if session.lost:  # later stages see only pairs that have matches; the next run finds the others again
        pairs = tuple(pair for pair in pairs if pair not in session.lost)
        db.write_pairs(pairs)
    final = {task.pair: found for task, found in upright.items()} | {
        task.pair: found for task, found in rotated.items()
    }
    counts: dict[str, int | float] = {
        "pairs": len(pairs),
        "matches": sum(found.num_rows for found in final.values()),
        "encoded": session.num_encoded,
        "reused": num_reused,
        **({"turned": len(rotated)} if rotated else {}),
    }
    return StageSummary("matching", counts, time.perf_counter() - start, skipped=session.skipped, notes=session.notes)


def _fits(pair: ImagePair, matches: Matches, *, grids: Mapping[str, Grid | None], traits: MatcherTraits) -> bool:
    """Whether one geometry explains the matches of two images with grids, so that they need not be rotated."""
    grid0, grid1 = grids[pair.name0], grids[pair.name1]
    if grid0 is None or grid1 is None:
        return True
    max_error = allowed_error((grid0, grid1), traits, VerificationOptions().max_error)
    return shows_same_place(matches, max_error, Blocks.of(grid0, grid1))
