"""Pure numpy geometry: pixel conventions, epipolar distance, relative pose, angles.

Pixels are COLMAP's: origin at the corner of the image, the centre of the first pixel at (0.5, 0.5).
A pose is a (3, 4) matrix [R | t] named target_from_source. Formulas: Hartley and Zisserman,
Multiple View Geometry, 2nd edition, chapters 9 and 11.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sfm.types import Float64, Grid

Array = NDArray[np.floating]


def corner_from_center(xy: Array) -> Float64:
    """Pixels with the first pixel's centre at (0, 0), as OpenCV and most networks have them, to ours. (..., 2) px."""
    return np.asarray(xy, np.float64) + 0.5


def center_from_corner(xy: Array) -> Float64:
    """Our pixels to those with the first pixel's centre at (0, 0). (..., 2) px."""
    return np.asarray(xy, np.float64) - 0.5


def homogeneous(xy: Array) -> Float64:
    """(..., 2) to (..., 3) with a last coordinate of one."""
    xy = np.asarray(xy, np.float64)
    return np.concatenate([xy, np.ones((*xy.shape[:-1], 1))], axis=-1)


def cross_matrix(v: Array) -> Float64:
    """(3, 3) matrix [v]x with [v]x w = v × w."""
    x, y, z = np.asarray(v, np.float64)
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def relative_pose(cam0_from_world: Array, cam1_from_world: Array) -> Float64:
    """cam1_from_cam0 (3, 4) of two (3, 4) poses."""
    rotation = cam1_from_world[:, :3] @ cam0_from_world[:, :3].T
    translation = cam1_from_world[:, 3] - rotation @ cam0_from_world[:, 3]
    return np.concatenate([rotation, translation[:, None]], axis=1).astype(np.float64)


def essential_matrix(cam1_from_cam0: Array) -> Float64:
    """E (3, 3) with x1ᵀ E x0 = 0 for normalised image points."""
    return cross_matrix(cam1_from_cam0[:, 3]) @ np.asarray(cam1_from_cam0[:, :3], np.float64)


def fundamental_matrix(K0: Array, K1: Array, cam1_from_cam0: Array) -> Float64:
    """F (3, 3) with p1ᵀ F p0 = 0 for pixels of two cameras with calibration matrices K0, K1 (3, 3)."""
    F: Float64 = np.linalg.inv(K1).T @ essential_matrix(cam1_from_cam0) @ np.linalg.inv(K0)
    return F


def reduction(grid: Grid | None) -> float:
    """Photo px per network px, from a matcher's coarse grid; 1 for a detector."""
    return 1.0 if grid is None else Grid(*grid).network_scale


def epipolar_distance(points0: Array, points1: Array, F: Array) -> Float64:
    """Sampson's first-order distance of matches to F, px: (M,) for points0, points1 (M, 2) and F (3, 3).

    The root of COLMAP's residual of a fundamental matrix; infinite where both epipolar lines vanish.
    """
    x0, x1 = homogeneous(points0), homogeneous(points1)
    line1, line0 = x0 @ np.asarray(F).T, x1 @ np.asarray(F)  # (M, 3) each
    algebraic = np.abs(np.einsum("mi,mi->m", x1, line1))
    gradient = np.sqrt((line1[:, :2] ** 2).sum(axis=1) + (line0[:, :2] ** 2).sum(axis=1))
    distance: Float64 = np.divide(algebraic, gradient, out=np.full(len(x0), np.inf), where=gradient > 0)
    return distance


def angle_between_deg(v0: Array, v1: Array) -> Float64:
    """Angle of vectors (..., 3), degrees in [0, 180]; exact near 0 and 180, unlike the arc cosine."""
    u0 = v0 / np.linalg.norm(v0, axis=-1, keepdims=True)
    u1 = v1 / np.linalg.norm(v1, axis=-1, keepdims=True)
    half = np.arctan2(np.linalg.norm(u0 - u1, axis=-1), np.linalg.norm(u0 + u1, axis=-1))
    return np.asarray(np.degrees(2.0 * half), np.float64)


def rotation_angle_deg(rotation: Array) -> Float64:
    """Angle of rotation matrices (..., 3, 3), degrees in [0, 180]; exact near 0 and 180."""
    # |R - I| (Frobenius) = 2 sqrt(2) sin(angle / 2), and trace(R) + 1 = 4 cos(angle / 2) ** 2
    sine = np.linalg.norm(rotation - np.eye(3), axis=(-2, -1)) / np.sqrt(8.0)
    cosine = np.sqrt(np.maximum(np.trace(rotation, axis1=-2, axis2=-1) + 1.0, 0.0)) / 2.0
    return np.asarray(np.degrees(2.0 * np.arctan2(sine, cosine)), np.float64)


def pose_error_deg(cam1_from_cam0: Array, truth: Array) -> tuple[float, float]:
    """(rotation, translation) error of a relative pose in degrees; the translation's angle is signed (0 to 180)."""
    rotation = float(rotation_angle_deg(cam1_from_cam0[:, :3] @ truth[:, :3].T))
    return rotation, float(angle_between_deg(cam1_from_cam0[:, 3], truth[:, 3]))


def epipolar_line_distance(points0: Array, points1: Array, F: Array) -> Float64:
    """Mean distance of both points of a match to their epipolar lines, px: (M,) for points0, points1 (M, 2), F (3, 3).

    What the eye sees in a picture of epipolar lines; infinite where a line vanishes.
    """
    x0, x1 = homogeneous(points0), homogeneous(points1)
    line1, line0 = x0 @ np.asarray(F).T, x1 @ np.asarray(F)  # (M, 3) each
    algebraic = np.abs(np.einsum("mi,mi->m", x1, line1))
    normal0, normal1 = (np.linalg.norm(line[:, :2], axis=1) for line in (line0, line1))
    with np.errstate(divide="ignore", invalid="ignore"):
        distance: Float64 = (algebraic / normal0 + algebraic / normal1) / 2
    return np.where((normal0 > 0) & (normal1 > 0), distance, np.inf)


def clip_line(line: Array, width: float, height: float) -> Float64 | None:
    """Ends (2, 2) px of the part of a line a x + b y + c = 0, given as (3,), inside an image; None outside."""
    a, b, c = np.asarray(line, np.float64)
    length = np.hypot(a, b)
    if not length > 0:
        return None
    foot, along = np.array([-a * c, -b * c]) / length**2, np.array([b, -a]) / length
    low, high = -np.inf, np.inf
    for start, step, end in zip(foot, along, (width, height), strict=True):
        if abs(step) < 1e-12:
            if not 0 <= start <= end:
                return None
            continue
        near, far = sorted(((0 - start) / step, (end - start) / step))
        low, high = max(low, near), min(high, far)
    return np.stack([foot + low * along, foot + high * along]) if low < high else None
