"""Stage 1: the images of a folder, checked and written as records (sfm.images.index)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from sfm.images.index import index_images
from sfm.options import ImageOptions
from sfm.types import ImageRecord, StageSummary


class _ImageStore(Protocol):
    """What `run` needs of the feature database."""

    def write_images(self, records: Sequence[ImageRecord]) -> None: ...
    def write_copies(self, copies: Mapping[str, str]) -> None: ...


def run(db: _ImageStore, folder: Path, options: ImageOptions, *, exclude: Sequence[Path] = ()) -> StageSummary:
    """Checks the images of the folder and writes their records. exclude, errors: as index_images."""
    start = time.perf_counter()
    records, skipped, notes, copies = index_images(folder, options, exclude=exclude)
    db.write_images(records)
    db.write_copies(copies)
    counts: dict[str, int | float] = {
        "images": len(records),
        "skipped": len(skipped),
        "cameras": len({record.camera.group for record in records}),
        "focal_priors": sum(record.camera.has_focal_prior for record in records),
    }
    if located := sum(record.gps is not None for record in records):
        counts["gps_positions"] = located
    if copies:
        counts["copies"] = len(copies)
    return StageSummary("images", counts, time.perf_counter() - start, skipped, notes=notes)
