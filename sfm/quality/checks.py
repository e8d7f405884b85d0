"""Checks of a finished model: warnings that it is probably bad.

Each check tests what must hold of any correct model, not what well-conditioned scenes happen to have; its threshold is
where the model is no better than chance or noise. Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Set
from dataclasses import dataclass

import numpy as np
import pycolmap

from sfm.calibration.focal_prior import WEAK, focal_evidence
from sfm.calibration.self_calibration import focal_deviation
from sfm.colmap.camera import prior_focal
from sfm.colmap.log import adjust_bundle
from sfm.colmap.model_arrays import ModelColumns
from sfm.colmap.rig_models import has_rigs
from sfm.colmap.several_models import names_of
from sfm.mapping.colmap_mapper import INIT_ERROR
from sfm.mapping.consistency import frames_of, groups_apart, pair_votes, point_votes
from sfm.mapping.inputs import MappingInput
from sfm.quality.gps import contradicts_gps
from sfm.quality.parallax import rotation_share
from sfm.refinement.bundle_adjustment import Freedom, adjust, is_large
from sfm.types import ImagePair, ModelWarning

# Observations further off than a limit were filtered (MappingInput.filter_error). Errors of random
# matches are uniform over the circle of the limit, with a mean of 2/3 of it; those of a model that fits cluster at 0.
FILLED = 0.5
MIN_ANGLE = 2.0  # degrees, median over points: at 1.5 points are filtered, so most would be close to being filtered
MAX_FOCAL_DEVIATION = 0.1  # a tenth of the focal length bends and stretches the model by as much
MAX_PRIOR_RATIO = 2.0  # EXIF and mapping then disagree about the lens
FOCAL_RANGE = (0.3, 9.0)  # over the longer side: field of view 118 to 6 degrees; COLMAP's limits are 0.1 and 10
# Standard deviations of a match: a residual below it beyond a rotation is no parallax; share of the matches.
ROTATED, ONLY_ROTATED = 4.0, 0.9
ROTATED_FOCALS = np.geomspace(0.4, 4.0, 24)  # over the longer side, shorter than tele
MAX_BEHIND = 0.01  # of the observations: none should be
APART = 0.1  # of the images; at least two
ODD_FOCALS, ODD_DISTORTION = (0.6, 2.4), 0.5  # over the longer side; first radial coefficient of a pinhole camera
GIVEN_AWAY, GIVEN_DEVIATIONS = 0.1, 5.0  # of the log of a given focal length over the one that fits
FREED_ITERATIONS = 30  # towards it


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What the checks read. model: the largest one, final. mapped: the same before refinement, to which the matches
    refer. others: smaller models. data: the input of mapping: all readable images with their camera priors.
    known_poses: the user gave the poses. gps: the images' GPS positions count. refused: verified pairs that are not
    used, since their images show two places that look alike."""

    model: pycolmap.Reconstruction
    mapped: pycolmap.Reconstruction
    others: tuple[pycolmap.Reconstruction, ...]
    data: MappingInput
    known_poses: bool = False
    gps: bool = True
    refused: frozenset[ImagePair] = frozenset()

    @property
    def places(self) -> frozenset[str]:
        """Images only in smaller models that refused pairs part from the largest: models of places of their own."""
        largest = reached = names_of(self.model)
        left = [names_of(other) for other in self.others]
        while own := [names for names in left if any(_joins(pair, reached, names) for pair in self.refused)]:
            left = [names for names in left if names not in own]
            reached = reached.union(*own)
        return reached - largest

    @property
    def elsewhere(self) -> int:
        """Number of images that are only in smaller models, and not of places of their own."""
        return len(frozenset[str]().union(*map(names_of, self.others)) - names_of(self.model) - self.places)


def _joins(pair: ImagePair, names0: Set[str], names1: Set[str]) -> bool:
    """Whether a pair is of an image of the one and an image of the other that is not in the one as well."""
    ends = (pair.name0, pair.name1), (pair.name1, pair.name0)
    return any(a in names0 and b in names1 and b not in names0 for a, b in ends)


def warnings(evidence: Evidence) -> tuple[ModelWarning, ...]:
    """Every warning about the model; empty where all checks pass."""
    return tuple(_warnings(evidence))


def _warnings(evidence: Evidence) -> Iterator[ModelWarning]:
    model, data = evidence.model, evidence.data
    columns = ModelColumns.of(model)
    if not evidence.known_poses:
        yield from few_registered(len(columns.names), len(data.images) - len(evidence.places))
        yield from in_pieces(len(columns.names), evidence.elsewhere)
    if not len(columns.point) or not _is_finite(columns):
        yield ModelWarning("no numbers", "the model holds no points, or numbers that are not finite")
        return
    yield from large_error(columns, data)
    yield from behind_cameras(columns)
    rotated = () if evidence.known_poses else tuple(rotation_only(evidence.mapped, data))
    yield from rotated or little_parallax(columns)
    if not evidence.known_poses:
        if data.known_intrinsics:
            yield from given_contradicted(model)
        else:
            yield from absurd_focal(model, data)
            yield from free_focal(model, data)
    yield from (poses_contradicted if evidence.known_poses else contradicted)(evidence.mapped, data)
    if evidence.gps:
        yield from contradicts_gps(model, data.images)


def _is_finite(columns: ModelColumns) -> bool:
    params = [camera.params for camera in columns.cameras]
    return all(np.isfinite(values).all() for values in (columns.xyz, columns.translations, columns.rotations, *params))


# --- how many of the images are registered ------------------------------------------------------------------


def few_registered(registered: int, usable: int) -> Iterator[ModelWarning]:
    """Most of the images are not registered."""
    if 2 * registered < usable:
        yield ModelWarning("few images", f"only {registered} of {usable} images are in the model")


def in_pieces(registered: int, elsewhere: int) -> Iterator[ModelWarning]:
    """The images split into models of similar size that could not be merged."""
    if 2 * elsewhere >= registered:
        yield ModelWarning(
            "in pieces",
            f"the images split into models that could not be merged: {registered} in one, {elsewhere} in others",
        )


# --- whether it fits its observations --------------------------------------------------------------


def large_error(columns: ModelColumns, data: MappingInput) -> Iterator[ModelWarning]:
    """The reprojection errors are no better than those of random matches."""
    error = np.linalg.norm(columns.residuals(), axis=1)
    mean = float(error[np.isfinite(error)].mean()) if np.isfinite(error).any() else np.inf
    limit = FILLED * data.filter_error
    if mean > limit:
        yield ModelWarning(
            "high error",
            f"the mean reprojection error is {mean:.2f} px, no better than with random matches (limit {limit:.2f} px)",
        )


def behind_cameras(columns: ModelColumns) -> Iterator[ModelWarning]:
    """Cameras observe points that are behind them."""
    local = np.einsum("oj,oj->o", columns.rotations[columns.image, 2], columns.xyz[columns.point])
    share = float((local + columns.translations[columns.image, 2] <= 0).mean())
    if share > MAX_BEHIND:
        yield ModelWarning("behind cameras", f"{share:.0%} of the observations are of points behind their cameras")


def contradicted(mapped: pycolmap.Reconstruction, data: MappingInput) -> Iterator[ModelWarning]:
    """Groups of images whose matches with each other contradict the model, as if there were two places.

    Repeated structure: mapping merged two places into one, and matches that it could not use contradict this.
    """
    votes = point_votes(mapped, data.matches)
    names = sorted(names_of(mapped))
    apart = groups_apart(names, votes, frames_of(mapped))
    if len(apart) >= max(2, APART * len(names)):
        some = ", ".join(sorted(apart)[:3]) + (", ..." if len(apart) > 3 else "")
        yield ModelWarning(
            "contradicted",
            f"{len(apart)} of {len(names)} images are probably misregistered: most of their matches with the others "
            f"contradict the model ({some})",
        )


def poses_contradicted(mapped: pycolmap.Reconstruction, data: MappingInput) -> Iterator[ModelWarning]:
    """The matches of most pairs contradict the epipolar geometry of the user's poses."""
    keypoints = {record.name: own for record, own in zip(data.images, data.keypoints, strict=True)}
    votes = pair_votes(mapped, keypoints, data.matches, INIT_ERROR * data.sigma)
    against = sum(net < 0 for net in votes.values())
    if 2 * against > len(votes):
        yield ModelWarning("contradicted", f"the matches of {against} of {len(votes)} pairs contradict the known poses")


# --- whether the images determine the model ---------------------------------------------------------------


def little_parallax(columns: ModelColumns) -> Iterator[ModelWarning]:
    """The baselines are too short for the depth of the scene: near-pure rotation, which determines no depth."""
    angle = float(np.median(columns.triangulation_angles()))
    if angle < MIN_ANGLE:
        yield ModelWarning(
            "no parallax",
            f"the camera hardly moved (median triangulation angle {angle:.1f} degrees): depths are not determined "
            "(move sideways between images, do not only rotate)",
        )


def rotation_only(mapped: pycolmap.Reconstruction, data: MappingInput) -> Iterator[ModelWarning]:
    """A pure rotation explains the matches, so the depths of the model are arbitrary.

    Mapping can produce this where the focal length is free: a rotation looks like motion along a distant plane.
    """
    columns, records = ModelColumns.of(mapped), {record.name: record for record in data.images}
    own = [records[name] for name in columns.names]
    if all(record.camera.has_focal_prior for record in own):
        focals = np.array([[prior_focal(record)] for record in own])
    else:
        focals = np.array([max(record.width, record.height) * ROTATED_FOCALS for record in own])
    share = rotation_share(columns, focals, max_error=ROTATED * data.sigma)
    if share > ONLY_ROTATED:
        yield ModelWarning(
            "no parallax",
            f"a pure rotation explains {share:.0%} of what images have in common: depths are not determined "
            "(move sideways between images, do not only rotate)",
        )


def absurd_focal(model: pycolmap.Reconstruction, data: MappingInput) -> Iterator[ModelWarning]:
    """A focal length that no lens has, or that is far from EXIF though the images do not determine it."""
    for camera_id, image_names in sorted(_images_of_cameras(model).items()):
        camera, prior = model.cameras[camera_id], _prior(data, image_names)
        focal, side = camera.mean_focal_length(), max(camera.width, camera.height)
        low, high = (limit * side for limit in FOCAL_RANGE)
        if not low <= focal <= high and prior is None:
            yield ModelWarning(
                "absurd focal length", f"camera {camera_id}: {focal:.0f} px at {side} px; give --intrinsics"
            )
        elif prior is not None and not 1 / MAX_PRIOR_RATIO <= focal / prior <= MAX_PRIOR_RATIO:
            if low <= focal <= high and focal_evidence(model, camera_id, prior).is_of(focal):
                continue  # EXIF is what is doubted, and the summary says so
            yield ModelWarning(
                "absurd focal length",
                f"camera {camera_id}: {focal:.0f} px, but EXIF has {prior:.0f} px",
            )


def free_focal(model: pycolmap.Reconstruction, data: MappingInput) -> Iterator[ModelWarning]:
    """Neither EXIF nor the geometry determines the focal length: a fronto-parallel plane, too few images.

    Measured by its standard deviation, marginal over poses and points. The model may be stretched along the view.
    """
    for camera_id, image_names in sorted(_images_of_cameras(model).items()):
        if _prior(data, image_names) is not None or 2 * len(image_names) < model.num_reg_images():
            continue
        deviation = focal_deviation(model, camera_id)
        if is_odd(camera := model.cameras[camera_id]) and deviation <= MAX_FOCAL_DEVIATION:
            yield from _odd_camera(model, camera)
        elif deviation > MAX_FOCAL_DEVIATION:
            how = f"± {deviation:.0%}" if deviation < 1 else "not at all"
            yield ModelWarning(
                "free focal length",
                f"camera {camera_id}: the images do not determine its focal length ({how}): depths may be stretched or "
                "bent (give --intrinsics, or add images from other directions)",
            )


def is_odd(camera: pycolmap.Camera) -> bool:
    """Whether a camera's focal length or its first coefficient of distortion is one that few lenses have."""
    first = [float(camera.params[i]) for i in camera.extra_params_idxs()][:1]
    focal = camera.mean_focal_length() / max(camera.width, camera.height)
    bent = bool(first) and "FISHEYE" not in camera.model_name and abs(first[0]) > ODD_DISTORTION
    return bent or not ODD_FOCALS[0] <= focal <= ODD_FOCALS[1]


def _odd_camera(model: pycolmap.Reconstruction, camera: pycolmap.Camera) -> Iterator[ModelWarning]:
    """Of hardly any motion focal length and distortion go together: a wrong pair of them fits as well as the right one,
    with small residuals. Where the images leave some per cent open, such a camera is more likely wrong than rare."""
    deviation = focal_evidence(model, camera.camera_id, camera.mean_focal_length()).deviation
    if deviation > WEAK:
        yield ModelWarning(
            "free focal length",
            f"camera {camera.camera_id}: few lenses are like that ({camera.mean_focal_length():.0f} px at "
            f"{max(camera.width, camera.height)} px), and the images hardly determine it: depths may be stretched or "
            "bent (give --intrinsics, a larger --resize, or images from other directions)",
        )


def given_contradicted(model: pycolmap.Reconstruction) -> Iterator[ModelWarning]:
    """Focal lengths that the user gave, and that bundle adjustment leaves for others when it may."""
    if has_rigs(model):
        return
    free = pycolmap.Reconstruction(model)
    _free_focals(free)
    for camera_id in sorted(_images_of_cameras(model)):
        given, found = (own.cameras[camera_id].mean_focal_length() for own in (model, free))
        away = abs(float(np.log(found / given))) if found > 0 else np.inf
        if away > max(GIVEN_AWAY, GIVEN_DEVIATIONS * focal_deviation(free, camera_id)):
            yield ModelWarning(
                "contradicts intrinsics",
                f"camera {camera_id}: --intrinsics say {given:.0f} px, but about {found:.0f} px fit the images better: "
                "check the focal length, and that it is of images of this size",
            )


def _free_focals(model: pycolmap.Reconstruction) -> None:
    """Bundle adjustment with free focal lengths, in place; of a large model in columns."""
    freedom = Freedom(extra_params=False)
    if is_large(model, freedom):
        sizes = {image_id: model.images[image_id].num_points2D() for image_id in model.reg_image_ids()}
        adjust(model, {i: np.broadcast_to(np.eye(2), (num, 2, 2)) for i, num in sizes.items()}, freedom, threads=1)
        return
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary, options.refine_extra_params = False, False
    options.ceres.solver_options.num_threads, options.ceres.solver_options.max_num_iterations = 1, FREED_ITERATIONS
    adjust_bundle(model, options)


def _images_of_cameras(model: pycolmap.Reconstruction) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for image_id in sorted(model.reg_image_ids()):
        found.setdefault(model.image(image_id).camera_id, set()).add(model.image(image_id).name)
    return found


def _prior(data: MappingInput, names: Collection[str]) -> float | None:
    """Focal length px from EXIF or the user for a camera's images, None without."""
    record = next((r for r in data.images if r.name in names), None)
    known = record is not None and record.camera.has_focal_prior and record.camera.group not in data.estimated_focals
    return prior_focal(record) if record is not None and known else None
