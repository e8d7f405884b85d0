"""Similarities: rotation, scale and translation between two frames. Least squares, and robust against outliers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from sfm.types import Float64


@dataclass(frozen=True, slots=True, eq=False)
class Similarity:
    """target_from_source: scale * rotation (3, 3) @ xyz + translation (3,)."""

    scale: float
    rotation: Float64
    translation: Float64

    def __call__(self, xyz: Float64) -> Float64:
        """Points (N, 3) of the source in the target's frame."""
        return self.scale * xyz @ self.rotation.T + self.translation

    def transform_pose(self, cam_from_source: Float64) -> Float64:
        """cam_from_target (3, 4); a camera's own frame takes over the target's scale."""
        rotation = cam_from_source[:, :3] @ self.rotation.T
        return np.column_stack([rotation, self.scale * cam_from_source[:, 3] - rotation @ self.translation])


def fit_similarity(source: Float64, target: Float64) -> Similarity | None:
    """The similarity that brings points (N, 3) nearest to their targets (N, 3) in the least-squares sense.

    None where it is not determined: fewer than three points, or all on a line. Umeyama, PAMI 1991.
    """
    if len(source) < 3:
        return None
    from_mean, to_mean = source - source.mean(axis=0), target - target.mean(axis=0)
    left, spread, right = np.linalg.svd(to_mean.T @ from_mean)
    if spread[1] <= 1e-12 * spread[0]:
        return None
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])  # a rotation, never a reflection
    rotation = (left * signs) @ right
    scale = float(spread @ signs / (from_mean**2).sum())
    return Similarity(scale, rotation, target.mean(axis=0) - scale * rotation @ source.mean(axis=0))


TRIALS = 1000  # samples of three: where half of the points are right, one in eight is
MEDIAN, LIMIT = 2.366, 11.34  # of chi squared with three degrees of freedom: the median, and what one in 100 exceeds
LEAST_NOISE = 0.1  # of the standard deviations given: chance may fit a few points exactly


@dataclass(frozen=True, slots=True, eq=False)
class RobustFit:
    """A similarity of points of which up to half may be wrong.

    noise: the standard deviations of the right ones are so many times those given. inlier: (N,). residuals: (N, 3),
    transformed source less target.
    """

    similarity: Similarity
    noise: float
    inlier: NDArray[np.bool_]
    residuals: Float64

    def deviations(self, source: Float64, sigma: Float64) -> tuple[float, float]:
        """Standard deviations of the scale (relative) and of the least determined rotation (degrees), of inliers with
        independent errors sigma (N, 3); inf where the points do not determine it."""
        local = (self.similarity.scale * (source - source[self.inlier].mean(axis=0)) @ self.similarity.rotation.T)[
            self.inlier
        ]
        jacobian = _jacobian(local) / sigma[self.inlier][:, :, None]
        information = np.einsum("nai,naj->ij", jacobian, jacobian)
        values, vectors = np.linalg.eigh(information)
        variances = np.full(len(values), np.inf)
        np.divide(1.0, values, out=variances, where=values > 1e-9 * values[-1])
        covariance = np.where(vectors**2 > 1e-12, vectors**2, 0) @ np.where(np.isinf(variances), 1e12, variances)
        scale, rotation = np.sqrt(covariance[3]), np.sqrt(covariance[:3].max())
        return float(scale), float(np.degrees(rotation))


def robust_similarity(
    source: Float64, target: Float64, sigma: Float64, *, share: float = 0.5, seed: int = 0
) -> RobustFit | None:
    """The similarity of most points (N, 3) and their targets (N, 3), whose standard deviations are sigma (N, 3).

    Least median of squares over samples of three (Rousseeuw 1984), then least squares of the points that fit.
    Deterministic for a seed. share: of the points that are right, where they may be fewer than half. None for fewer
    than four points, or all on one spot.
    """
    if len(source) < 4:
        return None
    found = [fit for rows in _samples(len(source), seed) if (fit := fit_similarity(source[rows], target[rows]))]
    if (overall := fit_similarity(source, target)) is not None:
        found.append(overall)
    found = [fit for fit in found if np.isfinite(fit.scale) and fit.scale > 0]
    if not found:
        return None
    best = min(found, key=lambda fit: float(np.quantile(_errors(fit(source) - target, sigma), share)))
    inlier = np.ones(len(source), bool)
    for _ in range(20):
        errors = _errors(best(source) - target, sigma)
        noise = _noise(errors, share)
        before, inlier = inlier, errors <= LIMIT * noise**2
        if (inlier == before).all() or inlier.sum() < 3:
            break
        best = _least_squares(best, source[inlier], target[inlier], sigma[inlier])
    residuals = best(source) - target
    errors = _errors(residuals, sigma)
    noise = _noise(errors, share)
    return RobustFit(best, noise, errors <= LIMIT * noise**2, residuals)


def _samples(num: int, seed: int) -> NDArray[np.int64]:
    """(S, 3) different rows, all there are or TRIALS of them."""
    if num <= 18:
        return np.array(list(combinations(range(num), 3)))
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, num, (2 * TRIALS, 3))
    different = (rows[:, 0] != rows[:, 1]) & (rows[:, 0] != rows[:, 2]) & (rows[:, 1] != rows[:, 2])
    return np.asarray(rows[different][:TRIALS])


def _errors(residuals: Float64, sigma: Float64) -> Float64:
    return np.asarray(((residuals / sigma) ** 2).sum(axis=1))


def _noise(errors: Float64, share: float) -> float:
    """Of a quantile, the median of as many points as are right, with Rousseeuw's correction for few points."""
    correction = 1 + 5 / max(len(errors) - 3, 1)
    return max(correction * float(np.sqrt(np.quantile(errors, min(share, 0.5)) / MEDIAN)), LEAST_NOISE)


def _jacobian(local: Float64) -> Float64:
    """(N, 3, 7) derivatives of centred points (N, 3) by rotation, logarithm of scale, and translation."""
    jacobian = np.zeros((len(local), 3, 7))
    x, y, z = local.T
    jacobian[:, 0, 1], jacobian[:, 0, 2] = z, -y
    jacobian[:, 1, 0], jacobian[:, 1, 2] = -z, x
    jacobian[:, 2, 0], jacobian[:, 2, 1] = y, -x
    jacobian[:, :, 3] = local
    jacobian[:, :, 4:] = np.eye(3)
    return jacobian


def _least_squares(start: Similarity, source: Float64, target: Float64, sigma: Float64) -> Similarity:
    """Gauss and Newton from a similarity that is near; each axis of the target has its own standard deviations."""
    best = start
    for _ in range(10):
        moved = best(source)
        centre = moved.mean(axis=0)
        jacobian = (_jacobian(moved - centre) / sigma[:, :, None]).reshape(-1, 7)
        step = np.linalg.lstsq(jacobian, ((target - moved) / sigma).reshape(-1), rcond=1e-9)[0]
        turn, growth = _rotation(np.asarray(step[:3], np.float64)), float(np.exp(np.clip(step[3], -1, 1)))
        rotation = turn @ best.rotation
        translation = growth * turn @ (best.translation - centre) + centre + step[4:]
        best = Similarity(best.scale * growth, rotation, translation)
        if np.abs(step[:4]).max() < 1e-12:
            break
    left, _, right = np.linalg.svd(best.rotation)
    return Similarity(best.scale, left @ right, best.translation)


def _rotation(vector: Float64) -> Float64:
    """(3, 3) of an axis times an angle (3,), by Rodrigues' formula."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-15:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)
