"""Fisheye lenses: rays of their pixels, and the two-view geometry of a pair of images seen through them.

Pixels of a fisheye lens go with the angle from its axis. A fundamental matrix does not hold for them, and the plane of
a pinhole camera ends at 90 degrees; so epipolar geometry is of unit rays, and distances are angles, in px at the middle
of the image. Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

import numpy as np
import pycolmap
from numpy.typing import NDArray

from sfm.geometry.epipolar import essential_matrix, ray_epipolar_distance
from sfm.geometry.evidence import CHANCE_SAMPLES, Blocks, log_false_alarms, weighed
from sfm.geometry.two_view import (
    CANDIDATE_FACTOR,
    REJECTED,
    SCREEN_ROWS,
    SCREEN_TRIALS,
    Cameras,
    estimate_geometry,
    lo_ransac,
    rejected,
    two_view_options,
    unit_pose,
)
from sfm.options import VerificationOptions
from sfm.types import Float64, ImagePair, Int64, Matches, TwoViewGeometry


def is_fisheye(model: str) -> bool:
    """Whether a COLMAP camera model is of a fisheye lens."""
    return "FISHEYE" in model


def fisheye_camera(diagonal_deg: float, width: int, height: int) -> pycolmap.Camera:
    """An equidistant fisheye lens that sees so many degrees over the diagonal."""
    focal = float(np.hypot(width, height) / np.radians(diagonal_deg))
    return pycolmap.Camera(model="SIMPLE_FISHEYE", width=width, height=height, params=[focal, width / 2, height / 2])


def rays_of(camera: pycolmap.Camera, xy: NDArray[np.floating]) -> Float64:
    """Unit rays (N, 3) in the camera of pixels (N, 2); NaN where the camera sees none, or COLMAP cannot tell it.

    COLMAP's fisheye models end at 90 degrees from the axis; its solver gives another ray there.
    """
    xy = np.ascontiguousarray(xy, np.float64).reshape(-1, 2)
    rays = np.asarray(camera.cam_ray_from_img(xy), np.float64).reshape(-1, 3)
    with np.errstate(invalid="ignore"):
        back = np.asarray(camera.img_from_cam(rays), np.float64).reshape(-1, 2)
        lost = ~(np.abs(back - xy).max(axis=1, initial=0.0) <= 0.5)
    return np.where(lost[:, None], np.nan, rays / np.linalg.norm(rays, axis=1, keepdims=True))


def verify_fisheye_pair(
    pair: ImagePair,
    matches: Matches,
    cameras: Cameras,
    options: VerificationOptions,
    *,
    max_error: float,
    blocks: Blocks | None = None,
    seed: int = 0,
) -> TwoViewGeometry:
    """As verify_pair (sfm.geometry.two_view), where at least one of the cameras is a fisheye lens of about known width.

    The screen is an essential matrix of rays. The result has no F: there is none.
    """
    if len(matches) < options.min_inliers:
        return rejected(pair, "few matches")
    rows, probability = _screen(matches, cameras, max_error, seed)
    if len(rows) < options.min_inliers:
        return rejected(pair, "chance")
    geometry, inliers, kind = estimate_geometry(matches, rows, cameras, two_view_options(options, max_error, seed))
    pose = unit_pose(geometry.cam2_from_cam1)
    if kind in REJECTED or len(inliers) < options.min_inliers:
        return rejected(pair, "no geometry")
    reason = ""
    if blocks is not None:
        is_kept, reason = weighed(matches, inliers, probability, blocks, options.min_inlier_ratio)
        if not is_kept:
            return rejected(pair, reason)
    return TwoViewGeometry(pair, inliers.astype(np.uint32), kind, pose, reason=reason)


def _screen(matches: Matches, cameras: Cameras, max_error: float, seed: int) -> tuple[Int64, float]:
    """Candidate rows, ascending: near the essential matrix of the most confident ones; empty if only by chance. And the
    probability that a wrong match fits it."""
    rays0, rays1 = rays_of(cameras[0], matches.points0), rays_of(cameras[1], matches.points1)
    seen = np.flatnonzero(np.isfinite(rays0).all(1) & np.isfinite(rays1).all(1))
    best = seen[np.argsort(-matches.confidence[seen], kind="stable")[:SCREEN_ROWS]]
    points0, points1 = (points[best].astype(np.float64) for points in (matches.points0, matches.points1))
    ransac = lo_ransac(max_error, seed, max_num_trials=SCREEN_TRIALS, min_inlier_ratio=0.25)
    fit = pycolmap.estimate_essential_matrix(points0, points1, *cameras, ransac) if len(best) >= 8 else None
    if fit is None:
        return np.zeros(0, np.int64), 1.0
    motion = np.asarray(fit["cam2_from_cam1"].matrix())
    E = essential_matrix(motion)
    focal = (cameras[0].mean_focal_length() + cameras[1].mean_focal_length()) / 2
    near = focal * ray_epipolar_distance(rays0, rays1, E)
    rng = np.random.default_rng(0)
    permuted = np.concatenate([rng.permutation(seen) for _ in range(max(1, CHANCE_SAMPLES // len(seen)))])
    there = np.resize(seen, len(permuted))
    chance = (np.count_nonzero(focal * ray_epipolar_distance(rays0[there], rays1[permuted], E) <= max_error) + 1) / (
        len(permuted) + 1
    )
    num_inliers = int(np.count_nonzero(near <= max_error))
    if log_false_alarms(num_inliers, len(seen), chance) >= 0:
        return np.zeros(0, np.int64), chance
    return np.flatnonzero(near <= CANDIDATE_FACTOR * max_error), chance
