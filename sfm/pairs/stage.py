"""Stage 2: which images are matched with which."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sfm.options import PairOptions
from sfm.pairs.base import ImageSet
from sfm.pairs.registry import choose
from sfm.types import CameraRig, ImagePair, ImageRecord, StageSummary

log = logging.getLogger(__name__)


class _PairStore(Protocol):
    """What `run` needs of the feature database."""

    def read_images(self) -> tuple[ImageRecord, ...]: ...
    def summary(self, stage: str) -> StageSummary | None: ...
    def write_pairs(self, pairs: Sequence[ImagePair]) -> None: ...


def run(db: _PairStore, options: PairOptions, folder: Path, *, rigs: Sequence[CameraRig] = ()) -> StageSummary:
    """Chooses the pairs of the database's images and writes them; logs the note as a warning. folder: the images.

    rigs: whose cameras, where they are all in one place, are not matched with each other at one time: there is no
    parallax between them, and their poses are known.
    """
    start = time.perf_counter()
    summary = db.summary("images")
    skipped = tuple(name for name, _ in summary.skipped) if summary else ()
    images = ImageSet(db.read_images(), folder, skipped)
    chosen = choose(options.pairs, images)
    if chosen.note:
        log.warning("%s", chosen.note)
    frame_of = {name: i for i, names in enumerate(_places(rigs)) for name in names}
    pairs = [p for p in chosen.pairs if p.name0 not in frame_of or frame_of[p.name0] != frame_of.get(p.name1)]
    db.write_pairs(pairs)
    counts: dict[str, int | float] = {
        "images": len(images.records),
        "pairs": len(pairs),
        "dropped": chosen.dropped,
    }
    return StageSummary("pairs", counts, time.perf_counter() - start)


def _places(rigs: Sequence[CameraRig]) -> list[list[str]]:
    """The images that were taken in one place."""
    return [[name for name in frame if name is not None] for rig in rigs if rig.is_central for frame in rig.frames]
