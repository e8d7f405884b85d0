"""What a run says when it ends: text for people, run.json for machines."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sfm import __version__
from sfm.errors import BadFile
from sfm.export import hloc
from sfm.options import Options
from sfm.storage.database import FeatureDatabase
from sfm.system.machine import machine
from sfm.system.safe_paths import is_path, leads_out_anywhere, refuse_links
from sfm.system.untrusted_files import NUMBER, has_shape, read_json
from sfm.types import ReconstructionSummary, StageSummary

DATABASE = "features.h5"
RUN_JSON = "run.json"
REPORT = "report.html"
PROBABLY_BAD = "this model is probably bad"
STAGE_ORDER = ("images", "pairs", "matching", "verification", "tracks", "mapping", "refinement")
FIGURES = ("images", "registered", "points3D", "observations", "mean_track_length", "mean_reprojection_error_px")
RECORD: Mapping[str, Any] = MappingProxyType(  # what run.json holds of what is shown
    {
        **dict.fromkeys(FIGURES, NUMBER),
        "images_folder": str,
        "stages": [{"stage": str, "seconds": NUMBER}],
        "models": [{"path": str, "images": NUMBER}],
        "unregistered": [{"image": str, "reason": str}],
        "doubts": [{"text": str}],
        "options": {str: dict},
        **dict.fromkeys(("versions", "machine", "matcher"), dict),
    }
)
_VERSIONED = ("torch", "pycolmap", "numpy", "h5py", "open3d")


def stage_line(stage: StageSummary) -> str:
    """One line a stage: its name, its counts, its time or that it was reused."""
    counts = ", ".join(f"{_number(value)} {name.replace('_', ' ')}" for name, value in stage.counts.items())
    time = "reused" if stage.reused else f"{stage.seconds:.1f} s"
    return f"{stage.stage:<13}{time:>9}  {counts}"


def stage_text(stage: StageSummary) -> str:
    """What is printed when a stage ends: its line, and where there is no model why each photo is in none."""
    lost = stage.skipped if stage.counts.get("models") == 0 else ()
    return "\n".join([stage_line(stage), *(f"  {name}: {reason}" for name, reason in lost)])


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def summary_text(summary: ReconstructionSummary, folder: Path, out: Path, *, matcher: str = "loftr") -> str:
    """The end of a run: figures, photos that are not in the model and why, files, next commands.

    matcher: of the run's options; the same photos by SIFT are proposed after any other.
    """
    if not summary.models:
        return f"stopped after {summary.stages[-1].stage}; the same command without --stop-after carries on"
    lines = [
        f"registered images       {summary.registered} of {summary.images}",
        f"3D points               {summary.points3D:,}",
        f"mean track length       {summary.track_length:.2f}",
        f"mean reprojection error {summary.reprojection_error:.2f} px",
    ]
    if len(summary.models) > 1:
        others = ", ".join(f"{path.parent.name}/{path.name} ({num} images)" for path, num in summary.models[1:])
        lines.append(f"other models            {others}")
    if summary.doubts:
        lines += ["", f"{PROBABLY_BAD}:", *(f"  {doubt.sign}: {doubt.text}" for doubt in summary.doubts)]
    notes = [note for stage in summary.stages for note in stage.notes]
    lines += ["", *notes] if notes else []
    if summary.unregistered:
        lines += ["", "not registered:", *(f"  {name}: {reason}" for name, reason in summary.unregistered)]
    return "\n".join([*lines, "", *_files(summary, out), "", *_next_commands(folder, out, matcher)])


def _files(summary: ReconstructionSummary, out: Path) -> list[str]:
    files = {
        "sparse model (COLMAP)": summary.model_dir,
        "coloured points": out / "points.ply",
        "features and matches": out / DATABASE,
        "COLMAP database": out / "database.db",
        "this for machines": out / RUN_JSON,
    }
    if _is_newer(out / REPORT, out / RUN_JSON):  # one that is older is not of this run
        files = {"report (any browser)": out / REPORT} | files
    return [f"{what:<24}{path}" for what, path in files.items() if path.exists()]


def _is_newer(path: Path, than: Path) -> bool:
    """Whether a file was written, or found to be right, after another one."""
    return path.is_file() and than.is_file() and path.stat().st_mtime_ns >= than.stat().st_mtime_ns


def _next_commands(folder: Path, out: Path, matcher: str) -> list[str]:
    photos, here, sift = (shlex.quote(str(path)) for path in (folder, out, f"{out}-sift"))
    beside = [
        (f"loftr-sfm {photos} {sift} --matcher sift", "the same photos by COLMAP's SIFT, and then"),
        (f"loftr-sfm compare {here} {sift}", "both side by side, as a table and in the browser"),
    ]
    commands = [
        (f"loftr-sfm view {here}", "the model in a window (--screenshot FILE.png: without one)"),
        *(beside if matcher != "sift" else ()),
        (f"loftr-sfm export {here} nerfstudio", "for NeRF and Gaussian splatting (others: export --help)"),
        (f"loftr-sfm inspect {here}", "what the database holds"),
    ]
    width = min(max(len(command) for command, _ in commands), 70)
    return ["next:", *(f"  {command:<{width}}  {what}" for command, what in commands)]


def write_run_json(
    summary: ReconstructionSummary,
    folder: Path,
    options: Options,
    matcher: dict[str, str],
    *,
    error: str | None = None,
    imported: Sequence[Path] = (),
) -> None:
    """OUT/run.json: all that the text says, with the options, the versions, the matcher and the machine.

    Appears whole. error: why there is no model. imported: hloc's feature and match files, where they were taken
    instead of matching. Raises BadFile where it cannot be written.
    """
    out = summary.model_dir.parent.parent
    part = out / (RUN_JSON + ".part")
    value = run_dict(summary, folder, options, matcher) | {
        "machine": machine(),
        "command": command(folder, out, options, imported),
        "error": error,
    }
    try:
        part.unlink(missing_ok=True)
        part.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
        os.replace(part, out / RUN_JSON)
    except OSError as cause:
        raise BadFile(f"{out / RUN_JSON}: cannot be written ({cause.strerror})") from None


def run_dict(summary: ReconstructionSummary, folder: Path, options: Options, matcher: dict[str, str]) -> dict[str, Any]:
    """What run.json holds: plain values. Paths of models are relative to the output folder."""
    out = summary.model_dir.parent.parent
    return {
        "program": "loftr-sfm",
        "version": __version__,
        "versions": _versions(),
        "images_folder": str(folder),
        "options": options.as_dict(),
        "matcher": matcher,
        "images": summary.images,
        "registered": summary.registered,
        "points3D": summary.points3D,
        "observations": summary.observations,
        "mean_track_length": summary.track_length,
        "mean_reprojection_error_px": summary.reprojection_error,
        "models": [{"path": path.relative_to(out).as_posix(), "images": num} for path, num in summary.models],
        "unregistered": [{"image": name, "reason": reason} for name, reason in summary.unregistered],
        "doubts": [{"sign": doubt.sign, "text": doubt.text} for doubt in summary.doubts],
        "stages": [_stage_dict(stage) for stage in summary.stages],
    }


def command(folder: Path, out: Path, options: Options, imported: Sequence[Path] = ()) -> str:
    """The shell command that makes this run again: what differs from the defaults."""
    words = ["loftr-sfm", *(["import"] if imported else []), str(folder), str(out)]
    words += [
        word for flag, path in zip(("--features", "--matches"), imported, strict=False) for word in (flag, str(path))
    ]
    for group in fields(options):
        own = getattr(options, group.name)
        for option in fields(own):
            value, flag = getattr(own, option.name), "--" + option.name.replace("_", "-")
            if value != option.default:
                words += (
                    [flag] if value is True else [f"{flag}={value}"] if str(value)[:1] == "-" else [flag, str(value)]
                )
    return shlex.join(words)


def _stage_dict(stage: StageSummary) -> dict[str, Any]:
    skipped = [{"name": name, "reason": reason} for name, reason in stage.skipped]
    return {
        "stage": stage.stage,
        "reused": stage.reused,
        "seconds": round(stage.seconds, 3),
        "counts": stage.counts,
        "skipped": skipped,
        "notes": list(stage.notes),
        "peak_mb": stage.peak_mb,
    }


def _versions() -> dict[str, str]:
    """Versions of the packages that results depend on, without importing them."""
    found = {}
    for name in _VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def database_text(place: Path) -> str:
    """What a run's feature database holds, stage by stage. place: the run's folder or the file.

    Raises BadFile where there is none or it is damaged.
    """
    path = place / DATABASE if place.is_dir() else place
    with FeatureDatabase.open(path, "r") as db:
        found = [(name, summary) for name in STAGE_ORDER if (summary := db.summary(name)) is not None]
        lines = [f"{path}: {path.stat().st_size / 1e6:.1f} MB, {len(found)} of {len(STAGE_ORDER)} stages"]
        for name, summary in found:
            lines.append(stage_line(summary))
            matcher = db.provenance(name).get("matcher", {})
            lines += [f"{'':<24}{key}: {value}" for key, value in matcher.items()]
            lines += [f"{'':<24}{item}: {reason}" for item, reason in summary.skipped]
    return "\n".join(lines)


def read_run_json(out: Path) -> dict[str, Any]:
    """A run's run.json, of which values may be missing. Raises BadFile where it is missing or damaged."""
    path = out / RUN_JSON
    try:
        record = read_json(path)
        json.dumps(record, allow_nan=False)  # ValueError for what no page can hold
        known = {name: shape for name, shape in RECORD.items() if name in record or name == "stages"}
        if not has_shape(record, known):
            raise ValueError
        models = [model["path"] for model in record.get("models", [])]
        if any(map(leads_out_anywhere, models)) or not all(map(is_path, [*models, record.get("images_folder", "")])):
            raise ValueError
    except (OSError, ValueError, TypeError):
        raise BadFile(f"{path}: missing or damaged; give the output folder of a run") from None
    return dict(record)


def recorded_doubts(record: Mapping[str, Any]) -> list[str]:
    """The signs that a run.json has against its model, as text."""
    return [doubt["text"] for doubt in record.get("doubts", [])]


def doubts_text(out: Path) -> str:
    """What a run has against its own model, a line a sign; "" where it has nothing, or the folder is no run's."""
    try:
        doubts = recorded_doubts(read_run_json(out))
    except BadFile:
        return ""
    return "\n".join([f"{out}: {PROBABLY_BAD}:", *(f"  {text}" for text in doubts)]) if doubts else ""


def run_title(record: Mapping[str, Any]) -> str:
    """What to call a run beside another: its matcher."""
    name = str(record.get("matcher", {}).get("matcher", ""))
    kind, _, weights = name.partition("-")
    known = {"loftr": "LoFTR", "sift": "SIFT", "hloc": "hloc"}
    return f"{known[kind]} {weights.replace('-', ' ')}".strip() if kind in known else name or "model"


def images_folder(out: Path) -> Path:
    """The folder of photos that a run was made from, as its run.json says. Raises BadFile where it does not."""
    folder = read_run_json(out).get("images_folder")
    if not isinstance(folder, str):
        raise BadFile(f"{out / RUN_JSON}: names no folder of photos; give --images FOLDER")
    return Path(folder)


def export_hloc(out: Path, dest: Path) -> Path:
    """Writes a run's keypoints and matches as hloc's files into a folder, which is returned. Raises BadFile."""
    try:
        dest.mkdir(parents=True, exist_ok=True)
        refuse_links(dest, ("features.h5", "matches.h5", "pairs.txt"))
    except OSError as error:
        raise BadFile(f"{dest}: cannot be written ({error.strerror}); choose another folder") from None
    with FeatureDatabase.open(out / DATABASE, "r") as db:
        hloc.export_hloc(db, features=dest / "features.h5", matches=dest / "matches.h5", pairs=dest / "pairs.txt")
    return dest
