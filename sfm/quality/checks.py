"""Whether a model is probably bad, and by which signs: nothing is wrong in silence.

Each sign asks what must hold of any right model, not what good scenes happen to have; its limit is where the model
says no more than chance or the noise would. Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import pycolmap

from sfm.colmap.camera import prior_focal
from sfm.colmap.model_arrays import ModelColumns
from sfm.mapping.colmap_mapper import INIT_ERROR
from sfm.mapping.consistency import groups_apart, pair_votes, point_votes
from sfm.mapping.inputs import MappingInput
from sfm.quality.parallax import triangulation_angles, turning_share
from sfm.refinement.self_calibration import focal_deviation
from sfm.types import ModelWarning

# Observations further off than a limit were filtered (MappingInput.filter_error). Errors that chance alone put below
# the limit fill its circle, with a mean of 2/3 of it; of a model that fits they cluster at zero.
FILLED = 0.5
MIN_ANGLE = 2.0  # degrees, median over points: at 1.5 points are filtered, so most would be at the brink
MAX_FOCAL_DEVIATION = 0.1  # a tenth of the focal length bends and stretches the model by as much
MAX_PRIOR_RATIO = 2.0  # what the camera says of its lens and what mapping found are no more the same lens
FOCAL_RANGE = (0.3, 9.0)  # over the longer side: 118 to 6 degrees of view; COLMAP stops at 0.1 and 10
# Standard deviations of a match: what moves by less beyond a rotation shows no parallax; share of the matches.
TURNED, ONLY_TURNED = 4.0, 0.9
TURNED_FOCALS = np.geomspace(0.4, 4.0, 24)  # over the longer side, shorter than tele
MAX_BEHIND = 0.01  # of the observations: none should be
APART = 0.1  # of the images; at least two


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What a verdict is made of. model: the largest one, final. mapped: the same as mapping left it, which is what its
    matches speak of. others: smaller models. data: what mapping read: all photos that could be read, with what they say
    of their cameras. known_poses: the user gave the poses."""

    model: pycolmap.Reconstruction
    mapped: pycolmap.Reconstruction
    others: tuple[pycolmap.Reconstruction, ...]
    data: MappingInput
    known_poses: bool = False

    @property
    def elsewhere(self) -> int:
        """Images that only smaller models hold."""
        return len(frozenset[str]().union(*map(_names, self.others)) - _names(self.model))


def _names(model: pycolmap.Reconstruction) -> frozenset[str]:
    return frozenset(model.image(i).name for i in model.reg_image_ids())


def warnings(evidence: Evidence) -> tuple[ModelWarning, ...]:
    """Every sign that the model is probably bad; none is the verdict that nothing speaks against it."""
    return tuple(_warnings(evidence))


def _warnings(evidence: Evidence) -> Iterator[ModelWarning]:
    model, data = evidence.model, evidence.data
    columns = ModelColumns.of(model)
    if not evidence.known_poses:
        yield from few_registered(len(columns.names), len(data.images))
        yield from in_pieces(len(columns.names), evidence.elsewhere)
    if not len(columns.point) or not _is_finite(columns):
        yield ModelWarning("no numbers", "the model holds no points, or numbers that are not finite")
        return
    yield from large_error(columns, data)
    yield from behind_cameras(columns)
    turned = () if evidence.known_poses else tuple(turned_only(evidence.mapped, data))
    yield from turned or little_parallax(columns)
    if not evidence.known_poses and not data.known_intrinsics:
        yield from absurd_focal(model, data)
        yield from free_focal(model, data)
    yield from (poses_contradicted if evidence.known_poses else contradicted)(evidence.mapped, data)


def _is_finite(columns: ModelColumns) -> bool:
    params = [camera.params for camera in columns.cameras]
    return all(np.isfinite(values).all() for values in (columns.xyz, columns.translations, columns.rotations, *params))


# --- how much of the photos it is ------------------------------------------------------------------


def few_registered(registered: int, usable: int) -> Iterator[ModelWarning]:
    """The model is of a minority of the photos: what most of them show is not in it."""
    if 2 * registered < usable:
        yield ModelWarning("few photos", f"only {registered} of {usable} photos are in the model")


def in_pieces(registered: int, elsewhere: int) -> Iterator[ModelWarning]:
    """The photos fell into pieces of like size: a join is missing, and the model is not of the whole."""
    if 2 * elsewhere >= registered:
        yield ModelWarning(
            "in pieces", f"the photos fell into models that could not be joined: {registered} + {elsewhere}"
        )


# --- whether it fits its observations --------------------------------------------------------------


def large_error(columns: ModelColumns, data: MappingInput) -> Iterator[ModelWarning]:
    """The errors fill the circle that filtering leaves, as they would by chance."""
    error = np.linalg.norm(columns.residuals(), axis=1)
    mean = float(error[np.isfinite(error)].mean()) if np.isfinite(error).any() else np.inf
    limit = FILLED * data.filter_error
    if mean > limit:
        yield ModelWarning(
            "high error",
            f"the mean reprojection error is {mean:.2f} px, and above {limit:.2f} px matches fit by chance",
        )


def behind_cameras(columns: ModelColumns) -> Iterator[ModelWarning]:
    """Cameras observe points that lie behind them."""
    local = np.einsum("oj,oj->o", columns.rotations[columns.image, 2], columns.xyz[columns.point])
    share = float((local + columns.translations[columns.image, 2] <= 0).mean())
    if share > MAX_BEHIND:
        yield ModelWarning("behind cameras", f"{share:.0%} of the observations are of points behind their cameras")


def contradicted(mapped: pycolmap.Reconstruction, data: MappingInput) -> Iterator[ModelWarning]:
    """Groups of images whose matches with each other lead to different points, as if there were two places.

    The model holds what it took for one place; matches that it could not use say that it is another.
    """
    votes = point_votes(mapped, data.matches)
    names = sorted(_names(mapped))
    apart = groups_apart(names, votes)
    if len(apart) >= max(2, APART * len(names)):
        some = ", ".join(sorted(apart)[:3]) + (", ..." if len(apart) > 3 else "")
        yield ModelWarning(
            "contradicted",
            f"{len(apart)} of {len(names)} images are probably in a wrong place: most of their matches with the others "
            f"contradict the model ({some})",
        )


def poses_contradicted(mapped: pycolmap.Reconstruction, data: MappingInput) -> Iterator[ModelWarning]:
    """The matches of most pairs do not lie on the epipolar lines of the poses that the user gave."""
    keypoints = {record.name: own for record, own in zip(data.images, data.keypoints, strict=True)}
    votes = pair_votes(mapped, keypoints, data.matches, INIT_ERROR * data.sigma)
    against = sum(net < 0 for net in votes.values())
    if 2 * against > len(votes):
        yield ModelWarning("contradicted", f"the matches of {against} of {len(votes)} pairs contradict the known poses")


# --- whether the photos determine it ---------------------------------------------------------------


def little_parallax(columns: ModelColumns) -> Iterator[ModelWarning]:
    """The cameras stand in one place for what they see: a camera that only turned tells no depth, nor a scale."""
    angle = float(np.median(triangulation_angles(columns)))
    if angle < MIN_ANGLE:
        yield ModelWarning(
            "no parallax",
            f"the camera hardly moved, points are seen under {angle:.1f} degrees: depths are not determined "
            "(move sideways between photos, do not only turn)",
        )


def turned_only(mapped: pycolmap.Reconstruction, data: MappingInput) -> Iterator[ModelWarning]:
    """One camera that turns in one place explains the matches: what the model says of depth, it made up.

    Mapping can do that where it may choose the focal length: turning looks like moving along a far plane.
    """
    columns, records = ModelColumns.of(mapped), {record.name: record for record in data.images}
    own = [records[name] for name in columns.names]
    if all(record.camera.has_focal_prior for record in own):
        focals = np.array([[prior_focal(record)] for record in own])
    else:
        focals = np.array([max(record.width, record.height) * TURNED_FOCALS for record in own])
    share = turning_share(columns, focals, max_error=TURNED * data.sigma)
    if share > ONLY_TURNED:
        yield ModelWarning(
            "no parallax",
            f"a camera that only turns explains {share:.0%} of what photos have in common: depths are not determined "
            "(move sideways between photos, do not only turn)",
        )


def absurd_focal(model: pycolmap.Reconstruction, data: MappingInput) -> Iterator[ModelWarning]:
    """A focal length that no lens has, or far from what the photo says of itself."""
    for camera_id, image_names in sorted(_images_of_cameras(model).items()):
        camera, prior = model.cameras[camera_id], _prior(data, image_names)
        focal, side = camera.mean_focal_length(), max(camera.width, camera.height)
        low, high = (limit * side for limit in FOCAL_RANGE)
        if not low <= focal <= high and prior is None:
            yield ModelWarning(
                "absurd focal length", f"camera {camera_id}: {focal:.0f} px at {side} px; give --intrinsics"
            )
        elif prior is not None and not 1 / MAX_PRIOR_RATIO <= focal / prior <= MAX_PRIOR_RATIO:
            yield ModelWarning(
                "absurd focal length",
                f"camera {camera_id}: {focal:.0f} px, but its photos say that it is {prior:.0f} px",
            )


def free_focal(model: pycolmap.Reconstruction, data: MappingInput) -> Iterator[ModelWarning]:
    """No photo tells the focal length and the geometry does not either: a plane seen from the front, too few photos.

    Judged by its standard deviation, whatever poses and points are. The model may be stretched along the view.
    """
    for camera_id, image_names in sorted(_images_of_cameras(model).items()):
        if _prior(data, image_names) is not None or 2 * len(image_names) < model.num_reg_images():
            continue
        deviation = focal_deviation(model, camera_id)
        if deviation > MAX_FOCAL_DEVIATION:
            how = f"± {deviation:.0%}" if deviation < 1 else "not at all"
            yield ModelWarning(
                "free focal length",
                f"camera {camera_id}: the photos do not determine its focal length ({how}): depths may be stretched or "
                "bent (give --intrinsics, or add photos from other directions)",
            )


def _images_of_cameras(model: pycolmap.Reconstruction) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for image_id in sorted(model.reg_image_ids()):
        found.setdefault(model.image(image_id).camera_id, set()).add(model.image(image_id).name)
    return found


def _prior(data: MappingInput, names: Collection[str]) -> float | None:
    """Focal length px that the photos of a camera tell, None where they do not."""
    record = next((r for r in data.images if r.name in names), None)
    return prior_focal(record) if record is not None and record.camera.has_focal_prior else None
