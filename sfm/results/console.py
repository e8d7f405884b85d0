"""Console output of a run, during and at its end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from sfm.errors import BadFile
from sfm.results.cameras import cameras_line, read_figures
from sfm.results.files import DATABASE, REPORT, RUN_JSON
from sfm.results.hints import next_commands
from sfm.results.model_source import output_folder, record_of
from sfm.results.run_json import num_refused, recorded_warnings
from sfm.results.stage_text import stage_sentence
from sfm.types import ReconstructionSummary, StageSummary
from sfm.wording import counted, some

MANY = 10  # images with one reason, from which on they share a line
PROBABLY_BAD = "this model is probably bad"


def stage_line(stage: StageSummary) -> str:
    """One line per stage: its name, what it did, its time or that it was reused."""
    time = "reused" if stage.reused else f"{stage.seconds:.1f} s"
    return f"{stage.stage:<13}{time:>9}  {stage_sentence(stage)}"


def stage_text(stage: StageSummary) -> str:
    """What is printed when a stage ends: its line, what should be known before the next one takes its time, and where
    there is no model why each image is in none."""
    lost = stage.skipped if stage.counts.get("models") == 0 or stage.stage == "images" else ()
    notes = [f"  {note}" for note in stage.notes] if stage.stage == "images" else []
    return "\n".join([stage_line(stage), *reasons_lines(lost), *notes])


def reasons_lines(lost: Sequence[tuple[str, str]]) -> list[str]:
    """Images and why they are left out, a line each; of many with one reason a line for all of them."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in lost:
        by_reason.setdefault(reason, []).append(name)
    lines = []
    for reason, names in by_reason.items():
        if len(names) > MANY:
            lines.append(f"  {counted(len(names), 'image')} ({some(names)}): {reason}")
        else:
            lines += [f"  {name}: {reason}" for name in names]
    return lines


def _is_detail(note: str) -> bool:
    """Whether a note is of figures that run.json and the report show: of calibration, camera by camera."""
    return note.startswith("camera ") and "±" in note and "depths may be" not in note


def summary_text(summary: ReconstructionSummary, folder: Path, out: Path, *, matcher: str = "loftr") -> str:
    """The end of a run: figures, images that are not in the model and why, files, next commands.

    matcher: of the run's options; the same images by SIFT are proposed after any other.
    """
    if not summary.models:
        return f"stopped after {summary.stages[-1].stage}; the same command without --stop-after resumes"
    lines = [
        f"registered images       {summary.registered} of {summary.images}",
        f"3D points               {summary.points3D:,}",
        f"images per point        {summary.track_length:.2f} (mean track length)",
        f"reprojection error      {summary.reprojection_error:.2f} px (mean)",
    ]
    if summary.model_dir is not None and (line := cameras_line(read_figures(summary.model_dir))):
        lines.append(f"{'camera':<24}{line}")
    if summary.georeference is not None:
        lines.append(f"frame                   {summary.georeference['text']}")
    if len(summary.models) > 1:
        others = ", ".join(
            f"{path.parent.name}/{path.name} ({counted(num, 'image')})" for path, num in summary.models[1:]
        )
        lines.append(f"other models            {others}")
    if summary.warnings:
        lines += ["", f"{PROBABLY_BAD}:", *(f"  {warning.sign}: {warning.text}" for warning in summary.warnings)]
    notes = [note for stage in summary.stages for note in stage.notes if not _is_detail(note)]
    lines += ["", *notes] if notes else []
    if summary.unregistered:
        lines += ["", "not registered:", *reasons_lines(summary.unregistered)]
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
    """Prints the warnings in the run.json of runs on standard error, and which models are not of the last run."""
    for run in (run for run in runs if run is not None):
        for text in filter(None, (warnings_text(run), earlier_text(run))):
            print(text, file=sys.stderr)


def refused_by(out: Path) -> int:
    """Pairs that the run of a model did not use, since they show places that look alike; 0 where it is no run's."""
    try:
        return num_refused(record_of(out))
    except BadFile:
        return 0


def warnings_text(out: Path) -> str:
    """The warnings of a run about its model, one per line; "" where it has nothing, or the folder is no run's."""
    try:
        warnings = recorded_warnings(record_of(out))
    except BadFile:
        return ""
    return "\n".join([f"{out}: {PROBABLY_BAD}:", *(f"  {text}" for text in warnings)]) if warnings else ""


def earlier_text(out: Path) -> str:
    """That the model in a run's folder is of a run before the last one, which made none; "" where it is not."""
    folder = output_folder(out)
    try:
        record = record_of(out)
    except BadFile:
        return ""
    if folder is None or record.get("models") != [] or not (folder / "sparse" / "0").is_dir():
        return ""
    why = f" ({record['error']})" if record.get("error") else ""
    return f"{out}: the last run here made no model{why}: what is in sparse/ is of an earlier one"
