"""Console output of a run, during and at its end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from sfm.errors import BadFile
from sfm.results.files import DATABASE, REPORT, RUN_JSON
from sfm.results.hints import next_commands
from sfm.results.model_source import record_of
from sfm.results.run_json import recorded_warnings
from sfm.types import ReconstructionSummary, StageSummary

PROBABLY_BAD = "this model is probably bad"


def stage_line(stage: StageSummary) -> str:
    """One line per stage: its name, its counts, its time or that it was reused."""
    counts = ", ".join(f"{_number(value)} {name.replace('_', ' ')}" for name, value in stage.counts.items())
    time = "reused" if stage.reused else f"{stage.seconds:.1f} s"
    return f"{stage.stage:<13}{time:>9}  {counts}"


def stage_text(stage: StageSummary) -> str:
    """What is printed when a stage ends: its line, and where there is no model why each image is in none."""
    lost = stage.skipped if stage.counts.get("models") == 0 else ()
    return "\n".join([stage_line(stage), *(f"  {name}: {reason}" for name, reason in lost)])


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def summary_text(summary: ReconstructionSummary, folder: Path, out: Path, *, matcher: str = "loftr") -> str:
    """The end of a run: figures, images that are not in the model and why, files, next commands.

    matcher: of the run's options; the same images by SIFT are proposed after any other.
    """
    if not summary.models:
        return f"stopped after {summary.stages[-1].stage}; the same command without --stop-after resumes"
    lines = [
        f"registered images       {summary.registered} of {summary.images}",
        f"3D points               {summary.points3D:,}",
        f"mean track length       {summary.track_length:.2f}",
        f"mean reprojection error {summary.reprojection_error:.2f} px",
    ]
    if len(summary.models) > 1:
        others = ", ".join(f"{path.parent.name}/{path.name} ({num} images)" for path, num in summary.models[1:])
        lines.append(f"other models            {others}")
    if summary.warnings:
        lines += ["", f"{PROBABLY_BAD}:", *(f"  {warning.sign}: {warning.text}" for warning in summary.warnings)]
    notes = [note for stage in summary.stages for note in stage.notes]
    lines += ["", *notes] if notes else []
    if summary.unregistered:
        lines += ["", "not registered:", *(f"  {name}: {reason}" for name, reason in summary.unregistered)]
    return "\n".join([*lines, "", *_files(summary, out), "", *next_commands(folder, out, matcher)])


def _files(summary: ReconstructionSummary, out: Path) -> list[str]:
    files: dict[str, Path | None] = {
        "sparse model (COLMAP)": summary.model_dir,
        "coloured points": out / "points.ply",
        "features and matches": out / DATABASE,
        "COLMAP database": out / "database.db",
        "machine-readable": out / RUN_JSON,
    }
    if _is_newer(out / REPORT, out / RUN_JSON):  # one that is older is not of this run
        files = {"report (any browser)": out / REPORT, **files}
    return [f"{what:<24}{path}" for what, path in files.items() if path is not None and path.exists()]


def _is_newer(path: Path, than: Path) -> bool:
    """Whether a file was written, or found to be right, after another one."""
    return path.is_file() and than.is_file() and path.stat().st_mtime_ns >= than.stat().st_mtime_ns


def print_stage(stage: StageSummary) -> None:
    """Prints what a stage did when it ends."""
    print(stage_text(stage), flush=True)


def bad_model_line(warnings: Sequence[str]) -> str:
    """The warnings about a model, in the line that goes with the exit code."""
    return f"{PROBABLY_BAD} (exit code 4): {'; '.join(warnings)}"


def print_warnings(*runs: Path | None) -> None:
    """Prints the warnings in the run.json of runs on standard error."""
    for text in filter(None, (warnings_text(run) for run in runs if run is not None)):
        print(text, file=sys.stderr)


def warnings_text(out: Path) -> str:
    """The warnings of a run about its model, one per line; "" where it has nothing, or the folder is no run's."""
    try:
        warnings = recorded_warnings(record_of(out))
    except BadFile:
        return ""
    return "\n".join([f"{out}: {PROBABLY_BAD}:", *(f"  {text}" for text in warnings)]) if warnings else ""
