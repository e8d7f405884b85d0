"""Stage 2: which images are matched with which."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sfm.images.video.records import clip_folders
from sfm.options import PairOptions
from sfm.pairs.base import ImageSet
from sfm.pairs.registry import choose
from sfm.types import ImagePair, ImageRecord, StageSummary

log = logging.getLogger(__name__)


class _PairStore(Protocol):
    """What `run` needs of the feature database."""

    def read_images(self) -> tuple[ImageRecord, ...]: ...
    def summary(self, stage: str) -> StageSummary | None: ...
    def write_pairs(self, pairs: Sequence[ImagePair]) -> None: ...


def run(
    db: _PairStore, options: PairOptions, folder: Path, *, masks: Path | None = None, cache: Path | None = None
) -> StageSummary:
    """Chooses the pairs of the database's images and writes them; logs the note as a warning. folder: the images.
    masks: folder of masks. cache: file that descriptors of the images are kept in."""
    start = time.perf_counter()
    summary = db.summary("images")
    skipped = tuple(name for name, _ in summary.skipped) if summary else ()
    records = db.read_images()
    clips = clip_folders(folder, [record.name for record in records])
    images = ImageSet(records, folder, skipped, masks, clips, cache)
    chosen = choose(options.pairs, images)
    if chosen.note:
        log.warning("%s", chosen.note)
    db.write_pairs(chosen.pairs)
    counts: dict[str, int | float] = {
        "images": len(images.records),
        "pairs": len(chosen.pairs),
        "dropped": chosen.dropped,
    }
    notes = (chosen.note,) if chosen.note else ()
    return StageSummary("pairs", counts, time.perf_counter() - start, notes=notes)
