"""How good camera poses and models are, measured against the truth.

Poses are cam_from_world, (3, 4) f64. Angles are in degrees. An error that cannot be measured
(an image without a pose, an estimator that failed) is infinite and stays in every statistic.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sfm.types import Float64


def rotation_angle_deg(rotation: Float64) -> float:
    """Angle of a (3, 3) rotation in degrees, 0..180. From both sine and cosine, so that it is exact at both ends."""
    x, y, z = rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]
    return float(np.degrees(np.arctan2(np.sqrt(x * x + y * y + z * z), rotation.trace() - 1)))


def angle_between_deg(a: Float64, b: Float64) -> float:
    """Angle between two (3,) vectors in degrees, 0..180; 180 where one of them is zero, for it points nowhere."""
    if not a.any() or not b.any():
        return 180.0
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))


def relative_pose(cam0_from_world: Float64, cam1_from_world: Float64) -> Float64:
    """cam1_from_cam0, (3, 4)."""
    rotation = cam1_from_world[:, :3] @ cam0_from_world[:, :3].T
    translation = cam1_from_world[:, 3] - rotation @ cam0_from_world[:, 3]
    return np.column_stack([rotation, translation])


def auc(errors: ArrayLike, threshold: float) -> float:
    """Area under the recall curve from error 0 to the threshold, divided by the threshold: 0..1.

    The curve joins (0, 0) and the points (k-th smallest error, k / number of errors) by straight lines and runs
    level from the last error below the threshold; its area is exact, not binned. errors: (P,), inf allowed. The
    measure of LoFTR (Sun et al., CVPR 2021) and of the benchmarks before it. No errors have an area of 0.
    """
    ordered = np.sort(np.asarray(errors, np.float64))
    if len(ordered) == 0:
        return 0.0
    below = ordered[ordered < threshold]
    recall = np.arange(len(below) + 1) / len(ordered)
    rising = np.diff(below, prepend=0.0) @ (recall[1:] + recall[:-1]) / 2
    level = (threshold - (below[-1] if len(below) else 0.0)) * recall[-1]
    return float((rising + level) / threshold)
