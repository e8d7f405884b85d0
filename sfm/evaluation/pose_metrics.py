"""How far an estimated two-view geometry is from the ground truth.

Poses are cam1_from_cam0, (3, 4) f64. Two views determine neither the length of the baseline nor its sign.

Pose errors in degrees and epipolar errors are those of SuperGlue (Sarlin et al., CVPR 2020) and LoFTR (Sun et al., CVPR
2021); their AUC is sfm.evaluation.model.auc. The mean Average Accuracy is that of the Image Matching Challenge 2022
(kaggle.com/competitions/image-matching-challenge-2022, Evaluation, and the scoring code published there): of a
fundamental matrix alone, which with both cameras' K leaves two rotations and one direction; the better rotation counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sfm.geometry.epipolar import essential_matrix
from sfm.geometry.pixels import homogeneous
from sfm.geometry.poses import angle_between_deg, rotation_angle_deg
from sfm.types import Float64

ROTATION_THRESHOLDS_DEG = np.linspace(1, 10, 10)
TRANSLATION_THRESHOLDS_M = np.geomspace(0.2, 5, 10)

_QUARTER_ROTATION = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def pose_errors_deg(estimate: Float64 | None, true_pose: Float64) -> tuple[float, float]:
    """(rotation, direction) error of cam1_from_cam0, degrees; direction 0 to 90, 0 where the true pose has no baseline.

    Both are infinite without an estimate.
    """
    if estimate is None:
        return float("inf"), float("inf")
    rotation = float(rotation_angle_deg(true_pose[:, :3].T @ estimate[:, :3]))
    return rotation, _direction_error_deg(estimate[:, 3], true_pose[:, 3])


def _direction_error_deg(estimate: Float64, true_pose: Float64) -> float:
    if not true_pose.any():
        return 0.0
    if not estimate.any():
        return 90.0
    angle = float(angle_between_deg(estimate, true_pose))
    return min(angle, 180.0 - angle)


def epipolar_errors(xy0: Float64, xy1: Float64, cam1_from_cam0: Float64) -> tuple[Float64, Float64]:
    """Distances (M,) and (M,) of matches to their true epipolar lines in image 0 and in image 1.

    xy0, xy1: (M, 2) at unit focal length, without distortion. inf where a line vanishes.
    """
    E = essential_matrix(cam1_from_cam0)
    x0, x1 = homogeneous(xy0), homogeneous(xy1)
    lines1, lines0 = x0 @ E.T, x1 @ E  # (M, 3) each
    residual = np.abs(np.einsum("mi,mi->m", x1, lines1))
    lengths = [np.linalg.norm(lines[:, :2], axis=1) for lines in (lines0, lines1)]
    infinite = np.full(len(x0), np.inf)
    in0, in1 = (np.divide(residual, length, out=infinite.copy(), where=length > 0) for length in lengths)
    return in0, in1


# --- Image Matching Challenge 2022 ---------------------------------------------------------------


def poses_of_fundamental(F: Float64, K0: Float64, K1: Float64) -> tuple[Float64, Float64, Float64] | None:
    """The two rotations (3, 3) that F (3, 3) allows, and the direction (3,) up to its sign; None for no geometry.

    Hartley and Zisserman, Multiple View Geometry, 2nd edition, result 9.19.
    """
    E = K1.T @ np.asarray(F, np.float64) @ K0
    if not np.isfinite(E).all() or not E.any():
        return None
    left, _, right = np.linalg.svd(E)
    left, right = left * np.linalg.det(left), right * np.linalg.det(right)  # rotations, both
    return left @ _QUARTER_ROTATION @ right, left @ _QUARTER_ROTATION.T @ right, left[:, 2]


def challenge_errors(
    F: Float64 | None, K0: Float64, K1: Float64, cam1_from_cam0: Float64, metres_per_unit: float
) -> tuple[float, float]:
    """(rotation in degrees, translation in metres) error of a fundamental matrix; infinite without one.

    The estimated direction is given the true baseline's length, and the sign that suits it.
    """
    poses = None if F is None else poses_of_fundamental(F, K0, K1)
    if poses is None:
        return float("inf"), float("inf")
    *rotations, direction = poses
    true_rotation, translation = cam1_from_cam0[:, :3], cam1_from_cam0[:, 3] * metres_per_unit
    estimate = direction * np.linalg.norm(translation)
    return (
        min(float(rotation_angle_deg(true_rotation.T @ rotation)) for rotation in rotations),
        min(float(np.linalg.norm(translation - estimate)), float(np.linalg.norm(translation + estimate))),
    )


def accuracies(rotation_deg: ArrayLike, translation_m: ArrayLike) -> Float64:
    """(10,) share of pairs whose errors (P,) are both below the thresholds, one pair of thresholds after the other."""
    rotation, translation = np.asarray(rotation_deg, np.float64), np.asarray(translation_m, np.float64)
    if len(rotation) == 0:
        return np.zeros(len(ROTATION_THRESHOLDS_DEG))
    right = (rotation[:, None] < ROTATION_THRESHOLDS_DEG) & (translation[:, None] < TRANSLATION_THRESHOLDS_M)
    share: Float64 = right.mean(axis=0)
    return share


def mean_average_accuracy(rotation_deg: ArrayLike, translation_m: ArrayLike) -> float:
    """mAA of one scene, 0 to 1: the mean of its accuracies. The challenge's score is the mean over scenes."""
    return float(accuracies(rotation_deg, translation_m).mean())
