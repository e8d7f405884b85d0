"""What of a run is reused: one rule for resuming after a kill, for partial reruns and for provenance.

A stage's fingerprint is a hash of its name, its revision, what it depends on and the fingerprints of the stages that it
reads. A stage that is committed with the same fingerprint is reused, anything else is redone. Inside the matching stage
pairs survive by themselves: only pairs whose images or whose matcher changed are matched again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sfm import __version__
from sfm.pipeline.stages import Run, Stage, images_content
from sfm.system import memory
from sfm.system.hashing import json_digest
from sfm.system.machine import peak_mb, reset_peak
from sfm.types import StageSummary


def bring_up_to_date(stage: Stage, run: Run, read: Mapping[str, str]) -> tuple[StageSummary, str]:
    """Reuses what the stage left, or runs it; its summary, and the hash that stages which read it depend on.

    read: that hash of every stage before it.
    """
    fingerprint = fingerprint_of(stage, run, read)
    summary = run.db.summary(stage.name)
    if summary is not None and run.db.fingerprint(stage.name) == fingerprint and _is_there(stage, run.out):
        summary = replace(summary, reused=True)
    else:
        run.db.invalidate(stage.name)
        memory.give_back()
        reset_peak()
        summary = replace(stage.run(run), peak_mb=peak_mb())
        # Matching that had to leave out images is committed as such, and tried again by the next run.
        fingerprint = _with_skipped(stage, fingerprint, summary)
        run.db.commit(stage.name, fingerprint=fingerprint, provenance=_provenance(stage, run), summary=summary)
    return summary, images_content(run.db) if stage.name == "images" else fingerprint


def fingerprint_of(stage: Stage, run: Run, read: Mapping[str, str]) -> str:
    """Hash of all that the stage's results depend on. Revision 1 is hashed as version 0.1.0 was, so that databases of
    that version are reused."""
    read_by_stage = [read[name] for name in stage.reads]
    return json_digest([stage.name, f"0.{stage.revision}.0", stage.depends_on(run), read_by_stage])


def _with_skipped(stage: Stage, fingerprint: str, summary: StageSummary) -> str:
    if stage.name == "matching" and summary.skipped:
        return json_digest([fingerprint, summary.skipped])
    return fingerprint


def _is_there(stage: Stage, out: Path) -> bool:
    """Some results are files of their own, which somebody may have moved."""
    return all((out / name).is_file() for name in stage.files)


def _provenance(stage: Stage, run: Run) -> dict[str, Any]:
    own = run.options.as_dict().get(stage.name, {})
    return {
        "version": __version__,
        "options": own,
        **({"matcher": run.matcher_provenance} if stage.name == "matching" else {}),
    }
