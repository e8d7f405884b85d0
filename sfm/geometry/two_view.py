"""Two-view geometry of one pair of images, from all of its raw sub-pixel matches.

Two steps, both by pycolmap's LO-RANSAC with fixed seeds:

1. A screen: a fundamental matrix from the most confident matches only, then every row near it is a
   candidate. A pair with no more of them than expected by chance is left out at once (a pair of
   images without overlap, which would cost plain RANSAC all its trials).
2. COLMAP's own estimation (essential, fundamental and homography, and which of them explains the
   pair) on the candidates, of which most are right, so that it ends after few trials. Where that
   says planar, or pure rotation, the fundamental matrix of the screen meant little: then all rows.

Both steps are held against chance (sfm.geometry.evidence); a network's matches must be convincing in the end.
"""

from __future__ import annotations

import numpy as np
import pycolmap

from sfm.geometry.epipolar import epipolar_distance
from sfm.geometry.evidence import Blocks, chance, is_convincing, is_meaningful, weighed
from sfm.options import VerificationOptions
from sfm.types import Float64, ImagePair, Int64, Matches, TwoViewGeometry

SCREEN_ROWS = 500  # most confident matches that the screen samples from
SCREEN_TRIALS = 1000
SAMPLE = 8  # matches that determine F
FEW = 1500  # evenly spread candidates, which determine a geometry as well as several thousand do
CANDIDATE_FACTOR = 3.0  # candidates of step 2: within this multiple of the allowed error
Cameras = tuple[pycolmap.Camera, pycolmap.Camera]
REJECTED = ("undefined", "degenerate", "watermark")


def lo_ransac(max_error: float, seed: int, *, max_num_trials: int, min_inlier_ratio: float) -> pycolmap.RANSACOptions:
    """COLMAP's LO-RANSAC. max_error: px."""
    options = pycolmap.TwoViewGeometryOptions().ransac
    options.max_error = max_error
    options.random_seed = seed
    options.max_num_trials = max_num_trials
    options.min_inlier_ratio = min_inlier_ratio
    return options


def _of_most_confident(matches: Matches, max_error: float, seed: int) -> tuple[Float64, Float64] | None:
    """F of the most confident matches and the distance (M,) px of all to it; None where it fits no more than chance."""
    best = np.argsort(-matches.confidence, kind="stable")[:SCREEN_ROWS]
    ransac = lo_ransac(max_error, seed, max_num_trials=SCREEN_TRIALS, min_inlier_ratio=0.25)
    points0, points1 = matches.points0.astype(np.float64), matches.points1.astype(np.float64)
    fit = pycolmap.estimate_fundamental_matrix(points0[best], points1[best], ransac)
    if fit is None:
        return None
    distance = epipolar_distance(points0, points1, fit["F"])
    meaningful = is_meaningful(matches, np.flatnonzero(distance <= max_error), fit["F"], max_error)
    return (fit["F"], distance) if meaningful else None


def screen(matches: Matches, max_error: float, seed: int) -> Int64:
    """Candidate rows, ascending: near the fundamental matrix of the most confident ones; empty if only by chance."""
    found = _of_most_confident(matches, max_error, seed)
    return np.zeros(0, np.int64) if found is None else np.flatnonzero(found[1] <= CANDIDATE_FACTOR * max_error)


def shows_same_place(matches: Matches, max_error: float, blocks: Blocks, *, seed: int = 0) -> bool:
    """Whether a fundamental matrix explains the matches convincingly. max_error: px. blocks: of a network's matches."""
    if len(matches) < SAMPLE:
        return False
    found = _of_most_confident(matches, max_error, seed)
    if found is None:
        return False
    F, distance = found
    return is_convincing(matches, np.flatnonzero(distance <= max_error), chance(matches, F, max_error), blocks)


def estimate_geometry(
    matches: Matches, rows: Int64, cameras: Cameras, options: pycolmap.TwoViewGeometryOptions
) -> tuple[pycolmap.TwoViewGeometry, Int64, str]:
    """COLMAP's geometry of the rows, the inliers among them (ascending) and its kind in lower case."""
    camera0, camera1 = cameras
    identity = np.repeat(np.arange(len(rows), dtype=np.uint32)[:, None], 2, axis=1)
    points0, points1 = matches.points0[rows].astype(np.float64), matches.points1[rows].astype(np.float64)
    geometry = pycolmap.estimate_two_view_geometry(camera0, points0, camera1, points1, identity, options)
    kind = pycolmap.TwoViewGeometryConfiguration(geometry.config).name.lower()
    return geometry, np.sort(rows[geometry.inlier_matches[:, 0]]), kind


def rejected(pair: ImagePair, reason: str) -> TwoViewGeometry:
    """No geometry of a pair, and why (sfm.types.REJECTIONS)."""
    return TwoViewGeometry(pair, np.zeros(0, np.uint32), "degenerate", reason=reason)


def two_view_options(options: VerificationOptions, max_error: float, seed: int) -> pycolmap.TwoViewGeometryOptions:
    """COLMAP's options for candidates of which most are right, so that it ends after few trials. max_error: px."""
    two_view = pycolmap.TwoViewGeometryOptions()
    two_view.min_num_inliers = options.min_inliers
    two_view.compute_relative_pose = True
    two_view.ransac = lo_ransac(max_error, seed, max_num_trials=3000, min_inlier_ratio=0.5)
    return two_view


def verify_pair(
    pair: ImagePair,
    matches: Matches,
    cameras: Cameras,
    options: VerificationOptions,
    *,
    max_error: float,
    blocks: Blocks | None = None,
    seed: int = 0,
    of_many: bool = False,
) -> TwoViewGeometry:
    """Verified geometry of one pair; kind "degenerate", no inliers and a reason where there is none to be trusted.

    cameras: of both images. max_error: px of the images. blocks: of a network's matches, None for a detector's, whose
    wrong matches are independent. of_many: the geometry is estimated from FEW matches at most; a third of the time.
    A pair in doubt has its geometry, and "little evidence" as its reason.
    """

    if len(matches) < options.min_inliers:
        return rejected(pair, "few matches")
    rows = screen(matches, max_error, seed)
    if len(rows) < options.min_inliers:
        return rejected(pair, "chance")
    two_view = two_view_options(options, max_error, seed)
    some = rows[np.linspace(0, len(rows) - 1, FEW).astype(np.int64)] if of_many and len(rows) > FEW else rows
    geometry, inliers, kind = estimate_geometry(matches, some, cameras, two_view)
    if kind in REJECTED:
        return rejected(pair, "no geometry")
    if len(some) < len(rows) and geometry.F is not None:
        distance = epipolar_distance(matches.points0[rows], matches.points1[rows], geometry.F)
        inliers = rows[distance <= max_error]
    if kind not in ("calibrated", "uncalibrated"):
        two_view.ransac = lo_ransac(max_error, seed, max_num_trials=3000, min_inlier_ratio=0.25)
        geometry, inliers, kind = estimate_geometry(matches, np.arange(len(matches)), cameras, two_view)
    elif geometry.F is not None and not is_meaningful(matches, inliers, geometry.F, max_error):
        return rejected(pair, "chance")
    if kind in REJECTED:
        return rejected(pair, "no geometry")
    reason = ""
    if blocks is not None:
        probability = chance(matches, geometry.F, max_error) if geometry.F is not None else None
        is_kept, reason = weighed(matches, inliers, probability, blocks, options.min_inlier_ratio)
        if not is_kept:
            return rejected(pair, reason)
    pose = unit_pose(geometry.cam2_from_cam1)
    return TwoViewGeometry(pair, inliers.astype(np.uint32), kind, pose, geometry.F, reason)


def unit_pose(cam1_from_cam0: pycolmap.Rigid3d | None) -> Float64 | None:
    """(3, 4) with a translation of unit length (zero for a pure rotation), where COLMAP found one."""
    if cam1_from_cam0 is None:
        return None
    pose: Float64 = np.array(cam1_from_cam0.matrix())
    length = np.linalg.norm(pose[:, 3])
    if length > 0:
        pose[:, 3] /= length
    return pose if np.isfinite(pose).all() else None
