"""OUT/report.html: what a run did and what came of it, one file to open in any browser (docs/report.md).

Made from OUT alone: run.json, features.h5, the models; and the images, where they are still there.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from sfm.drawing.scene import Scene, read_scene, upright
from sfm.errors import BadFile, MissingStage, SfMError
from sfm.evaluation.model import camera_poses, read_model
from sfm.match_graph import TriedPair
from sfm.options import Options
from sfm.report import parts
from sfm.report.html import has_key, key_of, page, write_page
from sfm.report.next_steps import run_steps
from sfm.report.parts import PageImages
from sfm.report.verdict import run_verdict
from sfm.results.files import DATABASE, REPORT, RUN_JSON
from sfm.results.run_json import FIGURES, read_run_json, run_title
from sfm.storage.database import FeatureDatabase
from sfm.types import ImagePair, Matches, TwoViewGeometry

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A finished run as stored on disk. record: its run.json. counts, geometries: of the matched pairs. scene: its
    largest model, upright, None without one. place: sub-model of each image that is in a smaller one. tried: the
    matched pairs with their rounds and reasons."""

    out: Path
    record: Mapping[str, Any]
    images: PageImages
    counts: Mapping[ImagePair, int]
    geometries: Mapping[ImagePair, TwoViewGeometry]
    scene: Scene | None
    place: Mapping[str, str]
    tried: tuple[TriedPair, ...] = ()


# Reading a run


def read_run(out: Path, images: Path | None = None) -> Run:
    """All that the report needs of a run. images: the images' folder, where it has moved. Raises BadFile."""
    record = read_run_json(out)
    if missing := [name for name in FIGURES if name not in record]:
        raise BadFile(f"{out / RUN_JSON}: holds no {missing[0]}; give the output folder of a run")
    if images is not None and not images.is_dir():
        what = "is a file" if images.exists() else "no such folder"
        raise BadFile(f"--images {images}: {what}; give the folder of the images")
    folder = images or Path(str(record.get("images_folder", "")))
    sizes: dict[str, tuple[int, int]] = {}
    counts: dict[ImagePair, int] = {}
    geometries: dict[ImagePair, TwoViewGeometry] = {}
    tried: tuple[TriedPair, ...] = ()
    if (out / DATABASE).is_file():
        with FeatureDatabase.open(out / DATABASE, "r") as db:
            sizes = {image.name: (image.width, image.height) for image in db.read_images()}
            counts = db.match_counts()
            with suppress(MissingStage):  # the run ended before
                geometries = {geometry.pair: geometry for geometry in db.read_two_view()}
            geometries |= parts.as_refused(geometries, db.read_refused())
            with suppress(MissingStage):
                tried = db.read_tried()
    models = [out / str(model["path"]) for model in record.get("models", [])]
    scene = upright(read_scene(models[0], run_title(record))) if models else None
    names = set(sizes) | {str(lost["image"]) for lost in record.get("unregistered", [])}
    if scene is not None:
        names |= set(scene.cameras.names)
        sizes |= {n: (int(w), int(h)) for n, (w, h) in zip(scene.cameras.names, scene.cameras.size, strict=True)}
    of_page = PageImages(tuple(sorted(names)), sizes, folder if folder.is_dir() else None)
    return Run(out, record, of_page, counts, geometries, scene, _places(models[1:]), tried)


def _places(models: list[Path]) -> dict[str, str]:
    """The sub-model of each image that some smaller model has; the larger counts."""
    found: dict[str, str] = {}
    for path in models:
        for name in camera_poses(read_model(path)):
            found.setdefault(name, f"{path.parent.name}/{path.name}")
    return found


# The document


def report_document(run: Run, matches: Mapping[ImagePair, Matches]) -> dict[str, Any]:
    """The report as values that JSON holds. matches: at least those of `parts.pairs_to_draw`."""
    chosen = parts.pairs_to_draw(run.counts, run.geometries)
    numbers, reasons = run.images.numbers, unregistered(run.record)
    drawn = [numbers[name] for _, pair in chosen for name in (pair.name0, pair.name1)]
    lost = [numbers[name] for name in reasons]
    shown = parts.shown_images(len(run.images.names), [*dict.fromkeys(drawn), *lost])
    side = parts.side_part(run.scene, run.images, shown, reasons)
    thumbnails = parts.thumbnails(run.images, shown)
    verdict = run_verdict(run.record, reasons, sum(bool(text) for text in side["warning"]))
    return {
        "kind": "run",
        "title": f"{images_title(run.record)} · loftr-sfm report",
        "heading": images_title(run.record),
        "verdict": verdict.part(),
        "tiles": tiles(run),
        "next": run_steps(run.record, verdict.level, run.out, run.images.folder),
        "remarks": remarks(run, len(thumbnails), len(shown)),
        "models": [parts.model_part(run.scene, run.images)] if run.scene is not None else [],
        "images": {
            "names": list(run.images.names),
            "sizes": [list(run.images.sizes.get(name, (0, 0))) for name in run.images.names],
            "thumbnails": thumbnails,
            "sides": [side],
            "place": {str(numbers[name]): place for name, place in run.place.items() if name in numbers},
            "keypoint_error": parts.KEYPOINT_ERROR,
        },
        "pairs": parts.pairs_part(run.counts, run.geometries, run.images)
        | {"rounds": parts.rounds_part(run.tried, run.geometries)},
        "drawn": parts.drawn_part(chosen, run.geometries, matches, run.images),
        "histograms": parts.histograms(run.scene) if run.scene is not None else None,
        "run": run_part(run.record),
    }


def read_drawn(run: Run) -> dict[ImagePair, Matches]:
    """Matches of the pairs that are drawn."""
    chosen = parts.pairs_to_draw(run.counts, run.geometries)
    if not chosen:
        return {}
    with FeatureDatabase.open(run.out / DATABASE, "r") as db:
        return {pair: db.read_matches(pair) for _, pair in chosen}


def unregistered(record: Mapping[str, Any]) -> dict[str, str]:
    """Why each image that is not in the largest model is not."""
    return {str(lost["image"]): str(lost["reason"]) for lost in record.get("unregistered", [])}


def images_title(record: Mapping[str, Any]) -> str:
    """A name for the images: their folder's, or its parent's where that says more."""
    folder = Path(str(record.get("images_folder", "")))
    named = folder.parent if folder.name.lower() in ("images", "photos", "imgs") and folder.parent.name else folder
    return named.name or "images"


def total_seconds(record: Mapping[str, Any]) -> float:
    """What all stages took, reused ones when they ran."""
    return float(sum(stage["seconds"] for stage in record["stages"]))


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def tiles(run: Run) -> list[list[str]]:
    """The figures: label and value; without a model those of its matches."""
    record = run.record
    time = ["time of all stages", duration(total_seconds(record))]
    if run.scene is None:
        inliers = [len(geometry.inliers) for geometry in run.geometries.values()]
        return [
            ["images", f"{record['images']:,}"],
            ["pairs matched", f"{len(run.counts):,}"],
            ["pairs verified", f"{sum(num > 0 for num in inliers):,}"],
            ["verified matches of the best pair", f"{max(inliers, default=0):,}"],
            time,
        ]
    residuals = ((record.get("georeference") or {}).get("gps") or {}).get("residuals_m")
    located = (
        [["off GPS, median", f"{residuals['total']['median']:.2f} m"]] if is_in_metres(record) and residuals else []
    )
    return [
        ["images registered", f"{record['registered']} / {record['images']}"],
        ["3D points", f"{record['points3D']:,}"],
        ["mean reprojection error", f"{record['mean_reprojection_error_px']:.2f} px"],
        ["mean track length", f"{record['mean_track_length']:.2f}"],
        ["observations", f"{record['observations']:,}"],
        *located,
        time,
    ]


def is_in_metres(record: Mapping[str, Any]) -> bool:
    """Whether the models have a frame in metres."""
    return (record.get("georeference") or {}).get("frame") in ("ENU", "metres")


def remarks(run: Run, num_thumbnails: int, num_shown: int) -> list[str]:
    """How the run was made, and what this page leaves out."""
    found = [f"matched by {run_title(run.record)}"]
    if text := (run.record.get("georeference") or {}).get("text"):
        found.append(f"frame of the model: {text}")
    if num_thumbnails == 0:
        found.append(f"no thumbnails: the images are not in {run.record.get('images_folder')} any more")
    elif num_shown < len(run.images.names):
        found.append(f"thumbnails and keypoints of a sample only: {num_thumbnails} of {len(run.images.names):,} images")
    if run.scene is not None and len(run.scene.points.xyz) > parts.MAX_POINTS:
        found.append(f"3D view of a fair sample: {parts.MAX_POINTS:,} of {len(run.scene.points.xyz):,} points")
    return found


def run_part(record: Mapping[str, Any]) -> dict[str, Any]:
    """How it was made: stages, options, versions, machine, weights, command."""
    return {
        "stages": [stage | {"peak_mb": stage.get("peak_mb")} for stage in record["stages"]],
        "options": options_part(record.get("options", {})),
        "versions": {"loftr-sfm": record.get("version", "")} | dict(record.get("versions", {})),
        "machine": dict(record.get("machine", {})),
        "matcher": dict(record.get("matcher", {})),
        "command": str(record.get("command", "")),
        "models": list(record.get("models", [])),
    }


def options_part(options: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All options with whether each is the default's value; those that are not come first."""
    defaults = {
        stage: {option.name: option.default for option in fields(kind)}
        for stage, kind in get_type_hints(Options).items()
    }
    rows = [
        {
            "stage": stage,
            "option": "--" + name.replace("_", "-"),
            "value": "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value),
            "default": value == defaults.get(stage, {}).get(name),
        }
        for stage, own in options.items()
        for name, value in own.items()
    ]
    return sorted(rows, key=lambda row: bool(row["default"]))


# Writing


def report_key(record: Mapping[str, Any], out: Path) -> str:
    """What a report of this run in OUT is made from; that stages were reused makes no other report."""
    plain = copy.deepcopy(dict(record))
    for stage in plain["stages"]:
        stage.pop("reused", None)
    return key_of([plain, str(out.resolve())])


def write_report(out: Path, images: Path | None = None) -> Path:
    """Writes OUT/report.html and returns its path. images: the images' folder, where it has moved.

    Raises BadFile where OUT is no run's output folder or cannot be written.
    """
    run = read_run(out, images)
    document = report_document(run, read_drawn(run))
    picture = None if run.scene is None else parts.still_url([run.scene])
    write_page(out / REPORT, page(document, "report.js", report_key(run.record, out), picture))
    return out / REPORT


def refresh(out: Path) -> None:
    """Writes the report of a run that has just ended, unless it is there. A run never fails of its report."""
    path = out / REPORT
    try:
        if has_key(path, report_key(read_run_json(out), out)):
            os.utime(path)  # found to be right
        else:
            write_report(out)
    except SfMError as error:
        log.warning("no report: %s", error)
    except Exception as error:  # whatever it is, the models are there and right
        log.warning("no report: %s: %s", type(error).__name__, error)
