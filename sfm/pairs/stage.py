"""Stage 2: which images are matched with which."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from sfm.images.video.records import clip_folders
from sfm.match_graph import Candidates
from sfm.options import PairOptions
from sfm.pairs.base import ImageSet
from sfm.pairs.registry import choose
from sfm.types import CameraRig, ImagePair, ImageRecord, StageSummary

log = logging.getLogger(__name__)


class _PairStore(Protocol):
    """What `run` needs of the feature database."""

    def read_images(self) -> tuple[ImageRecord, ...]: ...
    def read_copies(self) -> dict[str, str]: ...
    def summary(self, stage: str) -> StageSummary | None: ...
    def write_pairs(self, pairs: Sequence[ImagePair]) -> None: ...
    def write_candidates(self, candidates: Candidates | None) -> None: ...


def run(
    db: _PairStore,
    options: PairOptions,
    folder: Path,
    *,
    rigs: Sequence[CameraRig] = (),
    masks: Path | None = None,
    cache: Path | None = None,
) -> StageSummary:
    """Chooses the pairs of the database's images and writes them; logs the note as a warning. folder: the images.

    rigs: whose cameras, where they are all in one place, are not matched with each other at one time: there is no
    parallax between them, and their poses are known. masks: folder of masks. cache: file that descriptors of the images
    are kept in.
    """
    start = time.perf_counter()
    summary = db.summary("images")
    skipped = (*(name for name, _ in summary.skipped), *db.read_copies()) if summary else ()
    records = db.read_images()
    clips = clip_folders(folder, [record.name for record in records])
    images = ImageSet(records, folder, skipped, masks, clips, cache)
    chosen = choose(options.pairs, images)
    if chosen.note:
        log.warning("%s", chosen.note)
    in_a_row = any(part.partition(":")[0] == "sequential" for part in options.pairs.split("+"))
    spread = _with_frames(chosen.pairs, rigs) if in_a_row else chosen.pairs
    frame_of = _frame_of([rig for rig in rigs if rig.is_central])
    pairs = [pair for pair in spread if not _at_one_time(pair.name0, pair.name1, frame_of)]
    candidates = chosen.candidates
    if candidates is not None:
        ends, names = candidates.rows.tolist(), images.names
        candidates = candidates.kept(np.array([not _at_one_time(names[i], names[j], frame_of) for i, j in ends], bool))
    db.write_pairs(pairs)
    db.write_candidates(candidates)
    counts: dict[str, int | float] = {
        "images": len(images.records),
        "pairs": len(pairs),
        "dropped": chosen.dropped,
        **({} if candidates is None else {"candidates": len(candidates)}),
    }
    notes = (chosen.note,) if chosen.note else ()
    return StageSummary("pairs", counts, time.perf_counter() - start, notes=notes)


def _at_one_time(a: str, b: str, frame_of: Mapping[str, tuple[str, ...]]) -> bool:
    """Two cameras that are in one place took them at one time."""
    return a in frame_of and frame_of[a] == frame_of.get(b)


def _frame_of(rigs: Sequence[CameraRig]) -> dict[str, tuple[str, ...]]:
    """Of each image those that were taken at the same time, itself among them."""
    frames = (tuple(rig.taken(frame).values()) for rig in rigs for frame in rig.frames)
    return {name: names for names in frames for name in names}


def _with_frames(pairs: Sequence[ImagePair], rigs: Sequence[CameraRig]) -> list[ImagePair]:
    """Images in a row follow each other in every camera of a rig: all of the one time with all of the other, and those
    of one time with each other. Faces of panoramas follow each other as they are: there would be very many."""
    frame_of = _frame_of([rig for rig in rigs if not rig.is_central])
    found = dict.fromkeys(pairs)
    for names in dict.fromkeys(frame_of.values()):
        found |= dict.fromkeys(ImagePair.of(a, b) for i, a in enumerate(names) for b in names[:i])
    for pair in pairs:
        ends = frame_of.get(pair.name0, (pair.name0,)), frame_of.get(pair.name1, (pair.name1,))
        found |= dict.fromkeys(ImagePair.of(a, b) for a in ends[0] for b in ends[1] if a != b)
    return list(found)
