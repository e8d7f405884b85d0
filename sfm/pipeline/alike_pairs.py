"""Pairs that show places that look alike: which ones the user trusts, and tracks without those that are refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sfm.errors import BadFile
from sfm.images.index import copy_reasons
from sfm.match_graph import RefusedPair
from sfm.pairs.file import from_file
from sfm.system import memory
from sfm.tracks import stage as tracks
from sfm.types import ImagePair

if TYPE_CHECKING:
    from sfm.pipeline.stages import Run

ALL = "all"  # of --trust-pairs


def check_trusted(given: str | None) -> None:
    """Says what is wrong with --trust-pairs as far as that is known before the images are read. Raises BadFile."""
    if given not in (None, ALL) and not Path(str(given)).is_file():
        raise BadFile(f"--trust-pairs {given}: no such file; give one with two image names a line, or {ALL}")


def trusted_pairs(run: Run) -> frozenset[ImagePair] | None:
    """The pairs that are never refused; None: all of them. Raises BadFile for a file that is not of these images."""
    given = run.options.mapping.trust_pairs
    if given == ALL:
        return None
    if given is None:
        return frozenset()
    summary = run.db.summary("images")
    skipped = [name for name, _ in (*(summary.skipped if summary else ()), *copy_reasons(run.db.read_copies()))]
    return frozenset(from_file(Path(given), [r.name for r in run.db.read_images()], skipped=skipped).pairs)


def trusted_digest(run: Run) -> list[list[str]]:
    """What of --trust-pairs the models depend on; empty without it."""
    trusted = trusted_pairs(run)
    if trusted is None:
        return [[ALL]]
    return [[pair.name0, pair.name1] for pair in sorted(trusted)]


def build_tracks_without(run: Run, refused: Sequence[RefusedPair]) -> None:
    """Tracks anew, without the matches of some pairs; the stage stays committed as what it was."""
    fingerprint, provenance = run.db.fingerprint("tracks"), run.db.provenance("tracks")
    budget = memory.budget(run.options.matching.memory)
    summary = tracks.run(run.db, run.options.tracks, memory=budget, without=refused)
    if fingerprint is not None:
        run.db.commit("tracks", fingerprint=fingerprint, provenance=provenance, summary=summary)
