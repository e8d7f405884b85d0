"""Epipolar geometry: essential and fundamental matrices, distances to epipolar lines, and lines inside an image.

Pixels are COLMAP's: origin at the corner of the image, the centre of the first pixel at (0.5, 0.5).
A pose is a (3, 4) matrix [R | t] named target_from_source. Formulas: Hartley and Zisserman,
Multiple View Geometry, 2nd edition, chapters 9 and 11.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sfm.geometry.pixels import homogeneous
from sfm.types import Float64

Array = NDArray[np.floating]


def cross_matrix(v: Array) -> Float64:
    """(3, 3) matrix [v]x with [v]x w = v × w."""
    x, y, z = np.asarray(v, np.float64)
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def essential_matrix(cam1_from_cam0: Array) -> Float64:
    """E (3, 3) with x1ᵀ E x0 = 0 for normalised image points."""
    return cross_matrix(cam1_from_cam0[:, 3]) @ np.asarray(cam1_from_cam0[:, :3], np.float64)


def fundamental_matrix(K0: Array, K1: Array, cam1_from_cam0: Array) -> Float64:
    """F (3, 3) with p1ᵀ F p0 = 0 for pixels of two cameras with calibration matrices K0, K1 (3, 3)."""
    F: Float64 = np.linalg.inv(K1).T @ essential_matrix(cam1_from_cam0) @ np.linalg.inv(K0)
    return F


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


def ray_epipolar_distance(rays0: Array, rays1: Array, E: Array) -> Float64:
    """The same for unit rays (M, 3) and an essential matrix E (3, 3), radians: (M,); infinite where a ray is NaN.

    What a fisheye lens sees to the side is far out in the plane of a pinhole camera, where pixels mean nothing.
    """
    line1, line0 = rays0 @ np.asarray(E).T, rays1 @ np.asarray(E)
    algebraic = np.abs(np.einsum("mi,mi->m", rays1, line1))
    across = [
        (line**2).sum(1) - np.einsum("mi,mi->m", line, rays) ** 2 for line, rays in ((line1, rays1), (line0, rays0))
    ]
    gradient = np.sqrt(np.maximum(across[0], 0) + np.maximum(across[1], 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.asarray(algebraic / gradient)
    return np.where(np.isfinite(distance), distance, np.inf)


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
