"""The cameras' further intrinsics, estimated from a finished model where it determines them.

Mapping holds the principal point at the image's centre, for few images do not determine it. A
finished model often does. But an estimate from poor geometry is worse than none, so every parameter
has a prior, from real cameras, and the maximum a posteriori estimate is taken: where the
images contain little information it stays at the prior. The parameters of the model's own camera model are estimated
so. Beyond these, principal point, fx != fy and a second radial term are freed only on strong
evidence: a Bayes factor against holding them (Savage-Dickey).

Both need realistic uncertainties. Errors of matches are correlated (silhouettes, shading, blur), and
covariances that assume independence are far too small. So the model is cut in halves, of images and of space,
and what the halves say is compared: how much they differ beyond their covariances inflates them. Errors that all images
share do not show there; for them a share of the noise counts as smooth over the image.

Each camera is calibrated from its own images, or of many from a sample (sfm.calibration.sample).
Pixels are COLMAP's (sfm.types).

Kass and Raftery, Bayes Factors, 1995 (strong: 20 to 1); MacKay, Bayesian Interpolation, 1992.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import pycolmap
from numpy.typing import NDArray

from sfm.calibration.intrinsics_posterior import (
    SHAPE,
    Lens,
    Noise,
    Prior,
    State,
    Views,
    adjust,
    bayes_factor,
    covariance_of,
    information,
    residuals,
    select,
)
from sfm.calibration.sample import sample
from sfm.types import Float64
from sfm.wording import counted

MIN_IMAGES, MIN_OBSERVATIONS = 5, 200  # of one camera
STRONG = 3.0  # log of the Bayes factor from which on a further parameter is freed: 20 to 1

# Standard deviations of real cameras, of the focal length around what mapping found. The centre's is over the longer
# side; the unit of radial terms leaves long lenses, which see little of it, little distortion.
FOCAL_SD, SHAPE_SD, CENTRE_SD, DISTORTION_SD, TANGENTIAL_SD = 0.3, 0.003, 0.02, 0.1, 0.003

# What halves cannot show is an error that all of the images share. So a part of the residuals' variance counts as
# smooth over the image: PATCHES of it share one error, however many matches they contain.
SMOOTH_SHARE, PATCHES = 0.25, 20

# Camera models whose further parameters may be added, and the one that holds them all.
WIDER = {"SIMPLE_PINHOLE": "PINHOLE", "PINHOLE": "PINHOLE", "SIMPLE_RADIAL": "OPENCV", "RADIAL": "OPENCV"}
NOT_CENTRED = 0.75  # px that a principal point is off the centre; COLMAP's own may be half a px
CENTRE, SECOND = "principal point", "second radial term"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A parameter's value and standard deviation; px, but for distortion and fx/fy."""

    name: str
    value: float
    sd: float


@dataclass(frozen=True, slots=True)
class CameraReport:
    """What became of one camera.

    estimated: parameters that were estimated; empty where all were left as they were. held: of further
    parameters that were held the name and the reason. inflation: of variances, beyond independent errors.
    """

    camera_id: int
    num_images: int
    estimated: tuple[Estimate, ...] = ()
    held: tuple[tuple[str, str], ...] = ()
    inflation: float = 1.0

    @property
    def freed(self) -> bool:
        """Whether the principal point was estimated."""
        return any(estimate.name == "cx" for estimate in self.estimated)

    def __str__(self) -> str:
        values = [f"{e.name} {_digits(e)}" for e in self.estimated]
        parts = ([", ".join(values)] if values else []) + [f"{name} held: {reason}" for name, reason in self.held]
        return f"camera {self.camera_id} ({counted(self.num_images, 'image')}): " + "; ".join(parts)


def _digits(estimate: Estimate) -> str:
    """Value ± deviation with two digits of the deviation."""
    places = int(np.clip(1 - np.floor(np.log10(max(estimate.sd, 1e-6))), 0, 6))
    return f"{estimate.value:.{places}f} ± {estimate.sd:.{places}f}"


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """One camera to calibrate: its sampled views, the state to begin at, prior of all that may be free,
    and which places of theta are further parameters, by name."""

    views: Views
    state: State
    prior: Prior
    further: dict[str, NDArray[np.int64]]


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """The most probable theta (K,), prior of what was free, covariance (F, F), and what was dropped and why."""

    theta: Float64
    prior: Prior
    covariance: Float64
    noise: Noise
    dropped: tuple[tuple[str, str], ...]


def _prior_sd(name: str) -> float:
    known = {"f": FOCAL_SD, SHAPE: SHAPE_SD, "cx": CENTRE_SD, "cy": CENTRE_SD, "p1": TANGENTIAL_SD, "p2": TANGENTIAL_SD}
    return known.get(name, DISTORTION_SD)


def prepare(model: pycolmap.Reconstruction, camera: pycolmap.Camera, image_ids: list[int]) -> Problem:
    """The problem of one camera's images. The prior of the focal length is around the model's own."""
    own = camera.model_name
    lens = Lens(WIDER.get(own, own), camera.width, camera.height)
    names = lens.names
    theta = np.zeros(len(names))
    native = Lens(own, camera.width, camera.height)
    for name, value in zip(native.names, native.theta(camera), strict=True):
        theta[names.index("k1" if name == "k" and "k1" in names else name)] = value
    held = {"p1", "p2"} if own in ("SIMPLE_RADIAL", "RADIAL") else set()
    free = np.array([i for i, name in enumerate(names) if name not in held])
    mean = np.where([names[i] in ("f", "cx", "cy") for i in free], theta[free], 0.0)
    further = {CENTRE: [names.index("cx"), names.index("cy")]}
    if own in WIDER and native.num_focals == 1:
        further[SHAPE] = [names.index(SHAPE)]
    if own == "SIMPLE_RADIAL":
        further[SECOND] = [names.index("k2")]
    views, state = sample(model, image_ids, lens, theta)
    prior = Prior(free, mean, np.array([_prior_sd(names[i]) for i in free]))
    return Problem(views, state, prior, {name: np.array(places) for name, places in further.items()})


def _halves(views: Views, state: State) -> list[NDArray[np.bool_]]:
    """(O,) masks that cut the observations in two: images alternately and in order, space along its three axes."""
    image = views.image_idx
    axes = np.linalg.svd(state.xyz - state.xyz.mean(0), full_matrices=False)[2]
    along = state.xyz @ axes.T  # (T, 3)
    sides = (along > np.median(along, axis=0))[views.point_idx]
    return [image % 2 == 0, image < len(state.R) / 2, *sides.T]


def shared_inflation(num_observations: int, num_images: int) -> float:
    """Of variances where a share of the error is common to all matches in a patch of an image."""
    return 1 + SMOOTH_SHARE * num_observations / (num_images * PATCHES)


def inflation(views: Views, state: State, prior: Prior, noise: Noise) -> float:
    """How much larger variances are than independent errors make them, at least 1.

    Mean over halves of d' C^-1 d per parameter, d what the halves differ by and C its covariance; but
    no less than matches err together in any case.
    """
    noise = replace(noise, inflation=1.0)
    total, freedom = 0.0, 0
    for half in _halves(views, state):
        said = []
        for keep in (half, ~half):
            part, start = select(views, state, keep)
            if len(start.R) < 3 or len(part) < MIN_OBSERVATIONS / 2:
                break
            H, gradient = information(part, start, prior.free, noise)
            said.append((H + prior.precision / 100, gradient))
        if len(said) == 2:
            (H0, g0), (H1, g1) = said
            d = np.linalg.solve(H0, g0) - np.linalg.solve(H1, g1)
            total += float(d @ np.linalg.solve(covariance_of(H0) + covariance_of(H1), d))
            freedom += len(d)
    return max(total / max(freedom, 1), shared_inflation(len(views), len(state.R)))


def _solve(problem: Problem) -> Solution:
    """The most probable intrinsics; further parameters are dropped one by one until each left has strong evidence."""
    views, state, prior = problem.views, problem.state, problem.prior
    own = prior.without(np.concatenate(list(problem.further.values())))
    least = shared_inflation(len(views), len(state.R))
    state = adjust(views, state, own, Noise.of(views, state, inflation=least))
    noise = Noise.of(views, state, inflation=least)
    state = adjust(views, state, prior, noise)
    noise = Noise.of(views, state, inflation=inflation(views, state, prior, noise))
    further = dict(problem.further)
    dropped: list[tuple[str, str]] = []
    while True:
        state = adjust(views, state, prior, noise)
        covariance = covariance_of(information(views, state, prior.free, noise)[0] + prior.precision)
        evidence = {name: bayes_factor(prior, state.theta, covariance, at) for name, at in further.items()}
        weakest = min(evidence, key=lambda name: evidence[name], default=None)
        if weakest is None or evidence[weakest] >= STRONG:
            return Solution(state.theta, prior, covariance, noise, tuple(dropped))
        dropped.append((weakest, _reason(problem, covariance, prior, further[weakest])))
        state = _held(state, prior, further[weakest])
        prior = prior.without(further.pop(weakest))


def _held(state: State, prior: Prior, places: NDArray[np.int64]) -> State:
    """The state with some places of theta back at the prior's mean."""
    at = np.isin(prior.free, places)
    theta = state.theta.copy()
    theta[prior.free[at]] = prior.mean[at]
    return replace(state, theta=theta)


def _reason(problem: Problem, covariance: Float64, prior: Prior, places: NDArray[np.int64]) -> str:
    at = np.isin(prior.free, places)
    share = np.sqrt(np.diag(covariance))[at] / prior.sd[at]
    lens, is_centre = problem.views.lens, [problem.views.lens.names[i] for i in places] == ["cx", "cy"]
    own = is_centre and np.abs(prior.mean[at] * lens.side - (lens.width / 2, lens.height / 2)).max() > NOT_CENTRED
    value = "its value before" if own else "the usual value"
    return "the images do not determine it" if share.max() > 0.5 else f"the images do not contradict {value}"


def _model_of(own: str, solution: Solution, lens: Lens) -> str:
    """The smallest of COLMAP's models that has the parameters of the camera's own and those found."""
    names = [lens.names[i] for i in solution.prior.free]
    if own not in WIDER or SHAPE in names:
        return lens.model
    return "RADIAL" if own == "SIMPLE_RADIAL" and "k2" in names else own


def camera_of(camera: pycolmap.Camera, solution: Solution, lens: Lens) -> pycolmap.Camera:
    """The calibrated camera, with the old one's id and prior."""
    target = Lens(_model_of(camera.model_name, solution, lens), camera.width, camera.height)
    of_name = dict(zip(lens.names, solution.theta, strict=True))
    theta = np.array([of_name["k1" if name == "k" and "k1" in of_name else name] for name in target.names])
    result = target.camera(theta)
    result.camera_id = camera.camera_id
    result.has_prior_focal_length = camera.has_prior_focal_length
    return result


def report_of(camera: pycolmap.Camera, num_images: int, solution: Solution, lens: Lens) -> CameraReport:
    """What was estimated of a camera and what was held, in COLMAP's units."""
    names, sd = lens.names, np.sqrt(np.diag(solution.covariance))
    estimates = []
    for place, deviation in zip(solution.prior.free, sd, strict=True):
        name, value = names[place], float(solution.theta[place])
        if name in ("f", SHAPE):
            sign = 1.0 if name == "f" else -1.0
            value, deviation = float(np.exp(sign * value)), deviation * float(np.exp(sign * value))
        elif name in ("cx", "cy"):
            value, deviation = value * lens.side, deviation * lens.side
        estimates.append(Estimate(name, value, float(deviation)))
    return CameraReport(camera.camera_id, num_images, tuple(estimates), solution.dropped, solution.noise.inflation)


def _calibrate_camera(
    model: pycolmap.Reconstruction, camera: pycolmap.Camera, image_ids: list[int]
) -> tuple[pycolmap.Camera | None, CameraReport]:
    """The new camera, or None where it stays as it is, and the report."""

    def left(reason: str) -> tuple[None, CameraReport]:
        return None, CameraReport(camera.camera_id, len(image_ids), held=(("intrinsics", reason),))

    if len(image_ids) < MIN_IMAGES:
        return left(f"fewer than {MIN_IMAGES} images")
    if list(camera.principal_point_idxs()) != [len(camera.focal_length_idxs()) + i for i in (0, 1)]:
        return left(f"{camera.model_name} is not a model that is calibrated here")
    problem = prepare(model, camera, image_ids)
    if len(problem.views) < MIN_OBSERVATIONS or len(problem.state.R) < MIN_IMAGES:
        return left("too few observations")
    if not np.isfinite(residuals(problem.views, problem.state)).all():
        return left("the model does not fit its own cameras")
    try:
        solution = _solve(problem)
    except np.linalg.LinAlgError:
        return left("the geometry is degenerate")
    lens = problem.views.lens
    report = report_of(camera, len(image_ids), solution, lens)
    return camera_of(camera, solution, lens), report


def images_of(model: pycolmap.Reconstruction, camera_id: int) -> list[int]:
    """Ids of a camera's registered images, ascending."""
    return sorted(i for i in model.reg_image_ids() if model.image(i).camera_id == camera_id)


def focal_deviation(model: pycolmap.Reconstruction, camera_id: int) -> float:
    """Standard deviation of a focal length over its value, as the model alone determines it; inf if not at all.

    Poses and points are free, and so is the distortion within what real lenses have; the rest is held. No prior speaks
    for the focal length. A share of the noise counts as common to the images, as in `calibrated_cameras`.
    """
    problem = prepare(model, model.camera(camera_id), images_of(model, camera_id))
    views, state = problem.views, problem.state
    if len(state.R) < 2 or not np.isfinite(residuals(views, state)).all():
        return float("inf")
    prior = problem.prior.without(np.concatenate(list(problem.further.values())))
    precision = prior.precision
    precision[prior.free == 0] = 0.0  # theta begins with the focal length
    noise = Noise.of(views, state, inflation=shared_inflation(len(views), len(state.R)))
    try:
        covariance = covariance_of(information(views, state, prior.free, noise)[0] + precision)
    except np.linalg.LinAlgError:
        return float("inf")
    return float(np.sqrt(covariance[0, 0]))


def calibrated_cameras(
    model: pycolmap.Reconstruction, *, fixed: Collection[int] = ()
) -> tuple[dict[int, pycolmap.Camera], tuple[CameraReport, ...]]:
    """New cameras by id, of those that could be calibrated, and a report of each camera. The model stays as it is.

    fixed: ids of cameras that stay as they are. Cameras of less than MIN_IMAGES registered images are
    not calibrated here. Whoever takes the new cameras adjusts poses and points to them, and holds them: without
    its prior a distortion that is not determined diverges. Deterministic.
    """
    images: dict[int, list[int]] = {}
    for image_id in sorted(model.reg_image_ids()):
        images.setdefault(model.image(image_id).camera_id, []).append(image_id)
    reports, cameras = [], {}
    for camera_id in sorted(images):
        camera = model.camera(camera_id)
        if camera_id in fixed:
            reports.append(CameraReport(camera_id, len(images[camera_id]), held=(("intrinsics", "known"),)))
            continue
        new, report = _calibrate_camera(model, camera, images[camera_id])
        reports.append(report)
        if new is not None:
            cameras[camera_id] = new
    return cameras, tuple(reports)
