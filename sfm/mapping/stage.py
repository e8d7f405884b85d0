"""From tracks to COLMAP models: unmodified COLMAP mapping, or triangulation with known poses; models on disk.

The COLMAP database stays in OUT/database.db for COLMAP's own tools. Models are written as COLMAP
numbers them, OUT/unrefined/0 (most images), 1, ...; older ones are replaced only when the new ones
are complete. Image ids are the images' order from 1. Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pycolmap

from sfm.colmap.camera import replace_focals
from sfm.colmap.database import place_database
from sfm.colmap.model_writer import UNREFINED, write_models
from sfm.errors import BadFile, NoModel
from sfm.geometry.focal_from_F import estimate_focals
from sfm.mapping.consistency import point_votes
from sfm.mapping.earlier_model import continued, remember
from sfm.mapping.inputs import MappingInput, read_input
from sfm.mapping.known_poses import REASON, posed_input, read_known_model, triangulate
from sfm.mapping.retry_strategy import (
    ATTEMPTS,
    EARLIER,
    STRATEGIES,
    Outcome,
    drop_images,
    free_distortion,
    map_images,
    strongest_pairs,
)
from sfm.options import MappingOptions
from sfm.types import StageSummary

if TYPE_CHECKING:
    from sfm.storage.database import FeatureDatabase

CLEARLY, MANY = 10, 0.1  # matches more that contradict a model than agree with it; share of the pairs
MISREGISTERED = "misregistered: it does not observe half of the points that its matches lead to"


@dataclass(frozen=True, slots=True)
class Mapped:
    """Models, largest first, the name of the attempt that gave them, and images left out with their reasons."""

    models: tuple[pycolmap.Reconstruction, ...]
    attempt: str
    left_out: dict[str, str]
    removed_pairs: int = 0


@contextmanager
def _scratch(output: Path) -> Iterator[Path]:
    """A temporary folder next to the results. Raises BadFile where none can be made."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".mapping-", dir=output))
    except OSError as error:
        raise BadFile(f"{output}: cannot be written ({error.strerror}); choose another output folder") from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def reconstruct(data: MappingInput, options: MappingOptions, output: Path) -> Mapped:
    """Maps the matches and writes OUT/database.db and OUT/unrefined/N.

    Raises BadFile where OUT cannot be written or the model of known poses cannot be used, NoModel
    where COLMAP makes no model.
    """
    known = read_known_model(options.known_poses) if options.known_poses is not None else None
    with _scratch(output) as scratch:
        mapped = (
            _mapped(data, options, scratch, output) if known is None else _triangulated(data, known, options, scratch)
        )
        place_database(scratch / "database.db", output / "database.db")
        if not mapped.models:
            raise NoModel(no_model_message(data))
        write_models(mapped.models, output / UNREFINED)
        if known is None:
            remember(output, data.images)
    return mapped


def _mapped(data: MappingInput, options: MappingOptions, scratch: Path, output: Path) -> Mapped:
    outcome = continued(data, options, scratch, output) or map_images(data, options, scratch)
    os.replace(outcome.folder / "database.db", scratch / "database.db")
    left_out = drop_misregistered(outcome)
    for model in outcome.models if outcome.attempt.hold_distortion else ():
        free_distortion(model, options.threads)
    return Mapped(outcome.models, outcome.attempt.name, left_out, outcome.removed_pairs)


def drop_misregistered(outcome: Outcome) -> dict[str, str]:
    """Takes misregistered images out of the first model, where they are the fewer; their names and the reason."""
    if 2 * len(outcome.misregistered) >= outcome.num_well_registered:
        return {}
    drop_images(outcome.models[0], outcome.misregistered)
    return dict.fromkeys(sorted(outcome.misregistered), MISREGISTERED)


def _triangulated(data: MappingInput, known: pycolmap.Reconstruction, options: MappingOptions, scratch: Path) -> Mapped:
    assert options.known_poses is not None
    posed_data, posed = posed_input(data, known, options.known_poses)
    model = triangulate(posed_data, known, posed, options, scratch)
    left_out = {record.name: REASON for record in data.images if record.name not in posed}
    return Mapped((model,) if model.num_points3D() else (), "known poses", left_out)


def unregistered(
    data: MappingInput, models: Sequence[pycolmap.Reconstruction], left_out: dict[str, str] | None = None
) -> tuple[tuple[str, str], ...]:
    """(image name, reason) of every image that is not in the largest model. left_out: reasons that are known."""
    strongest = strongest_pairs(data)
    where: dict[str, int] = {}
    for i, model in reversed(list(enumerate(models))):
        where.update({model.image(image_id).name: i for image_id in model.reg_image_ids()})
    result = []
    for record in data.images:
        name = record.name
        if where.get(name) == 0:
            continue
        inliers, partner = strongest.get(name, (0, ""))
        if name in where:
            reason = f"in another model (sparse/{where[name]})"
        elif name in (left_out or {}):
            reason = (left_out or {})[name]
        elif inliers == 0:
            reason = "matched nothing: no pair of it was verified"
        elif inliers < STRATEGIES[0].abs_pose_min_num_inliers:
            reason = f"too few inliers ({inliers} at most, with {partner})"
        elif models and where.get(partner) != 0:
            reason = f"not connected to the model (most inliers, {inliers}, with {partner}, which is not in it either)"
        else:
            reason = f"registration failed (most inliers, {inliers}, with {partner}): no pose fits its matches"
        result.append((name, reason))
    return tuple(result)


def no_model_message(data: MappingInput) -> str:
    """One line: why there is no model, and what to try."""
    verified = sum(len(m.indices) > 0 for m in data.matches)
    if verified == 0:
        return "no model: no two images show the same place (no pair was verified); add images that overlap"
    if 2 * sum(geometry.kind == "panoramic" for geometry in data.geometries) > verified:
        return (
            "no model: most pairs differ by a pure rotation, which gives no depth; add images taken from "
            "other positions (a step to the side each)"
        )
    most = max(len(m.indices) for m in data.matches)
    return (
        f"no model: {verified} pairs were verified, the best with {most} matches, but none can initialise the model; "
        "add images with viewpoints in between, or match at a higher resolution (--resize)"
    )


def repeated_structure(model: pycolmap.Reconstruction, data: MappingInput) -> tuple[str, ...]:
    """A note where the matches of many pairs lead to different points, which suggests repeated structure.

    Not a warning: usually the model is right and those pairs are wrong. Where as many matches support merging
    two places as contradict it, mapping may fold one onto the other, and no majority decides.
    """
    votes = point_votes(model, data.matches)
    against = sum(net <= -CLEARLY for net in votes.values())
    if against <= MANY * len(votes):
        return ()
    return (
        f"{against} of {len(votes)} pairs contradict the model, probably because of repeated structure: "
        "check that no two places were merged",
    )


def _went_on(mapped: Mapped) -> tuple[str, ...]:
    if mapped.attempt != EARLIER:
        return ()
    return ("went on from the model of the images that were there before; delete unrefined/ to map all of them anew",)


def run(db: FeatureDatabase, options: MappingOptions, *, output: Path, known_intrinsics: bool = False) -> StageSummary:
    """The stage: reads keypoints and verified matches, writes COLMAP models under `output`.

    known_intrinsics: the user gave the cameras' parameters; they are not refined. For cameras
    without a prior mapping begins at the focal length that their pairs determine, if they do.
    """
    started = time.perf_counter()
    data = read_input(db, known_intrinsics=known_intrinsics)
    focals = estimate_focals(data.images, data.geometries) if options.known_poses is None else {}
    data = replace(data, images=replace_focals(data.images, focals))
    mapped = reconstruct(data, options, output)
    best = mapped.models[0]
    counts: dict[str, int | float] = {
        "models": len(mapped.models),
        "registered": best.num_reg_images(),
        "points3D": best.num_points3D(),
        "observations": best.compute_num_observations(),
        "track_length": best.compute_mean_track_length(),
        "reprojection_error": best.compute_mean_reprojection_error(),
        "attempt": ATTEMPTS.index(mapped.attempt) + 1,
        "pairs_removed": mapped.removed_pairs,
        "focals_estimated": len(focals),
        "focal_px": float(np.median([camera.mean_focal_length() for camera in best.cameras.values()])),
    }
    return StageSummary(
        "mapping",
        counts,
        time.perf_counter() - started,
        unregistered(data, mapped.models, mapped.left_out),
        notes=(*_went_on(mapped), *repeated_structure(best, data)),
    )
