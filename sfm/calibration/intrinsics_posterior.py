"""Bundle adjustment of one camera's images with priors on its intrinsics, and their posterior.

COLMAP's bundle adjustment has no priors, and gives no covariance that is marginal over poses and
points together. Here both come from the Schur complement: points are eliminated one by one, poses
and intrinsics stay in one dense system. It is made for some thousand tracks of some dozens of
images, a sample of a model. Residuals are weighted by Cauchy's function.

Intrinsics are a vector theta: log of the focal length (the geometric mean of both), log fy/fx where
the model has two, the principal point over the image's longer side, then COLMAP's further
parameters as they are. Pixels are COLMAP's (sfm.types). A pose is (R, t), cam_from_world.

Triggs et al., Bundle Adjustment: A Modern Synthesis, 1999.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pycolmap
from numpy.typing import NDArray

from sfm.geometry.poses import cross_matrices, rotation_matrices
from sfm.types import Float64

CAUCHY = 2.385  # of the noise: 95 % efficient where the noise is Gaussian
STEP = 1e-6  # of central differences
MAX_STEPS, MAX_TRIALS = 15, 8
MIN_NOISE_PX = 0.02
SHAPE = "fx/fy"  # name of the place of theta that holds it, as log fy/fx
ENOUGH = 0.1  # of -2 log posterior; a step that gains less is the last


@dataclass(frozen=True, slots=True)
class Lens:
    """A COLMAP camera model at one image size, and its parameters as theta."""

    model: str
    width: int
    height: int

    @property
    def side(self) -> int:
        """The longer side, px."""
        return max(self.width, self.height)

    @property
    def num_focals(self) -> int:
        """1 or 2."""
        return len(self.camera(None).focal_length_idxs())

    @property
    def names(self) -> list[str]:
        """Of theta's places: "f", SHAPE where the model has two focal lengths, then COLMAP's names."""
        rest = [name.strip() for name in self.camera(None).params_info.split(",")][self.num_focals :]
        return ["f", *([SHAPE] if self.num_focals == 2 else []), *rest]

    def camera(self, theta: Float64 | None) -> pycolmap.Camera:
        """COLMAP's camera of theta."""
        if theta is None:
            return pycolmap.Camera.create_from_model_name(0, self.model, 1.0, self.width, self.height)
        focal = float(np.exp(theta[0]))
        two = self.num_focals == 2
        focals = [focal * np.exp(-theta[1] / 2), focal * np.exp(theta[1] / 2)] if two else [focal]
        rest = theta[2 if two else 1 :]
        params = [*focals, rest[0] * self.side, rest[1] * self.side, *rest[2:]]
        return pycolmap.Camera(model=self.model, width=self.width, height=self.height, params=params)

    def theta(self, camera: pycolmap.Camera) -> Float64:
        """Theta of a camera of this model."""
        params = np.array(camera.params, np.float64)
        focals, rest = params[: self.num_focals], params[self.num_focals :]
        shape = [np.log(focals[1] / focals[0])] if len(focals) == 2 else []
        return np.array([np.log(focals).mean(), *shape, *(rest[:2] / self.side), *rest[2:]])

    def project(self, plane: Float64, theta: Float64) -> Float64:
        """(O, 2) px of normalised points (O, 2)."""
        xy: Float64 = np.asarray(self.camera(theta).img_from_cam(np.column_stack([plane, np.ones(len(plane))])))
        return xy


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """O observations of T points in N images of one camera, ordered by point, a point at most once in an image.

    point_idx, image_idx: (O,) i64. xy: (O, 2) f64 px.
    """

    lens: Lens
    point_idx: NDArray[np.int64]
    image_idx: NDArray[np.int64]
    xy: Float64

    def __len__(self) -> int:
        return len(self.xy)


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """R: (N, 3, 3), t: (N, 3), xyz: (T, 3), theta: (K,)."""

    R: Float64
    t: Float64
    xyz: Float64
    theta: Float64


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """Which parameters are free, (F,) i64 places in theta, and their means and standard deviations (F,)."""

    free: NDArray[np.int64]
    mean: Float64
    sd: Float64

    @property
    def precision(self) -> Float64:
        """(F, F)."""
        return np.diag(self.sd**-2.0)

    def without(self, places: NDArray[np.int64]) -> Prior:
        """The same with some parameters no longer free."""
        keep = ~np.isin(self.free, places)
        return Prior(self.free[keep], self.mean[keep], self.sd[keep])


def select(views: Views, state: State, keep: NDArray[np.bool_]) -> tuple[Views, State]:
    """Only the observations to keep of points that are then still seen twice, and only the images they are in."""
    length = np.bincount(views.point_idx[keep], minlength=len(state.xyz))
    rows = np.flatnonzero(keep & (length[views.point_idx] >= 2))
    points, point_idx = np.unique(views.point_idx[rows], return_inverse=True)
    images, image_idx = np.unique(views.image_idx[rows], return_inverse=True)
    fewer = replace(views, point_idx=point_idx, image_idx=image_idx, xy=views.xy[rows])
    return fewer, replace(state, R=state.R[images], t=state.t[images], xyz=state.xyz[points])


@dataclass(frozen=True, slots=True, eq=False)
class _Linear:
    """Residuals (O, 2) px and their Jacobians by point (O, 2, 3), pose (O, 2, 6), free theta (O, 2, F).

    A pose's columns: rotation vector, translation."""

    residual: Float64
    by_point: Float64
    by_pose: Float64
    by_theta: Float64


def _in_cameras(views: Views, state: State) -> Float64:
    rotated = np.einsum("oij,oj->oi", state.R[views.image_idx], state.xyz[views.point_idx])
    return np.asarray(rotated + state.t[views.image_idx])


def residuals(views: Views, state: State) -> Float64:
    """(O, 2) px; infinite where a point is not before its camera or cannot be projected."""
    camera = _in_cameras(views, state)
    if (camera[:, 2] <= 0).any():
        return np.full((len(views), 2), np.inf)
    result = views.lens.project(camera[:, :2] / camera[:, 2:], state.theta) - views.xy
    return result if np.isfinite(result).all() else np.full((len(views), 2), np.inf)


def _differences(function: Callable[[Float64], Float64], at: Float64, directions: Float64) -> Float64:
    """(O, 2, D) central differences."""
    columns = [(function(at + STEP * d) - function(at - STEP * d)) / (2 * STEP) for d in directions]
    return np.stack(columns, 2) if columns else np.zeros((*function(at).shape, 0))


def _linearise(views: Views, state: State, free: NDArray[np.int64]) -> _Linear:
    lens, theta = views.lens, state.theta
    camera = _in_cameras(views, state)
    plane, depth = camera[:, :2] / camera[:, 2:], camera[:, 2]
    by_plane = _differences(lambda p: lens.project(p, theta), plane, np.eye(2))
    shift = np.zeros((len(views), 2, 3))  # of the normalised point by the point in the camera
    shift[:, 0, 0] = shift[:, 1, 1] = 1 / depth
    shift[:, :, 2] = -plane / depth[:, None]
    by_camera = by_plane @ shift
    rotation = by_camera @ -cross_matrices(camera - state.t[views.image_idx])
    by_theta = _differences(lambda x: lens.project(plane, x), theta, np.eye(len(theta))[free])
    residual = lens.project(plane, theta) - views.xy
    return _Linear(residual, by_camera @ state.R[views.image_idx], np.concatenate([rotation, by_camera], 2), by_theta)


@dataclass(frozen=True, slots=True, eq=False)
class _Reduced:
    """Normal equations without the points: matrix (6N + F)², gradient (6N + F,).

    E (3T, 6N + F), e (3T,) and inverse_factor (T, 3, 3) give the points' step back.
    """

    matrix: Float64
    gradient: Float64
    E: Float64
    e: Float64
    inverse_factor: Float64


def _reduce(views: Views, linear: _Linear, weight: Float64, num_images: int, damping: float) -> _Reduced:
    root = np.sqrt(weight)[:, None, None]
    A, B, C, r = root * linear.by_point, root * linear.by_pose, root * linear.by_theta, root[..., 0] * linear.residual
    point, image = views.point_idx, views.image_idx
    first = np.flatnonzero(np.diff(point, prepend=-1))
    num_points, num_free, size = len(first), C.shape[2], 6 * num_images
    V = np.add.reduceat(A.transpose(0, 2, 1) @ A, first)
    V = V + np.einsum("tii->ti", V)[:, :, None] * np.eye(3) * max(damping, 1e-9)
    inverse_factor = np.linalg.inv(np.linalg.cholesky(V))
    half = inverse_factor[point] @ A.transpose(0, 2, 1)  # (O, 3, 2)
    E = np.zeros((num_points, 3, size + num_free))
    blocks = E[:, :, :size].reshape(num_points, 3, num_images, 6)
    blocks[point, :, image] = half @ B
    E[:, :, :size] = blocks.reshape(num_points, 3, size)
    E[:, :, size:] = np.add.reduceat(half @ C, first)
    e = np.add.reduceat(np.einsum("oij,oj->oi", half, r), first).ravel()
    E = E.reshape(3 * num_points, -1)
    matrix, gradient = _cameras_only(image, B, C, r, num_images)
    return _Reduced(matrix - E.T @ E, gradient - E.T @ e, E, e, inverse_factor)


def _cameras_only(
    image: NDArray[np.int64], B: Float64, C: Float64, r: Float64, num_images: int
) -> tuple[Float64, Float64]:
    """Normal equations of poses and theta, the points held."""
    size, num_free = 6 * num_images, C.shape[2]
    order = np.argsort(image, kind="stable")
    ends = np.cumsum(np.bincount(image, minlength=num_images))
    J = np.concatenate([B, C, r[:, :, None]], 2)[order]  # (O, 2, 6 + F + 1)
    matrix, gradient = np.zeros((size + num_free, size + num_free)), np.zeros(size + num_free)
    for i, rows in enumerate(np.split(J, ends[:-1])):
        flat = rows.reshape(-1, J.shape[2])
        block, at = flat.T @ flat, slice(6 * i, 6 * i + 6)
        matrix[at, at] = block[:6, :6]
        matrix[at, size:] = block[:6, 6:-1]
        matrix[size:, at] = block[6:-1, :6]
        matrix[size:, size:] += block[6:-1, 6:-1]
        gradient[at] = block[:6, -1]
        gradient[size:] += block[6:-1, -1]
    return matrix, gradient


def noise_px(residual: Float64) -> float:
    """Robust standard deviation of a coordinate."""
    return max(float(1.4826 * np.median(np.abs(residual))), MIN_NOISE_PX)


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """scale: Cauchy's, px. variance: of weighted residuals, px², as independent noise would have it.
    inflation: how much larger the variance of what is estimated really is."""

    scale: float
    variance: float
    inflation: float

    @classmethod
    def of(cls, views: Views, state: State, *, inflation: float) -> Noise:
        """Estimated from the residuals."""
        residual = residuals(views, state)
        scale = CAUCHY * noise_px(residual)
        square = (residual**2).sum(1)
        weight = 1 / (1 + square / scale**2)
        freedom = max(2 * len(views) - 3 * len(state.xyz) - 6 * len(state.R), len(views) / 10)
        return cls(scale, float((weight**2 * square).sum() / freedom / weight.mean()), inflation)

    def weight(self, residual: Float64) -> Float64:
        """(O,) of Cauchy's function."""
        return np.asarray(1 / (1 + (residual**2).sum(1) / self.scale**2))

    def cost(self, residual: Float64) -> float:
        """-2 log likelihood."""
        with np.errstate(invalid="ignore"):
            total = np.log1p((residual**2).sum(1) / self.scale**2).sum()
        return float(self.scale**2 * total / self.variance / self.inflation)


def _moved(state: State, step: Float64, xyz_step: Float64, free: NDArray[np.int64]) -> State:
    size = 6 * len(state.R)
    pose = step[:size].reshape(-1, 6)
    rotation = rotation_matrices(pose[:, :3])
    theta = state.theta.copy()
    theta[free] += step[size:]
    return State(rotation @ state.R, state.t + pose[:, 3:], state.xyz + xyz_step, theta)


def _step(state: State, reduced: _Reduced, prior: Prior, unit: float, damping: float) -> State:
    """One damped Gauss-Newton step. unit: variance that residuals are divided by."""
    size = 6 * len(state.R)
    matrix, gradient = reduced.matrix / unit, reduced.gradient / unit
    matrix[np.diag_indices_from(matrix)] *= 1 + damping
    matrix[size:, size:] += prior.precision
    gradient[size:] += prior.precision @ (state.theta[prior.free] - prior.mean)
    scale = 1 / np.sqrt(np.maximum(np.diag(matrix), 1e-30))
    normal = scale[:, None] * matrix * scale + 1e-12 * np.eye(len(scale))
    step = -scale * np.linalg.solve(normal, scale * gradient)
    back = (reduced.e + reduced.E @ step).reshape(-1, 3)
    return _moved(state, step, -np.einsum("tji,tj->ti", reduced.inverse_factor, back), prior.free)


def adjust(views: Views, state: State, prior: Prior, noise: Noise) -> State:
    """The most probable poses, points and free intrinsics (Levenberg-Marquardt from `state`)."""

    def cost(at: State) -> float:
        away = at.theta[prior.free] - prior.mean
        return noise.cost(residuals(views, at)) + float(away @ prior.precision @ away)

    damping, before = 1e-4, cost(state)
    for _ in range(MAX_STEPS):
        linear = _linearise(views, state, prior.free)
        weight = noise.weight(linear.residual)
        for _ in range(MAX_TRIALS):
            reduced = _reduce(views, linear, weight, len(state.R), damping)
            new = _step(state, reduced, prior, noise.variance * noise.inflation, damping)
            after = cost(new)
            if after < before:
                break
            damping *= 10
        else:
            return state
        state, gain, before, damping = new, before - after, after, max(damping / 10, 1e-9)
        if gain < ENOUGH:
            break
    return state


def information(views: Views, state: State, free: NDArray[np.int64], noise: Noise) -> tuple[Float64, Float64]:
    """Information of the observations about the free intrinsics, marginal over poses and points: (F, F) and (F,).

    The inverse covariance (with noise.inflation in it), and the gradient; near `state`, without prior.
    """
    linear = _linearise(views, state, free)
    num = len(state.R)
    reduced = _reduce(views, linear, noise.weight(linear.residual), num, 0.0)
    size, unit = 6 * num, noise.variance * noise.inflation
    scale = 1 / np.sqrt(np.maximum(np.diag(reduced.matrix), 1e-30))
    S, g = scale[:, None] * reduced.matrix * scale, scale * reduced.gradient
    poses = S[:size, :size] + 1e-9 * np.eye(size)  # the gauge is free
    solved = np.linalg.solve(poses, np.column_stack([S[:size, size:], g[:size]]))
    H = S[size:, size:] - S[size:, :size] @ solved[:, :-1]
    gradient = g[size:] - S[size:, :size] @ solved[:, -1]
    H = H / scale[size:, None] / scale[size:] / unit
    return (H + H.T) / 2, gradient / scale[size:] / unit


def covariance_of(precision: Float64) -> Float64:
    """The inverse. Raises LinAlgError where the matrix is not positive definite."""
    factor = np.linalg.inv(np.linalg.cholesky(precision))
    return np.asarray(factor.T @ factor)


def bayes_factor(prior: Prior, theta: Float64, covariance: Float64, places: NDArray[np.int64]) -> float:
    """Log of the evidence for freeing some places of theta over holding them at the prior's mean.

    The ratio of prior to posterior density there (Savage and Dickey), both Gaussian.
    """
    at = np.flatnonzero(np.isin(prior.free, places))
    away = theta[prior.free[at]] - prior.mean[at]
    C = covariance[np.ix_(at, at)]
    occam = np.linalg.slogdet(C)[1] - np.log(prior.sd[at] ** 2).sum()
    return float((away @ np.linalg.solve(C, away) + occam) / 2)
