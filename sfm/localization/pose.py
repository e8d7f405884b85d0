"""The pose of a new image from correspondences of pixels and points: RANSAC, then refinement with their covariances.

Pixels are COLMAP's; poses are cam_from_world.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pycolmap
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from sfm.types import Float64

LOSS_SCALE = 2.0  # standard deviations at which a correspondence begins to count less (Cauchy)
MAX_WHITENED = 4.0  # standard deviations from which on it is none
_BEHIND = 1e3  # residual, px, of what is behind the camera


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """A pose with what is known of it. rotation (3, 3), centre (3,): of the camera. camera: with its focal length.

    covariance: (6, 6) of a rotation vector in the camera's frame (radians) and the centre (units of the model); zeros
    before refinement. inliers: (N,) which correspondences fit. error_px: their median.
    """

    rotation: Float64
    centre: Float64
    camera: pycolmap.Camera
    inliers: NDArray[np.bool_]
    covariance: Float64
    error_px: float = 0.0

    @property
    def translation(self) -> Float64:
        """(3,) of cam_from_world."""
        return np.asarray(-self.rotation @ self.centre)

    @property
    def cam_from_world(self) -> pycolmap.Rigid3d:
        """As COLMAP has it."""
        return pycolmap.Rigid3d(np.concatenate([self.rotation, self.translation[:, None]], axis=1))


def find_pose(
    xy: Float64, xyz: Float64, camera: pycolmap.Camera, *, sigma: float, free_focal: bool, seed: int
) -> Pose | None:
    """A pose by RANSAC, None where there is none. xy: (N, 2) px. xyz: (N, 3). sigma: standard deviation of xy, px.

    free_focal: the focal length is a guess and found along with the pose.
    """
    options = pycolmap.AbsolutePoseEstimationOptions()
    options.ransac.max_error = 4 * sigma
    options.ransac.random_seed = seed
    options.ransac.min_num_trials, options.ransac.max_num_trials = 1000, 20000
    options.estimate_focal_length = free_focal
    refinement = pycolmap.AbsolutePoseRefinementOptions()
    refinement.refine_focal_length, refinement.refine_extra_params = free_focal, False
    refinement.print_summary = False
    own = pycolmap.Camera(camera.todict())
    found = pycolmap.estimate_and_refine_absolute_pose(xy, xyz, own, options, refinement)
    if found is None:
        return None
    matrix = found["cam_from_world"].matrix()
    rotation = matrix[:, :3]
    inliers = np.asarray(found["inlier_mask"], bool)
    return Pose(rotation, -rotation.T @ matrix[:, 3], own, inliers, np.zeros((6, 6)))


def refine_pose(pose: Pose, xy: Float64, xyz: Float64, covariances: Float64, *, free_focal: bool) -> Pose:
    """The pose that fits correspondences best, each weighted by its covariance (N, 2, 2) px², and how well it is known.

    The covariance is that of the inliers, made larger where they fit worse than their covariances say.
    """
    roots = np.linalg.cholesky(np.linalg.inv(covariances)).transpose(0, 2, 1)

    def at(step: Float64) -> Pose:
        return _moved(pose, step)

    def residuals(step: Float64) -> Float64:
        return np.asarray(np.einsum("nij,nj->ni", roots, _errors(at(step), xy, xyz)))

    def robust(step: Float64) -> Float64:
        white = residuals(step)
        squared = np.maximum((white**2).sum(axis=1), 1e-12)
        cost = LOSS_SCALE**2 * np.log1p(squared / LOSS_SCALE**2)
        return np.asarray((white * np.sqrt(cost / squared)[:, None]).ravel())

    scale = np.array([1e-3] * 3 + [1e-3 * _depth(pose, xyz)] * 3 + ([1e-3] if free_focal else []))
    found = least_squares(robust, np.zeros(len(scale)), x_scale=scale, method="trf", max_nfev=50)
    white = residuals(found.x)
    inliers = (white**2).sum(axis=1) < MAX_WHITENED**2
    jacobian = _jacobian(residuals, found.x, scale)[inliers].reshape(-1, len(scale))
    excess = max(1.0, float((white[inliers] ** 2).sum()) / max(2 * inliers.sum() - len(scale), 1))
    covariance = np.linalg.pinv(jacobian.T @ jacobian, hermitian=True)[:6, :6] * excess
    best = at(found.x)
    error = np.linalg.norm(_errors(best, xy, xyz)[inliers], axis=1)
    median = float(np.median(error)) if len(error) else 0.0
    return replace(best, inliers=inliers, covariance=covariance, error_px=median)


def _moved(pose: Pose, step: Float64) -> Pose:
    """step: rotation vector, centre, and the logarithm of the focal length's factor where it is free."""
    rotation = Rotation.from_rotvec(step[:3]).as_matrix() @ pose.rotation
    camera = pose.camera
    if len(step) > 6:
        camera = pycolmap.Camera(camera.todict())
        params = np.array(camera.params)
        params[list(camera.focal_length_idxs())] *= np.exp(step[6])
        camera.params = params.tolist()
    return replace(pose, rotation=rotation, centre=pose.centre + step[3:6], camera=camera)


def _errors(pose: Pose, xy: Float64, xyz: Float64) -> Float64:
    local = (xyz - pose.centre) @ pose.rotation.T
    projected = np.asarray(pose.camera.img_from_cam(local), np.float64).reshape(-1, 2)
    wrong = ~(np.isfinite(projected).all(axis=1) & (local[:, 2] > 0))
    return np.where(wrong[:, None], _BEHIND, xy - projected)


def _depth(pose: Pose, xyz: Float64) -> float:
    return float(np.median(np.linalg.norm(xyz - pose.centre, axis=1)))


def _jacobian(residuals: Callable[[Float64], Float64], x: Float64, scale: Float64) -> Float64:
    """(N, 2, P) by central differences."""
    steps = np.diag(1e-2 * scale)
    columns = [(residuals(x + step) - residuals(x - step)) / (2 * step.sum()) for step in steps]
    return np.stack(columns, axis=2)
