"""Focal lengths from EXIF against what the images say.

EXIF is right to some per cent, or altogether false (another lens, a converter, an edited file). The images determine a
focal length by how the views differ in direction: very well around an object, hardly where a plane is seen from the
front, or where the camera only turns or only moves ahead. There what is common to the images, and is neither noise nor
in the camera model (a rolling shutter, the matcher's bias), moves it by a third, with hardly a trace in the residuals.
So that much of it counts as unknown: a smooth error over each image, of half a pixel in a thousand.

Where the images say less than EXIF and do not contradict it, the most probable focal length of both is taken and held,
and no further parameter is freed on the strength of the same data. Where they contradict it strongly (the odds
are 20 to 1 that the entry is false), EXIF is what is doubted. Elsewhere nothing is done: refinement finds what EXIF
would not change.

Fraser, Automatic camera calibration in close range photogrammetry, 2013; James and Robson, Mitigating systematic error
in topographic models derived from UAV and ground-based image networks, 2014 (both on weak networks).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pycolmap

from sfm.calibration.intrinsics_posterior import (
    Noise,
    Prior,
    State,
    Views,
    adjust,
    covariance_of,
    information,
    noise_px,
    residuals,
)
from sfm.calibration.self_calibration import (
    PATCHES,
    SMOOTH_SHARE,
    STRONG,
    CameraReport,
    Problem,
    Solution,
    camera_of,
    images_of,
    prepare,
    report_of,
)

EXIF_SD = 0.05  # of the log of a focal length from EXIF that is right: rounding, crops, breathing of the lens
RIGHT = 3.0  # log of the odds that it is, before an image is seen: 20 to 1
FALSE_SD = 0.7  # of one that is false
SMOOTH = 5e-4  # of the longer side: a smooth error that residuals do not show, standard deviation
WEAK = 0.03  # deviation of the log of the focal length by the images alone, from which EXIF is asked
DETERMINED = 0.1  # deviation up to which images can contradict EXIF
FAR = 3 * EXIF_SD  # of the log of a focal length over EXIF's
MIN_IMAGES = 3


@dataclass(frozen=True, slots=True)
class FocalEvidence:
    """A focal length by EXIF and by the images alone, px. deviation: of the log of the latter; inf for not at all."""

    camera_id: int
    prior: float
    found: float
    deviation: float

    @property
    def is_false(self) -> bool:
        """Whether the images contradict EXIF: strongly, and with a focal length that they determine."""
        return self.deviation <= DETERMINED and log_odds_of_false(self.prior, self.found, self.deviation) > STRONG

    def is_of(self, focal: float) -> bool:
        """Whether the images alone determine a focal length, px, and it is this one."""
        return self.is_false and abs(np.log(focal / self.found)) < FAR

    @property
    def is_weak(self) -> bool:
        """Whether EXIF says more than the images, and is not contradicted."""
        return self.deviation > WEAK and not self.is_false

    def __str__(self) -> str:
        by_images = f"{self.found:.0f} px ± {self.deviation:.0%}" if self.deviation < 1 else "nothing"
        if self.is_false:
            return (
                f"EXIF is doubted: camera {self.camera_id}: EXIF says {self.prior:.0f} px, but the images determine "
                f"{self.found:.0f} px ± {max(self.deviation, 0.001):.1%}, which the model has"
            )
        return (
            f"camera {self.camera_id}: the focal length is EXIF's more than the images' (EXIF {self.prior:.0f} px, the "
            f"images alone {by_images}: a plane from the front, or too few directions): depths may be stretched or bent"
        )


def log_odds_of_false(prior: float, found: float, deviation: float) -> float:
    """Log of the odds of a false EXIF entry over a right one, all considered."""
    away = np.log(found / prior)
    variances = np.array([EXIF_SD**2, FALSE_SD**2]) + deviation**2
    right, false = -(away**2) / variances / 2 - np.log(variances) / 2
    return float(false - right) - RIGHT


def focal_evidence(model: pycolmap.Reconstruction, camera_id: int, prior: float) -> FocalEvidence:
    """What the model's images say of a focal length, the prior (px) apart. Deterministic; the model stays as it is."""
    camera = model.camera(camera_id)
    found = float(camera.mean_focal_length())
    nothing = FocalEvidence(camera_id, prior, found, float("inf"))
    image_ids = images_of(model, camera_id)
    if len(image_ids) < MIN_IMAGES or not _is_usual(camera):
        return nothing
    problem = _own(prepare(model, camera, image_ids))
    views, state = problem.views, problem.state
    if not _says_something(problem):
        return nothing
    free = _focal_prior(problem.prior, float(state.theta[0]), 10.0)
    try:
        deviation = _deviation(views, state, free)
        if deviation > WEAK or abs(np.log(found / prior)) > FAR:  # the model may have held it, or be in a flat valley
            state = adjust(views, state, free, _noise(views, state))
            deviation = _deviation(views, state, free)
    except np.linalg.LinAlgError:
        return nothing
    return FocalEvidence(camera_id, prior, float(np.exp(state.theta[0])), deviation)


def _says_something(problem: Problem) -> bool:
    """Whether enough images have observations, all in front of them."""
    found = residuals(problem.views, problem.state)
    return len(problem.state.R) >= MIN_IMAGES and len(found) > 0 and bool(np.isfinite(found).all())


def _is_usual(camera: pycolmap.Camera) -> bool:
    return list(camera.principal_point_idxs()) == [len(camera.focal_length_idxs()) + i for i in (0, 1)]


def _own(problem: Problem) -> Problem:
    """Only the parameters of the camera's own model free, the principal point not."""
    return replace(problem, prior=problem.prior.without(np.concatenate(list(problem.further.values()))), further={})


def _focal_prior(prior: Prior, mean: float, sd: float) -> Prior:
    means, deviations = prior.mean.copy(), prior.sd.copy()
    means[prior.free == 0], deviations[prior.free == 0] = mean, sd  # theta begins with the log of the focal length
    return Prior(prior.free, means, deviations)


def _noise(views: Views, state: State) -> Noise:
    """With a share of the residuals, and what they do not show, common to all matches in a patch of an image."""
    variance = noise_px(residuals(views, state)) ** 2
    smooth = max(SMOOTH_SHARE * variance, (SMOOTH * views.lens.side) ** 2)
    inflation = 1 + smooth / variance * len(views) / (len(state.R) * PATCHES)
    return Noise.of(views, state, inflation=inflation)


def _deviation(views: Views, state: State, prior: Prior) -> float:
    found = information(views, state, prior.free, _noise(views, state))[0]
    return float(np.sqrt(covariance_of(found + prior.precision)[0, 0]))


def most_probable(model: pycolmap.Reconstruction, evidence: FocalEvidence) -> tuple[pycolmap.Camera, CameraReport]:
    """The camera by EXIF and the images together, and its report. For evidence that is weak."""
    camera = model.camera(evidence.camera_id)
    image_ids = images_of(model, evidence.camera_id)
    held = (("further parameters", "the images hardly determine the focal length"),)
    start = pycolmap.Camera(camera.todict())
    problem = _own(prepare(model, camera, image_ids)) if np.isfinite(evidence.deviation) else None
    if problem is None or not _says_something(problem):  # the model may have lost what it had
        start.params[list(start.focal_length_idxs())] = evidence.prior
        return start, CameraReport(evidence.camera_id, len(image_ids), held=held)
    views, prior = problem.views, _focal_prior(problem.prior, float(np.log(evidence.prior)), EXIF_SD)
    noise = _noise(views, problem.state)
    state = adjust(views, problem.state, prior, noise)
    covariance = covariance_of(information(views, state, prior.free, noise)[0] + prior.precision)
    solution = Solution(state.theta, prior, covariance, noise, held)
    return camera_of(camera, solution, views.lens), report_of(camera, len(image_ids), solution, views.lens)


def evidence_of_priors(model: pycolmap.Reconstruction, priors: Mapping[int, float]) -> tuple[FocalEvidence, ...]:
    """Of every camera with a prior (px, by camera id) that has most of the registered images.

    Others are determined by the points that all images share, which this, with one camera at a time, would not see.
    """
    least = max(MIN_IMAGES, model.num_reg_images() / 2)
    ids = [i for i in sorted(priors) if i in model.cameras and len(images_of(model, i)) >= least]
    return tuple(focal_evidence(model, i, priors[i]) for i in ids)
