"""run.json: the machine-readable summary of a run, written atomically and read as an untrusted file."""

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
from sfm.finders import JOIN
from sfm.images.video.records import ClipFrames
from sfm.match_graph import RefusedPair
from sfm.options import Options
from sfm.presets import preset_values
from sfm.results.files import RUN_JSON
from sfm.results.shell import path_word
from sfm.rigs.folders import FACES
from sfm.system.machine import machine
from sfm.system.safe_paths import is_path, leads_out_anywhere
from sfm.system.untrusted_files import NUMBER, has_shape, read_json
from sfm.types import ReconstructionSummary, StageSummary

FIGURES = ("images", "registered", "points3D", "observations", "mean_track_length", "mean_reprojection_error_px")
RECORD: Mapping[str, Any] = MappingProxyType(  # what run.json holds of what is shown
    {
        **dict.fromkeys(FIGURES, NUMBER),
        "images_folder": str,
        "stages": [{"stage": str, "seconds": NUMBER}],
        "models": [{"path": str, "images": NUMBER}],
        "unregistered": [{"image": str, "reason": str}],
        "warnings": [{"text": str}],
        "doubts": [{"text": str}],  # what 0.1.0 called them
        "options": {str: dict},
        "georeference": object,
        **dict.fromkeys(("versions", "machine", "matcher"), dict),
    }
)
_VERSIONED = ("torch", "pycolmap", "numpy", "h5py", "open3d")


def write_run_json(
    summary: ReconstructionSummary,
    folder: Path,
    out: Path,
    options: Options,
    matcher: dict[str, str],
    *,
    error: str | None = None,
    imported: Sequence[Path] = (),
    pixels: Path | None = None,
    source: Path | None = None,
    clips: Sequence[ClipFrames] = (),
    refused: Sequence[RefusedPair] = (),
) -> None:
    """OUT/run.json: all that the text says, with the options, the versions, the matcher and the machine.

    Appears whole. error: why there is no model. imported: hloc's feature and match files, where they were taken
    instead of matching. pixels: folder of the images that the model names, where it is another one. source: what the
    run was given, where that is not `folder`; clips: the videos in it. refused: pairs of places that look alike. Raises
    BadFile where it cannot be written.
    """
    part = out / (RUN_JSON + ".part")
    value = run_dict(summary, pixels or folder, out, options, matcher) | {
        "machine": machine(),
        "command": command(source or folder, out, options, imported),
        "error": error,
        **({"videos": [_clip_dict(clip) for clip in clips]} if clips else {}),
        **({"refused_pairs": [[each.pair.name0, each.pair.name1] for each in refused]} if refused else {}),
    }
    try:
        part.unlink(missing_ok=True)
        part.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
        os.replace(part, out / RUN_JSON)
    except OSError as cause:
        raise BadFile(f"{out / RUN_JSON}: cannot be written ({cause.strerror})") from None


def run_dict(
    summary: ReconstructionSummary, folder: Path, out: Path, options: Options, matcher: dict[str, str]
) -> dict[str, Any]:
    """What run.json holds: plain values. Paths of models are relative to the output folder."""
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
        "georeference": None if summary.georeference is None else dict(summary.georeference),
        "warnings": [{"sign": warning.sign, "text": warning.text} for warning in summary.warnings],
        "stages": [_stage_dict(stage) for stage in summary.stages],
    }


def command(folder: Path, out: Path, options: Options, imported: Sequence[Path] = ()) -> str:
    """The shell command that makes this run again: what differs from the defaults, or from the preset."""
    start = ["loftr-sfm", *(["import"] if imported else []), path_word(folder), path_word(out)]
    words = [
        word for flag, path in zip(("--features", "--matches"), imported, strict=False) for word in (flag, str(path))
    ]
    preset = preset_values(options.preset.preset)
    for group in fields(options):
        own = getattr(options, group.name)
        for option in fields(own):
            value, flag = getattr(own, option.name), "--" + option.name.replace("_", "-")
            if value != preset.get(option.name, option.default):
                words += (
                    [flag] if value is True else [f"{flag}={value}"] if str(value)[:1] == "-" else [flag, str(value)]
                )
    return " ".join([*start, *map(shlex.quote, words)])


def _clip_dict(clip: ClipFrames) -> dict[str, Any]:
    """times_s: of each frame that was kept, from the start of the video, by the image's name."""
    return {
        "video": clip.video,
        "frames": clip.decoded,
        "kept": len(clip.frames),
        "moved_too_little": clip.little,
        "blurred": clip.blurred,
        "times_s": {f"{clip.folder}/{frame.name}": round(frame.time_s, 6) for frame in clip.frames},
    }


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


def recorded_warnings(record: Mapping[str, Any]) -> list[str]:
    """The signs that a run.json has against its model, as text."""
    found = record.get("warnings", record.get("doubts", []))  # what 0.1.0 called them
    return [str(warning["text"]) for warning in found]


def num_refused(record: Mapping[str, Any]) -> int:
    """Pairs that a run did not use, since they show places that look alike."""
    return len(record.get("refused_pairs", ()))


def run_title(record: Mapping[str, Any]) -> str:
    """The title of a run in comparisons: its matcher, or several."""
    name = str(record.get("matcher", {}).get("matcher", ""))
    return " + ".join(map(_matcher_title, name.split(JOIN)))


def _matcher_title(name: str) -> str:
    kind, _, weights = name.replace("efficient-loftr", "eloftr").partition("-")
    known = {
        "loftr": "LoFTR",
        "eloftr": "EfficientLoFTR",
        "sift": "SIFT",
        "hloc": "hloc",
        "aliked": "ALIKED",
        "xfeat": "XFeat",
    }
    return f"{known[kind]} {weights.replace('-', ' ')}".strip() if kind in known else name or "model"


def images_folder(out: Path) -> Path:
    """The folder of images that a run was made from, as its run.json says. Raises BadFile where it does not."""
    folder = read_run_json(out).get("images_folder")
    if not isinstance(folder, str):
        raise BadFile(f"{out / RUN_JSON}: names no folder of images; give --images FOLDER")
    inside = out / FACES  # they go where the folder of the run goes
    return inside if Path(folder).name == FACES and inside.is_dir() else Path(folder)
