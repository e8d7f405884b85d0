"""Which lens the matches were seen through: a fisheye or not, and about how wide.

Fundamental matrices hold for straight lines. A fisheye lens bends them, so that of the matches of a pair only those in
the middle of the images fit, and whoever maps them with a polynomial of a pinhole camera gets a bent model. But its
pixels go with the angle from the axis, so with the right width an essential matrix of rays fits all of them. Essential
matrices of a few pairs are therefore estimated under several lenses of either kind, and counted. Pixels are COLMAP's
(sfm.types).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pycolmap

from sfm.geometry.fisheye import fisheye_camera, is_fisheye, rays_of
from sfm.types import CameraPrior, Float64, ImagePair, ImageRecord, Matches

FISHEYE_DEG = (100.0, 115.0, 130.0, 145.0, 160.0, 175.0, 190.0, 210.0)  # over the diagonal
PINHOLE = (0.4, 0.55, 0.75, 1.0, 1.4, 2.0)  # focal lengths over the longer side
MAX_PAIRS, PAIRS_OF_AN_IMAGE, ROWS, TRIALS = 10, 3, 400, 200
STRAIGHT = 0.95  # of the matches; where fundamental matrices fit so many, the lens is none
LESS = 0.5  # of the matches that no pinhole camera fits, a fisheye lens must leave no more
MORE = 0.03  # of all matches, that it must fit more
DEFAULT_DEG = 160.0

Items = Sequence[tuple[ImagePair, Matches]]


@dataclass(frozen=True, slots=True)
class LensEvidence:
    """Matches that fit, of num: under fundamental matrices or the best pinhole camera, and under the best fisheye lens.

    diagonal_deg: the width of the latter.
    """

    num: int
    pinhole: int
    fisheye: int
    diagonal_deg: float

    @property
    def is_fisheye(self) -> bool:
        """Whether a fisheye lens explains at least half of what a pinhole camera leaves."""
        left, still = self.num - self.pinhole, self.num - self.fisheye
        return still <= LESS * left and self.fisheye - self.pinhole >= MORE * self.num


def chosen_pairs(counts: Mapping[ImagePair, int], names: frozenset[str]) -> list[ImagePair]:
    """A few of the pairs between images of these names, of most matches, no image in many of them."""
    used, chosen = dict.fromkeys(names, 0), list[ImagePair]()
    for pair in sorted((p for p in counts if p.name0 in names and p.name1 in names), key=lambda p: (-counts[p], p)):
        if max(used[pair.name0], used[pair.name1]) < PAIRS_OF_AN_IMAGE and len(chosen) < MAX_PAIRS:
            used[pair.name0] += 1
            used[pair.name1] += 1
            chosen.append(pair)
    return chosen


def lens_evidence(items: Items, size: tuple[int, int], max_error: float, *, seed: int = 0) -> LensEvidence:
    """What the matches of pairs of one camera say. size: width, height px. max_error: px."""
    width, height = size
    options = pycolmap.RANSACOptions()
    options.max_error, options.random_seed = max_error, seed
    options.max_num_trials, options.min_num_trials, options.min_inlier_ratio = TRIALS, 50, 0.25
    points = [_best_points(matches) for _, matches in items]
    num = sum(len(xy0) for xy0, _ in points)
    straight = sum(_num_inliers(pycolmap.estimate_fundamental_matrix(*xy, options)) for xy in points)
    if straight >= STRAIGHT * num:
        return LensEvidence(num, straight, 0, DEFAULT_DEG)
    sides = [factor * max(size) for factor in PINHOLE]
    pinholes = [pycolmap.Camera.create_from_model_name(1, "SIMPLE_PINHOLE", f, width, height) for f in sides]
    bent = [_fitting(points, camera, options) for camera in pinholes]
    fisheye = fisheye_widths(items, size, max_error, seed=seed)
    best = max(fisheye, key=lambda deg: fisheye[deg])
    return LensEvidence(num, max(straight, *bent), fisheye[best], best)


def fisheye_widths(items: Items, size: tuple[int, int], max_error: float, *, seed: int = 0) -> dict[float, int]:
    """How many matches fit by the width of the lens, degrees over the diagonal."""
    options = pycolmap.RANSACOptions()
    options.max_error, options.random_seed = max_error, seed
    options.max_num_trials, options.min_num_trials, options.min_inlier_ratio = TRIALS, 50, 0.25
    points = [_best_points(matches) for _, matches in items]
    return {deg: _fitting(points, fisheye_camera(deg, *size), options) for deg in FISHEYE_DEG}


def _best_points(matches: Matches) -> tuple[Float64, Float64]:
    best = np.argsort(-matches.confidence, kind="stable")[:ROWS]
    return matches.points0[best].astype(np.float64), matches.points1[best].astype(np.float64)


def _num_inliers(fit: dict[str, object] | None) -> int:
    return 0 if fit is None else int(str(fit["num_inliers"]))


def _fitting(
    points: Sequence[tuple[Float64, Float64]], camera: pycolmap.Camera, options: pycolmap.RANSACOptions
) -> int:
    total = 0
    for xy0, xy1 in points:
        seen = np.isfinite(rays_of(camera, xy0)).all(1) & np.isfinite(rays_of(camera, xy1)).all(1)
        if seen.sum() >= 8:
            total += _num_inliers(pycolmap.estimate_essential_matrix(xy0[seen], xy1[seen], camera, camera, options))
    return total


def fisheye_prior(record: ImageRecord, diagonal_deg: float) -> CameraPrior:
    """The camera of an image as a fisheye lens of this width, in its own model or OPENCV_FISHEYE."""
    own = record.camera
    model = own.model if is_fisheye(own.model) else "OPENCV_FISHEYE"
    focal = fisheye_camera(diagonal_deg, record.width, record.height).mean_focal_length()
    camera = pycolmap.Camera.create_from_model_name(1, model, focal, record.width, record.height)
    return CameraPrior(model, camera.params, True, own.group)
