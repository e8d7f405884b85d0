"""The report of a comparison: two models of the same images side by side, with their errors where there is
ground truth.

Images are the same where their names are. The model of more images is made upright, the other laid over it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sfm.drawing.scene import Observations, Points, Scene, aligned, read_scene, upright
from sfm.errors import BadFile
from sfm.evaluation.comparison import Comparison, agreement_lines, table_rows
from sfm.evaluation.model import Poses, align, camera_centres, extent
from sfm.geometry.poses import rotation_angle_deg
from sfm.report import parts
from sfm.report.html import key_of, page, write_page
from sfm.report.parts import PageImages
from sfm.report.run import duration, options_part, total_seconds, unregistered
from sfm.results.console import PROBABLY_BAD
from sfm.results.files import DATABASE
from sfm.results.run_json import read_run_json, recorded_warnings, run_title
from sfm.storage.database import FeatureDatabase

GROUND_TRUTH_COLOUR = "#9aa3ad"


@dataclass(frozen=True, slots=True, eq=False)
class Contender:
    """One of the two. record: its run.json, empty for a mere COLMAP model. sizes: of the images it knows, px."""

    title: str
    scene: Scene
    record: Mapping[str, Any]
    sizes: Mapping[str, tuple[int, int]]


def default_path(a: Path, b: Path) -> Path:
    """Where the report of a comparison is written unless the user says so: in A, named after B."""
    name = re.sub(r"[^\w.-]+", "_", b.resolve().name) or "other"
    return (a if a.is_dir() else a.parent) / f"compare_{name}.html"


def write_comparison(
    comparison: Comparison, path: Path, *, ground_truth: Path | None = None, images: Path | None = None
) -> Path:
    """Writes the report of a comparison. images: the images' folder, where a run's own does not hold any more.

    Raises BadFile where a model cannot be read or the report not be written.
    """
    sides = _contenders(comparison)
    true_scene = None if ground_truth is None else read_scene(ground_truth, "truth")
    document = comparison_document(comparison, sides, true_scene, images or _images_folder(sides))
    write_page(path, page(document, "compare.js", key_of(document["heading"])))
    return path


def _contenders(comparison: Comparison) -> tuple[Contender, Contender]:
    a, b = (_contender(side.path) for side in (comparison.a, comparison.b))
    if a.title == b.title:
        names = [side.path.resolve().name for side in (comparison.a, comparison.b)]
        titles = names if names[0] != names[1] else [str(comparison.a.path), str(comparison.b.path)]
        a, b = replace(a, title=titles[0]), replace(b, title=titles[1])
    scene_a, scene_b = together(a.scene, b.scene)
    return replace(a, scene=replace(scene_a, title=a.title)), replace(b, scene=replace(scene_b, title=b.title))


def together(a: Scene, b: Scene) -> tuple[Scene, Scene]:
    """Both in the upright frame of the one of more images; each in its own where they cannot be aligned."""
    if len(b.cameras.names) > len(a.cameras.names):
        second, first = together(b, a)
        return first, second
    target = upright(a)
    over = aligned(b, target)
    return target, over if over is not None else upright(b)


def _contender(path: Path) -> Contender:
    scene = read_scene(path)
    cameras = zip(scene.cameras.names, scene.cameras.size.tolist(), strict=True)
    sizes = {name: (int(width), int(height)) for name, (width, height) in cameras}
    try:
        record = read_run_json(path)
    except BadFile:  # a model that is no run's
        return Contender(scene.title, scene, {}, sizes)
    if (path / DATABASE).is_file():
        with FeatureDatabase.open(path / DATABASE, "r") as db:
            sizes = {image.name: (image.width, image.height) for image in db.read_images()} | sizes
    return Contender(run_title(record), scene, record, sizes)


def _images_folder(sides: tuple[Contender, Contender]) -> Path | None:
    folders = [Path(str(side.record["images_folder"])) for side in sides if "images_folder" in side.record]
    return next((folder for folder in folders if folder.is_dir()), None)


# The document


def comparison_document(
    comparison: Comparison, sides: tuple[Contender, Contender], true_scene: Scene | None, folder: Path | None
) -> dict[str, Any]:
    """The report as values that JSON holds. true_scene: in any frame."""
    names: set[str] = set(true_scene.cameras.names) if true_scene is not None else set()
    for side in sides:
        names |= set(side.sizes) | set(side.scene.cameras.names) | set(unregistered(side.record))
    images = PageImages(tuple(sorted(names)), {**sides[1].sizes, **sides[0].sizes}, folder)
    groups = groups_of(images, sides)
    differing = [images.numbers[name] for group in ("a", "b", "neither") for name in groups[group]]
    shown = parts.shown_images(len(images.names), differing)
    thumbnails = parts.thumbnails(images, shown)
    titles = (sides[0].title, sides[1].title)
    return {
        "kind": "comparison",
        "title": f"{titles[0]} and {titles[1]} · loftr-sfm comparison",
        "heading": f"{titles[0]} and {titles[1]}",
        "sentence": sentence(groups, titles, len(images.names)),
        "warnings": [
            f"{side.title}: {PROBABLY_BAD}: {text}" for side in sides for text in recorded_warnings(side.record)
        ],
        "remarks": _remarks(thumbnails, shown, images),
        "models": [parts.model_part(side.scene, images) for side in sides]
        + _ground_truth_part(true_scene, sides, images),
        "images": {
            "names": list(images.names),
            "sizes": [list(images.sizes.get(name, (0, 0))) for name in images.names],
            "thumbnails": thumbnails,
            "titles": list(titles),
            "sides": [_side(side, images, shown, true_scene) for side in sides],
            "keypoint_error": parts.KEYPOINT_ERROR,
        },
        "groups": {group: [images.numbers[name] for name in members] for group, members in groups.items()},
        "figures": [list(row) for row in table_rows(comparison)],
        "agreement": agreement_lines(comparison.agreement, titles),
        "truth": true_scene is not None,
        "histograms": [parts.histograms(side.scene) for side in sides],
        "made": [_made(side, path) for side, path in zip(sides, (comparison.a.path, comparison.b.path), strict=True)],
        "differences": differences(sides),
    }


def groups_of(images: PageImages, sides: tuple[Contender, Contender]) -> dict[str, list[str]]:
    """Names of the images that both, only the first, only the second and neither registered."""
    a, b = (set(side.scene.cameras.names) for side in sides)
    return {
        "both": [name for name in images.names if name in a & b],
        "a": [name for name in images.names if name in a - b],
        "b": [name for name in images.names if name in b - a],
        "neither": [name for name in images.names if name not in a | b],
    }


def sentence(groups: Mapping[str, list[str]], titles: tuple[str, str], total: int) -> str:
    """Who registered what, in a sentence."""
    num = {group: len(members) for group, members in groups.items()}
    return (
        f"Of {total} photos {titles[0]} registered {num['both'] + num['a']} and {titles[1]} {num['both'] + num['b']}: "
        f"{num['both']} are in both models, {num['a']} only in that of {titles[0]}, {num['b']} only in that of "
        f"{titles[1]}, {num['neither']} in neither."
    )


def _remarks(thumbnails: Mapping[str, str], shown: set[int], images: PageImages) -> list[str]:
    if not thumbnails:
        return ["no thumbnails: the photos are not where the runs found them; give --images FOLDER"]
    if len(shown) < len(images.names):
        return [f"thumbnails and keypoints of a sample only: {len(thumbnails)} of {len(images.names):,} photos"]
    return []


def _ground_truth_part(
    true_scene: Scene | None, sides: tuple[Contender, Contender], images: PageImages
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
    turned = np.array([similarity.transform_pose(poses[name])[:, :3] @ true_poses[name][:, :3].T for name in names])
    angles = rotation_angle_deg(turned)
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


def differences(sides: tuple[Contender, Contender]) -> list[list[str]]:
    """Options that the two runs do not share: name and both values."""
    a, b = ({row["option"]: row["value"] for row in options_part(side.record.get("options", {}))} for side in sides)
    return [
        [name, a.get(name, "–"), b.get(name, "–")] for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)
    ]
