"""The relative pose of two images refined on its inliers, by a threshold that follows how exact these are.

A robust estimate counts as inliers what its threshold lets in. Where most matches are ten times as exact as that, the
others, which are off by nearly as much as is allowed, have most of the say. So the threshold is lowered round by round
to what the residuals of the inliers themselves speak for (their median, as a standard deviation: Huber, Robust
Statistics, section 5.1), until it settles. Matches that are no better than the threshold stay as they are.
"""

from __future__ import annotations

import numpy as np
import pycolmap

from sfm.geometry.epipolar import essential_matrix, ray_epipolar_distance
from sfm.geometry.fisheye import rays_of
from sfm.geometry.two_view import Cameras
from sfm.types import Float64

ROUNDS = 5
FEWEST = 12  # inliers
SIGMAS = 3.0  # standard deviations that an inlier may be off; at 2.5 normally distributed residuals lose 6 %
SIGMA_OF_MEDIAN = 1.4826  # of the absolute residuals of a normal distribution
SETTLED = 0.95  # of the threshold before


def refine_pose(
    cam1_from_cam0: pycolmap.Rigid3d, cameras: Cameras, points0: Float64, points1: Float64, *, max_error: float
) -> pycolmap.Rigid3d:
    """The pose that the most exact of the matches agree on; as it is where fewer than FEWEST fit it.

    points0, points1: (M, 2) px, wrong ones among them. max_error: px of an inlier's distance to its epipolar lines.
    """
    camera0, camera1 = cameras
    rays0, rays1 = rays_of(camera0, points0), rays_of(camera1, points1)
    focal = (camera0.mean_focal_length() + camera1.mean_focal_length()) / 2

    def distances(pose: pycolmap.Rigid3d) -> Float64:
        return focal * ray_epipolar_distance(rays0, rays1, essential_matrix(pose.matrix()))

    pose, threshold, off = cam1_from_cam0, max_error, distances(cam1_from_cam0)
    for _ in range(ROUNDS):
        inliers = off <= threshold
        if np.count_nonzero(inliers) < FEWEST:
            break
        found = pycolmap.refine_relative_pose(pose, camera0, points0, camera1, points1, inliers)
        if found is None:
            break
        pose = found["cam2_from_cam1"]
        off = distances(pose)
        lower = SIGMAS * SIGMA_OF_MEDIAN * float(np.median(off[inliers]))
        if lower > SETTLED * threshold:
            break
        threshold = lower
    return pose
