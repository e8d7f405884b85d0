"""Further starts of mapping where the focal length that it began with, or ended at, is doubtful.

Three cases. A camera that drives ahead, without EXIF: its fundamental matrices give a biased focal length, and while
few images are registered distortion takes up what is wrong of it; mapping then stays in the wrong valley. An EXIF focal
length that mapping ran away from, to what is hardly a lens: few images, or a rotation, determine neither. An EXIF focal
length with which less than half of the images are registered: it may be false.

Runs are compared by what their models explain beyond what they assume: a wrong focal length fits pairs, but breaks
tracks, so that the same matches need more points (Torr, An assessment of information criteria for motion model
selection, CVPR 1997). Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sfm.colmap.camera import prior_focal, replace_focals
from sfm.geometry.focal_from_F import estimate_focals, groups_ahead
from sfm.mapping.inputs import Attempt, MappingInput

if TYPE_CHECKING:
    import pycolmap

    from sfm.mapping.retry_strategy import Outcome

GUESS, WIDE = 1.2, 0.6  # of the longer side: COLMAP's guess, and the lens of a car's or an action camera
MAX_RATIO = 2.0  # of a focal length over EXIF's, or the inverse
SAME = 0.95  # of what the best run explains; a run that keeps to EXIF need not explain more


def explained(model: pycolmap.Reconstruction, misregistered: frozenset[str], max_error: float) -> float:
    """How much a model explains: well registered images times their coordinates in tracks of three and more, weighted
    by how well they fit, less three for every point. max_error: px, from which on an observation says nothing."""
    kept = {i for i in model.reg_image_ids() if model.image(i).name not in misregistered}
    least, total = min(3, len(kept)), 0.0
    for point in model.points3D.values():
        length = sum(e.image_id in kept for e in point.track.elements)
        if length >= least:
            total += 2 * length * max(1 - (point.error / max_error) ** 2, 0.0) - 3
    return len(kept) * total


def value(outcome: Outcome) -> float:
    """What the first model of an outcome explains; -1 without one."""
    data = outcome.attempt.data
    return explained(outcome.models[0], outcome.misregistered, data.filter_error) if outcome.models else -1.0


def better(outcome: Outcome, best: Outcome) -> bool:
    """Whether a further start is to be kept rather than the best so far."""
    least = SAME if outcome.attempt.hold_focal else 1.0
    return bool(outcome.models) and value(outcome) > least * value(best)


def further_starts(best: Outcome, num_reachable: int) -> Iterator[Attempt]:
    """What to try after the first run; nothing where there is no doubt. num_reachable: images that could be in it."""
    first = best.attempt
    data = first.data
    if data.known_intrinsics:
        return
    sides = _ahead(data)
    if sides:
        yield replace(first, name="held distortion", hold_distortion=True)
    for name, factor in {"wide focal": WIDE, "guessed focal": GUESS}.items() if sides else ():
        images = replace_focals(data.images, {group: factor * side for group, side in sides.items()})
        yield replace(first, name=name, data=replace(data, images=images), hold_distortion=True)
    few = 2 * best.num_well_registered < num_reachable
    exif = frozenset(r.camera.group for r in data.images if r.camera.has_focal_prior) - data.estimated_focals
    if exif and (few or ran_away(best, exif)):
        yield replace(first, name="EXIF focal", hold_distortion=True, hold_focal=True)
    if exif and few:
        yield replace(first, name="without EXIF", data=without_exif(data, exif), hold_distortion=True)


def _ahead(data: MappingInput) -> dict[str, int]:
    """Longer sides, px, of the cameras without EXIF that move ahead, by group."""
    unknown = {
        r.camera.group: max(r.width, r.height)
        for r in data.images
        if r.camera.group in data.estimated_focals or not r.camera.has_focal_prior
    }
    ahead = groups_ahead(data.images, data.geometries) if unknown else frozenset()
    return {group: side for group, side in unknown.items() if group in ahead}


def ran_away(outcome: Outcome, groups: frozenset[str]) -> bool:
    """Whether the largest model has a camera of these groups whose focal length is far from its prior."""
    if not outcome.models:
        return False
    records = {record.name: record for record in outcome.attempt.data.images}
    model = outcome.models[0]
    for image_id in model.reg_image_ids():
        image = model.image(image_id)
        record = records[image.name]
        ratio = model.cameras[image.camera_id].mean_focal_length() / prior_focal(record)
        if record.camera.group in groups and not 1 / MAX_RATIO <= ratio <= MAX_RATIO:
            return True
    return False


def without_exif(data: MappingInput, groups: frozenset[str]) -> MappingInput:
    """The same with the focal lengths of some cameras from their pairs, or the guess where these say nothing."""
    plain = tuple(
        replace(r, camera=replace(r.camera, has_focal_prior=False)) if r.camera.group in groups else r
        for r in data.images
    )
    sides = {r.camera.group: max(r.width, r.height) for r in data.images if r.camera.group in groups}
    found = {g: f for g, f in estimate_focals(plain, data.geometries).items() if g in groups and np.isfinite(f)}
    images = replace_focals(data.images, {group: GUESS * side for group, side in sides.items()} | found)
    return replace(data, images=images, estimated_focals=data.estimated_focals | groups)
