"""Two-view geometry of one pair of images, from all of its raw sub-pixel matches.

Two steps, both by pycolmap's LO-RANSAC with fixed seeds:

1. A screen: a fundamental matrix from the most confident matches only, then every row near it is a
   candidate. A pair with no more of them than expected by chance is left out at once (a pair of
   images without overlap, which would cost plain RANSAC all its trials).
2. COLMAP's own estimation (essential, fundamental and homography, and which of them explains the
   pair) on the candidates, of which most are right, so that it ends after few trials. Where that
   says planar, or pure rotation, the fundamental matrix of the screen meant little: then all rows.

Random agreement is assessed a contrario (Moisan and Stival, IJCV 2004): the expected number of fundamental
matrices that fit k of n random matches within the same error must be below one. Semi-dense
matches come in thousands, where COLMAP's fixed minimum of 15 inliers is reached by noise alone.
"""

from __future__ import annotations

from math import lgamma, log

import numpy as np
import pycolmap

from sfm.geometry.epipolar import epipolar_distance
from sfm.options import VerificationOptions
from sfm.types import Float64, ImagePair, Int64, Matches, TwoViewGeometry

SCREEN_ROWS = 500  # most confident matches that the screen samples from
SCREEN_TRIALS = 1000
CHANCE_SAMPLES = 5000
CANDIDATE_FACTOR = 3.0  # candidates of step 2: within this multiple of the allowed error
Cameras = tuple[pycolmap.Camera, pycolmap.Camera]
REJECTED = ("undefined", "degenerate", "watermark")


def log_false_alarms(num_inliers: int, num_matches: int, probability: float) -> float:
    """Natural log of the a-contrario number of false alarms of a fundamental matrix (7 points, 3 solutions).

    probability: that a random match fits a given fundamental matrix. Meaningful where negative.
    """
    if num_inliers <= 7:
        return float("inf")

    def log_choose(n: int, k: int) -> float:
        return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)

    models = log(3.0) + log(max(num_matches - 7, 1)) + log_choose(num_matches, num_inliers) + log_choose(num_inliers, 7)
    return models + (num_inliers - 7) * log(min(probability, 1.0))


def chance(matches: Matches, F: Float64, max_error: float) -> float:
    """Probability that a wrong match fits F: the share that does when the points of image 1 are randomly permuted.

    Measured on the matches' own points, not assumed uniform: an object in front of a blank wall
    has all of its points within a few epipolar lines.
    """
    num = len(matches)
    rng = np.random.default_rng(0)
    rounds = max(1, CHANCE_SAMPLES // num)
    permuted = np.concatenate([rng.permutation(num) for _ in range(rounds)])
    distance = epipolar_distance(np.tile(matches.points0, (rounds, 1)), matches.points1[permuted], F)
    return float((np.count_nonzero(distance <= max_error) + 1) / (len(permuted) + 1))


def is_meaningful(matches: Matches, inliers: Int64, F: Float64, max_error: float) -> bool:
    """Whether the inlier rows of F are more than chance would give. Rows of the same two cells count once."""
    distinct = _num_distinct(matches, np.arange(len(matches)))
    return log_false_alarms(_num_distinct(matches, inliers), distinct, chance(matches, F, max_error)) < 0


def _num_distinct(matches: Matches, rows: Int64) -> int:
    if len(rows) == 0 or matches.cells0[0] < 0 or matches.cells1[0] < 0:
        return len(rows)
    key = (matches.cells0[rows] << 32) | matches.cells1[rows]
    return len(np.unique(key))


def _ransac(max_error: float, seed: int, *, max_num_trials: int, min_inlier_ratio: float) -> pycolmap.RANSACOptions:
    options = pycolmap.TwoViewGeometryOptions().ransac
    options.max_error = max_error
    options.random_seed = seed
    options.max_num_trials = max_num_trials
    options.min_inlier_ratio = min_inlier_ratio
    return options


def screen(matches: Matches, max_error: float, seed: int) -> Int64:
    """Candidate rows, ascending: near the fundamental matrix of the most confident ones; empty if only by chance."""
    best = np.argsort(-matches.confidence, kind="stable")[:SCREEN_ROWS]
    ransac = _ransac(max_error, seed, max_num_trials=SCREEN_TRIALS, min_inlier_ratio=0.25)
    points0, points1 = matches.points0.astype(np.float64), matches.points1.astype(np.float64)
    fit = pycolmap.estimate_fundamental_matrix(points0[best], points1[best], ransac)
    if fit is None:
        return np.zeros(0, np.int64)
    distance = epipolar_distance(points0, points1, fit["F"])
    if not is_meaningful(matches, np.flatnonzero(distance <= max_error), fit["F"], max_error):
        return np.zeros(0, np.int64)
    return np.flatnonzero(distance <= CANDIDATE_FACTOR * max_error)


def _estimate(
    matches: Matches, rows: Int64, cameras: Cameras, options: pycolmap.TwoViewGeometryOptions
) -> tuple[pycolmap.TwoViewGeometry, Int64, str]:
    """COLMAP's geometry of the rows, the inliers among them (ascending) and its kind in lower case."""
    camera0, camera1 = cameras
    identity = np.repeat(np.arange(len(rows), dtype=np.uint32)[:, None], 2, axis=1)
    points0, points1 = matches.points0[rows].astype(np.float64), matches.points1[rows].astype(np.float64)
    geometry = pycolmap.estimate_two_view_geometry(camera0, points0, camera1, points1, identity, options)
    kind = pycolmap.TwoViewGeometryConfiguration(geometry.config).name.lower()
    return geometry, np.sort(rows[geometry.inlier_matches[:, 0]]), kind


def verify_pair(
    pair: ImagePair,
    matches: Matches,
    cameras: Cameras,
    options: VerificationOptions,
    *,
    max_error: float,
    min_ratio: float = 0.0,
    seed: int = 0,
) -> TwoViewGeometry:
    """Verified geometry of one pair; kind "degenerate" and no inliers where there is none to be trusted.

    cameras: of both images. max_error: px of the images. min_ratio: least share of the rows that must be inliers.
    """
    nothing = TwoViewGeometry(pair, np.zeros(0, np.uint32), "degenerate")
    if len(matches) < options.min_inliers:
        return nothing
    rows = screen(matches, max_error, seed)
    if len(rows) < options.min_inliers:
        return nothing
    two_view = pycolmap.TwoViewGeometryOptions()
    two_view.min_num_inliers = options.min_inliers
    two_view.compute_relative_pose = True
    two_view.ransac = _ransac(max_error, seed, max_num_trials=3000, min_inlier_ratio=0.5)
    geometry, inliers, kind = _estimate(matches, rows, cameras, two_view)
    if kind in REJECTED:
        return nothing
    if kind not in ("calibrated", "uncalibrated"):
        two_view.ransac = _ransac(max_error, seed, max_num_trials=3000, min_inlier_ratio=0.25)
        geometry, inliers, kind = _estimate(matches, np.arange(len(matches)), cameras, two_view)
    elif geometry.F is not None and not is_meaningful(matches, inliers, geometry.F, max_error):
        return nothing
    if kind in REJECTED or len(inliers) < min_ratio * len(matches):
        return nothing
    return TwoViewGeometry(pair, inliers.astype(np.uint32), kind, unit_pose(geometry.cam2_from_cam1), geometry.F)


def unit_pose(cam1_from_cam0: pycolmap.Rigid3d | None) -> Float64 | None:
    """(3, 4) with a translation of unit length (zero for a pure rotation), where COLMAP found one."""
    if cam1_from_cam0 is None:
        return None
    pose: Float64 = np.array(cam1_from_cam0.matrix())
    length = np.linalg.norm(pose[:, 3])
    if length > 0:
        pose[:, 3] /= length
    return pose if np.isfinite(pose).all() else None
