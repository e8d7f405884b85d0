"""Camera poses: relative poses, and how far two of them are apart. A pose is a (3, 4) matrix target_from_source."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sfm.types import Float64

Array = NDArray[np.floating]


def relative_pose(cam0_from_world: Array, cam1_from_world: Array) -> Float64:
    """cam1_from_cam0 (3, 4) of two (3, 4) poses."""
    rotation = cam1_from_world[:, :3] @ cam0_from_world[:, :3].T
    translation = cam1_from_world[:, 3] - rotation @ cam0_from_world[:, 3]
    return np.concatenate([rotation, translation[:, None]], axis=1).astype(np.float64)


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


def pose_error_deg(cam1_from_cam0: Array, ground_truth: Array) -> tuple[float, float]:
    """(rotation, translation) error of a relative pose in degrees; the translation's angle is signed (0 to 180)."""
    rotation = float(rotation_angle_deg(cam1_from_cam0[:, :3] @ ground_truth[:, :3].T))
    return rotation, float(angle_between_deg(cam1_from_cam0[:, 3], ground_truth[:, 3]))


def cross_matrices(vectors: Float64) -> Float64:
    """(N, 3, 3) of vectors (N, 3): what multiplies a vector to their cross product with it."""
    zero = np.zeros(len(vectors))
    x, y, z = vectors.T
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)


def rotation_matrices(vectors: Float64) -> Float64:
    """(N, 3, 3) of rotation vectors (N, 3), Rodrigues."""
    angle = np.maximum(np.linalg.norm(vectors, axis=1), 1e-12)[:, None, None]
    K = cross_matrices(vectors)
    return np.asarray(np.eye(3) + np.sin(angle) / angle * K + (1 - np.cos(angle)) / angle**2 * (K @ K))
