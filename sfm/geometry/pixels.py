"""Pixels: the convention, homogeneous coordinates, and the pixels of a matcher's network in pixels of the image.

Pixels are COLMAP's: origin at the corner of the image, the centre of the first pixel at (0.5, 0.5).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from sfm.types import Float64, Grid, MatcherTraits

SPARSE_ERROR = 4.0  # allowed epipolar error of sparse matches, in their standard deviations; COLMAP's 4 px for SIFT

Array = NDArray[np.floating]


def corner_from_center(xy: Array) -> Float64:
    """Pixels with the first pixel's centre at (0, 0), as OpenCV and most networks have them, to ours. (..., 2) px."""
    return np.asarray(xy, np.float64) + 0.5


def homogeneous(xy: Array) -> Float64:
    """(..., 2) to (..., 3) with a last coordinate of one."""
    xy = np.asarray(xy, np.float64)
    return np.concatenate([xy, np.ones((*xy.shape[:-1], 1))], axis=-1)


def reduction(grid: Grid | None) -> float:
    """Image px per px of the image that the matcher sees; 1 without a grid: it sees the image itself."""
    return 1.0 if grid is None else grid.network_scale


def allowed_error(grids: Iterable[Grid | None], traits: MatcherTraits, max_error: float) -> float:
    """Epipolar error of an inlier of a pair, px of the images; of two images the coarser one's.

    grids, traits: of the matcher on both images. max_error: of a dense matcher, in standard deviations of its matches.
    """
    return (max_error if traits.dense else SPARSE_ERROR) * traits.pixel_sigma * max(map(reduction, grids))
