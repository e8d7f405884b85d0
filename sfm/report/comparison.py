"""The report of a comparison: models of the same images side by side, with their errors where there is ground truth.

Images are the same where their names are. The model of most images is made upright, the others laid over it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sfm.drawing.scene import Observations, Points, Scene, aligned, read_scene, upright
from sfm.errors import BadFile
from sfm.evaluation.comparison import Comparison, Row, agreement_lines, row, table_rows
from sfm.evaluation.model import Poses, align, camera_centres, extent
from sfm.geometry.poses import rotation_angle_deg
from sfm.report import parts
from sfm.report.html import key_of, page, write_page
from sfm.report.next_steps import comparison_steps
from sfm.report.parts import PageImages
from sfm.report.ranking import rank
from sfm.report.run import duration, options_part, total_seconds, unregistered
from sfm.results.files import DATABASE
from sfm.results.model_source import images_of, output_folder, record_of
from sfm.results.run_json import num_refused, recorded_warnings, run_title
from sfm.storage.database import FeatureDatabase

GROUND_TRUTH_COLOUR = "#9aa3ad"


@dataclass(frozen=True, slots=True, eq=False)
class Contender:
    """One of the models. record: its run.json, empty for a mere COLMAP model. sizes: of the images it knows, px."""

    title: str
    scene: Scene
    record: Mapping[str, Any]
    sizes: Mapping[str, tuple[int, int]]


def default_path(models: Sequence[Path]) -> Path:
    """Where the report of a comparison is written unless the user says so: in the first, named after the others."""
    first, *others = models
    names = [re.sub(r"[^\w.-]+", "_", path.resolve().name) or "other" for path in others]
    name = "_".join(names) if len("_".join(names)) <= 100 else f"{len(models)}_models"
    return (first if first.is_dir() else first.parent) / f"compare_{name}.html"


def write_comparison(
    comparison: Comparison, path: Path, *, ground_truth: Path | None = None, images: Path | None = None
) -> Path:
    """Writes the report of a comparison. images: the images' folder, where a run's own does not hold any more.

    Raises BadFile where a model cannot be read or the report not be written.
    """
    sides = contenders(comparison)
    true_scene = None if ground_truth is None else read_scene(ground_truth, "truth")
    folder = images or _images_folder([side.path for side in comparison.sides], sides)
    document = comparison_document(comparison, sides, true_scene, folder)
    picture = parts.still_url([side.scene for side in sides])
    write_page(path, page(document, "compare.js", key_of(document["heading"]), picture))
    return path


def contenders(comparison: Comparison) -> tuple[Contender, ...]:
    """The models of a comparison with titles of their own, in one upright frame where they can be aligned."""
    paths = [side.path for side in comparison.sides]
    found = [_contender(path) for path in paths]
    titles = unique_titles([own.title for own in found], paths)
    scenes = together([own.scene for own in found])
    return tuple(
        replace(own, title=title, scene=replace(scene, title=title))
        for own, title, scene in zip(found, titles, scenes, strict=True)
    )


def unique_titles(titles: Sequence[str], paths: Sequence[Path]) -> list[str]:
    """The titles where no two are equal, else the folders' names after them, else the paths."""
    names = [path.resolve().name for path in paths]
    named = [t if titles.count(t) == 1 else f"{t} ({name})" for t, name in zip(titles, names, strict=True)]
    return named if len(set(named)) == len(named) else [str(path) for path in paths]


def together(scenes: Sequence[Scene]) -> list[Scene]:
    """All in the upright frame of the one of most images; each in its own where they cannot be aligned."""
    largest = max(range(len(scenes)), key=lambda k: len(scenes[k].cameras.names))
    target = upright(scenes[largest])
    others = [target if k == largest else aligned(scene, target) for k, scene in enumerate(scenes)]
    return [upright(own) if over is None else over for own, over in zip(scenes, others, strict=True)]


def _contender(path: Path) -> Contender:
    scene = read_scene(path)
    cameras = zip(scene.cameras.names, scene.cameras.size.tolist(), strict=True)
    sizes = {name: (int(width), int(height)) for name, (width, height) in cameras}
    try:
        record, out = record_of(path), output_folder(path)
    except BadFile:  # a damaged run.json says nothing
        record, out = {}, None
    if out is None:  # a model that is no run's
        return Contender(scene.title, scene, {}, sizes)
    if (out / DATABASE).is_file():
        with FeatureDatabase.open(out / DATABASE, "r") as db:
            sizes = {image.name: (image.width, image.height) for image in db.read_images()} | sizes
    return Contender(run_title(record), scene, record, sizes)


def _images_folder(paths: Sequence[Path], sides: Sequence[Contender]) -> Path | None:
    """Of the models' folders of images the one that has most of the images."""
    folders: list[Path] = []
    for path in paths:
        with suppress(BadFile):  # a damaged run.json says nothing
            folders += [folder for folder in (images_of(path),) if folder is not None and folder.is_dir()]
    names = {name for side in sides for name in side.sizes}
    found = {
        folder: sum((folder / name).is_file() for name in names) for folder in folders if folder and folder.is_dir()
    }
    return max(found, key=lambda folder: found[folder], default=None)


# The document


def comparison_document(
    comparison: Comparison, sides: Sequence[Contender], true_scene: Scene | None, folder: Path | None
) -> dict[str, Any]:
    """The report as values that JSON holds. true_scene: in any frame."""
    names: set[str] = set(true_scene.cameras.names) if true_scene is not None else set()
    for side in sides:
        names |= set(side.sizes) | set(side.scene.cameras.names) | set(unregistered(side.record))
    sizes = {name: size for side in reversed(sides) for name, size in side.sizes.items()}
    images, titles = PageImages(tuple(sorted(names)), sizes, folder), [side.title for side in sides]
    groups = groups_of(images, sides)
    shown = parts.shown_images(len(images.names), [i for own in groups[1:] for i in own["images"]])
    thumbnails = parts.thumbnails(images, shown)
    paths = [side.path for side in comparison.sides]
    most_points = parts.MAX_POINTS * 2 // (1 + len(sides))
    warned = [bool(recorded_warnings(side.record)) for side in sides]
    ranking = rank(comparison, titles, warned, [num_refused(side.record) for side in sides])
    return {
        "kind": "comparison",
        "title": f"{_versus(titles)} · loftr-sfm comparison",
        "heading": _versus(titles),
        "verdict": {
            "level": "plain" if ranking.best is None else "good",
            "label": "Undecided" if ranking.best is None else "Better",
            "sentence": ranking.sentence,
            "problems": _problems(sides, ground_truth=true_scene is not None),
            "best": ranking.best,
        },
        "next": comparison_steps(paths, titles, ranking.best, ground_truth=true_scene is not None),
        "remarks": _remarks(thumbnails, shown, images),
        "models": [parts.model_part(side.scene, images, most_points) for side in sides]
        + _ground_truth_part(true_scene, sides, images),
        "images": {
            "names": list(images.names),
            "sizes": [list(images.sizes.get(name, (0, 0))) for name in images.names],
            "thumbnails": thumbnails,
            "titles": titles,
            "sides": [_side(side, images, shown, true_scene) for side in sides],
            "keypoint_error": parts.KEYPOINT_ERROR,
        },
        "groups": groups,
        "figures": [
            {"label": own.label, "texts": list(own.texts), "best": list(own.best)} for own in _rows(comparison, sides)
        ],
        "agreement": agreement_lines(comparison, titles),
        "truth": true_scene is not None,
        "histograms": [parts.histograms(side.scene) for side in sides],
        "made": [_made(side, path) for side, path in zip(sides, paths, strict=True)],
        "differences": differences(sides),
    }


def _versus(titles: Sequence[str]) -> str:
    return f"{', '.join(titles[:-1])} and {titles[-1]}"


def _problems(sides: Sequence[Contender], *, ground_truth: bool) -> list[dict[str, str]]:
    found = [
        {"text": f"{side.title}: {text}.", "remedy": "", "show": ""}
        for side in sides
        for text in recorded_warnings(side.record)
    ]
    if not ground_truth:
        text = "There is no ground truth: figures alone do not tell which model is more accurate."
        found.append({"text": text, "remedy": "Give --ground-truth MODEL where there is one.", "show": ""})
    return found


def _rows(comparison: Comparison, sides: Sequence[Contender]) -> list[Row]:
    """The table's rows, those of the ground truth first; with the time of runs."""
    rows = table_rows(comparison)
    rows = [own for own in rows if "AUC" in own.label] + [own for own in rows if "AUC" not in own.label]
    seconds = [total_seconds(side.record) if side.record else float("nan") for side in sides]
    times = row("time of all stages", seconds, "g", -1)
    texts = tuple("–" if np.isnan(s) else duration(s) for s in seconds)
    return [*rows, replace(times, texts=texts)] if any(side.record for side in sides) else rows


def groups_of(images: PageImages, sides: Sequence[Contender]) -> list[dict[str, Any]]:
    """Who registered what: the images in all models, only in one, only in some, in none. side: the one, or None."""
    names = [set(side.scene.cameras.names) for side in sides]
    having = [{k for k, own in enumerate(names) if name in own} for name in images.names]
    every, two = set(range(len(sides))), len(sides) == 2

    def group(title: str, side: int | None, kept: Sequence[bool]) -> dict[str, Any]:
        return {"title": title, "side": side, "images": [i for i, own in enumerate(kept) if own]}

    found = [group("In both models" if two else "In all models", None, [own == every for own in having])]
    found += [group(f"Only {side.title}", k, [own == {k} for own in having]) for k, side in enumerate(sides)]
    if not two:
        found.append(group("In some", None, [1 < len(own) < len(sides) for own in having]))
    return [*found, group("In neither" if two else "In none", None, [not own for own in having])]


def _remarks(thumbnails: Mapping[str, str], shown: set[int], images: PageImages) -> list[str]:
    if not thumbnails:
        return ["no thumbnails: the images are not where the runs found them; give --images FOLDER"]
    if len(shown) < len(images.names):
        return [f"thumbnails and keypoints of a sample only: {len(thumbnails)} of {len(images.names):,} images"]
    return []


def _ground_truth_part(
    true_scene: Scene | None, sides: Sequence[Contender], images: PageImages
) -> list[dict[str, Any]]:
    """The true cameras as outlines in the frame that is shown; nothing where they cannot be laid over it."""
    target = max((side.scene for side in sides), key=lambda scene: len(scene.cameras.names))
    over = None if true_scene is None else aligned(true_scene, target)
    if over is None:
        return []
    none = np.zeros(0, np.int64)
    points = Points(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros(0, np.float32), none)
    seen = Observations(none, none, np.zeros((0, 2), np.float32), np.zeros(0, np.float32))
    cameras_only = replace(over, points=points, observations=seen)
    return [parts.model_part(cameras_only, images) | {"outline": True, "colour": GROUND_TRUTH_COLOUR}]


def _side(side: Contender, images: PageImages, shown: set[int], true_scene: Scene | None) -> dict[str, Any]:
    lost = unregistered(side.record)
    reasons = {name: lost.get(name, "not in this model") for name in images.names}
    part = parts.side_part(side.scene, images, shown, reasons)
    if true_scene is not None:
        errors = ground_truth_errors(_poses(side.scene), _poses(true_scene))
        part["truth"] = [errors.get(name) for name in images.names]
    return part


def _poses(scene: Scene) -> dict[str, Any]:
    return dict(zip(scene.cameras.names, scene.cameras.cam_from_world, strict=True))


def ground_truth_errors(poses: Poses, true_poses: Poses) -> dict[str, dict[str, float]]:
    """For each common image how far its centre is from the true one after alignment, in percent of the true cameras'
    extent, and the angle between the rotations, degrees. Empty where the models cannot be aligned."""
    found = align(poses, true_poses)
    if found is None:
        return {}
    similarity, distances, names = found
    size = extent(camera_centres(true_poses))
    rotated = np.array([similarity.transform_pose(poses[name])[:, :3] @ true_poses[name][:, :3].T for name in names])
    angles = rotation_angle_deg(rotated)
    return {
        name: {"centre_percent": round(float(100 * distance / size), 4), "rotation_deg": round(float(angle), 4)}
        for name, distance, angle in zip(names, distances, angles, strict=True)
    }


def _made(side: Contender, path: Path) -> dict[str, Any]:
    """How a side came to be."""
    record = side.record
    if not record:
        return {
            "title": side.title,
            "path": str(path),
            "command": "",
            "facts": [["made by", "a COLMAP model, not a run"]],
        }
    facts = [["time of all stages", duration(total_seconds(record))]]
    facts += [[stage["stage"], duration(stage["seconds"])] for stage in record["stages"]]
    facts += (
        [["weights sha256", str(record["matcher"]["weights_sha256"])]]
        if "weights_sha256" in record.get("matcher", {})
        else []
    )
    facts += [["version", str(record.get("version", ""))]]
    return {"title": side.title, "path": str(path), "command": str(record.get("command", "")), "facts": facts}


def differences(sides: Sequence[Contender]) -> list[list[str]]:
    """Options that the runs do not share: name and the value of each."""
    values = [{o["option"]: o["value"] for o in options_part(side.record.get("options", {}))} for side in sides]
    rows = [
        [name, *(own.get(name, "–") for own in values)] for name in sorted({name for own in values for name in own})
    ]
    return [found for found in rows if len(set(found[1:])) > 1]
