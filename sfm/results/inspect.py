"""The contents of a run's feature database, as text."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap

from sfm.results.console import reasons_lines
from sfm.results.files import DATABASE
from sfm.results.stage_text import counts_text
from sfm.storage.database import FeatureDatabase
from sfm.types import STAGE_NAMES

WIDTH, INDENT = 120, " " * 24  # of what is known of a matcher


def database_text(place: Path) -> str:
    """What a run's feature database holds, stage by stage. place: the run's folder or the file.

    Raises BadFile where there is none or it is damaged.
    """
    path = place / DATABASE if place.is_dir() else place
    with FeatureDatabase.open(path, "r") as db:
        found = [(name, summary) for name in STAGE_NAMES if (summary := db.summary(name)) is not None]
        lines = [f"{path}: {path.stat().st_size / 1e6:.1f} MB, {len(found)} of {len(STAGE_NAMES)} stages"]
        for name, summary in found:
            time = f"{summary.seconds:.1f} s"
            lines.append(f"{summary.stage:<13}{time:>9}  {counts_text(summary)}")
            matcher = db.provenance(name).get("matcher", {})
            known = ", ".join(f"{key} {value}" for key, value in matcher.items())
            lines += wrap(known, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT, break_on_hyphens=False)
            lines += [f"{'':<22}{line}" for line in reasons_lines(summary.skipped)]
    return "\n".join(lines)
