"""Further starts of mapping where the focal length that it began with, or ended at, is doubtful.

Three cases. A camera that drives ahead, without EXIF: its fundamental matrices give a biased focal length, and while
few images are registered distortion takes up what is wrong of it; mapping then stays in the wrong valley. An EXIF focal
length that mapping ran away from, and that the images do not determine: few of them, or hardly any motion. An EXIF
focal length with which less than half of the images are registered, and which their pairs contradict.

Runs are compared by what their models explain beyond what they assume: a wrong focal length fits pairs, but breaks
tracks, so that the same matches need more points (Torr, An assessment of information criteria for motion model
selection, CVPR 1997). Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from sfm.calibration.focal_prior import evidence_of_priors
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
    other = pair_focals(data, exif) if exif and few else {}
    if other:
        images = replace_focals(data.images, other)
        without = replace(data, images=images, estimated_focals=data.estimated_focals | set(other))
        yield replace(first, name="without EXIF", data=without, hold_distortion=True)


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
    """Whether the largest model has a camera of these groups whose focal length is far from its prior, and not what the
    images determine."""
    if not outcome.models:
        return False
    records = {record.name: record for record in outcome.attempt.data.images}
    model, priors = outcome.models[0], dict[int, float]()
    for image_id in model.reg_image_ids():
        image = model.image(image_id)
        record = records[image.name]
        if record.camera.group in groups:
            priors[image.camera_id] = prior_focal(record)
    away = {i: prior for i, prior in priors.items() if _is_far(_focal(model, i), prior)}
    determined = {e.camera_id for e in evidence_of_priors(model, away) if e.is_of(_focal(model, e.camera_id))}
    return bool(set(away) - determined)


def _focal(model: pycolmap.Reconstruction, camera_id: int) -> float:
    return float(model.cameras[camera_id].mean_focal_length())


def _is_far(focal: float, prior: float) -> bool:
    return not 1 / MAX_RATIO <= focal / prior <= MAX_RATIO


def pair_focals(data: MappingInput, groups: frozenset[str]) -> dict[str, float]:
    """Focal lengths, px, of those of the camera groups whose pairs determine one, far from EXIF's."""
    plain = tuple(
        replace(r, camera=replace(r.camera, has_focal_prior=r.camera.group not in groups)) for r in data.images
    )
    exif = {r.camera.group: prior_focal(r) for r in data.images}
    found = estimate_focals(plain, data.geometries)
    return {group: focal for group, focal in found.items() if _is_far(focal, exif[group])}
