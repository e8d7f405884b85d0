"""The relative pose of two images from the inliers of their geometry, its parallax, and how well it is determined."""

from __future__ import annotations

import numpy as np
import pycolmap
from numpy.typing import NDArray

from sfm.colmap.camera import prior_camera
from sfm.geometry.evidence import Blocks, least_explained
from sfm.geometry.pixels import homogeneous
from sfm.geometry.pose_refinement import refine_pose
from sfm.geometry.poses import angle_between_deg, rotation_angle_deg
from sfm.geometry.two_view import unit_pose
from sfm.types import Float64, ImageRecord, Matches, TwoViewGeometry

Records = tuple[ImageRecord, ImageRecord]

FLAT_KINDS = ("planar", "panoramic", "planar_or_panoramic")
HALVES = 8  # of the matches, that a pose is estimated from again
REGIONS = 10  # along the longer side of image 0: matches of one region are kept or left out together
BLOCKS = 20  # along the longer side of an image, within which a network's wrong matches go together
TRIALS = 1000
NO_POSE_DEG = 90.0  # what a half without a pose counts as, and the most that one counts


def estimate_pose(
    geometry: TwoViewGeometry, matches: Matches, images: Records, max_error: float, seed: int
) -> Float64 | None:
    """cam1_from_cam0 of the geometry's inliers. Where both focal lengths are known and the scene is not flat it is
    re-estimated with a stricter threshold and refined (sfm.geometry.pose_refinement)."""
    known = all(image.camera.has_focal_prior for image in images)
    if geometry.cam1_from_cam0 is None or not known or geometry.kind in FLAT_KINDS:
        return geometry.cam1_from_cam0
    rows = geometry.inliers
    points0, points1 = matches.points0[rows].astype(np.float64), matches.points1[rows].astype(np.float64)
    cameras = prior_camera(images[0]), prior_camera(images[1])
    ransac = pycolmap.RANSACOptions(max_error=max_error, random_seed=seed, max_num_trials=5000)
    found = pycolmap.estimate_relative_pose(cameras[0], points0, cameras[1], points1, ransac)
    if found is None or found["num_inliers"] < 8:
        return geometry.cam1_from_cam0
    pose = unit_pose(refine_pose(found["cam2_from_cam1"], cameras, points0, points1, max_error=max_error))
    return pose if pose is not None else geometry.cam1_from_cam0


def parallax_deg(matches: Matches, inliers: NDArray[np.bool_], images: Records, pose: Float64) -> float | None:
    """Median angle between the two rays of an inlier, degrees; None without inliers."""
    if not inliers.any():
        return None
    points = (matches.points0[inliers], matches.points1[inliers])
    plane0, plane1 = (
        np.asarray(prior_camera(image).cam_from_img(xy.astype(np.float64)))
        for image, xy in zip(images, points, strict=True)
    )
    median = np.nanmedian(angle_between_deg(homogeneous(plane0) @ pose[:, :3].T, homogeneous(plane1)))
    return float(median) if np.isfinite(median) else None


def pose_spread_deg(
    matches: Matches, inliers: NDArray[np.bool_], images: Records, pose: Float64, max_error: float, *, seed: int = 0
) -> float:
    """Standard deviation of a pose, degrees, the larger one of rotation and direction; 90 where nothing determines it.

    The pose is estimated again from random halves of the inliers, the delete-d jackknife with d = n / 2, whose spread
    is that of the estimate from all (Shao and Wu, A general theory for jackknife variance estimation, Annals of
    Statistics 1989). Matches of one region of image 0 go together, since a network's errors do. max_error: px.
    """
    rows = np.flatnonzero(inliers)
    side = max(images[0].width, images[0].height) / REGIONS
    places = np.floor(matches.points0[rows] / side).astype(np.int64)
    regions = np.unique(places, axis=0, return_inverse=True)[1].reshape(-1)
    num_regions = int(regions.max(initial=-1)) + 1
    cameras = [prior_camera(image) for image in images]
    rng = np.random.default_rng(seed)
    off = []
    for number in range(HALVES):
        kept = rng.permutation(num_regions) < num_regions / 2
        half = rows[kept[regions]]
        points0, points1 = matches.points0[half].astype(np.float64), matches.points1[half].astype(np.float64)
        ransac = pycolmap.RANSACOptions(max_error=max_error, random_seed=seed + number, max_num_trials=TRIALS)
        found = None
        if len(half) >= 8:
            found = pycolmap.estimate_relative_pose(cameras[0], points0, cameras[1], points1, ransac)
        again = unit_pose(found["cam2_from_cam1"]) if found is not None else None
        off.append(NO_POSE_DEG if again is None else min(_apart_deg(again, pose), NO_POSE_DEG))
    return float(np.sqrt(np.mean(np.square(off))))


def explained(matches: Matches, inliers: NDArray[np.bool_], images: Records) -> float:
    """Lower end of the share of a network's matches that are inliers, each counted by its confidence, 0 to 1."""
    side0, side1 = (max(image.width, image.height) / BLOCKS for image in images)
    num = int(Blocks(((side0, side0), (side1, side1))).numbers(matches).max(initial=-1)) + 1
    return least_explained(matches.confidence.astype(np.float64), inliers, num)


def _apart_deg(first: Float64, second: Float64) -> float:
    """The larger one of the angles between two poses' rotations and directions."""
    rotation = float(rotation_angle_deg(first[:, :3] @ second[:, :3].T))
    if not (first[:, 3].any() and second[:, 3].any()):
        return max(rotation, NO_POSE_DEG)
    return max(rotation, float(angle_between_deg(first[:, 3], second[:, 3])))
