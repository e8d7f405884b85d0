"""Pixels: the convention, homogeneous coordinates, and the pixels of a matcher's network in pixels of the image.

Pixels are COLMAP's: origin at the corner of the image, the centre of the first pixel at (0.5, 0.5).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from sfm.types import Float64, Grid

DETECTOR_ERROR_PX = 4.0  # COLMAP's own allowed epipolar error, px of the image

Array = NDArray[np.floating]


def corner_from_center(xy: Array) -> Float64:
    """Pixels with the first pixel's centre at (0, 0), as OpenCV and most networks have them, to ours. (..., 2) px."""
    return np.asarray(xy, np.float64) + 0.5


def homogeneous(xy: Array) -> Float64:
    """(..., 2) to (..., 3) with a last coordinate of one."""
    xy = np.asarray(xy, np.float64)
    return np.concatenate([xy, np.ones((*xy.shape[:-1], 1))], axis=-1)


def reduction(grid: Grid | None) -> float:
    """Photo px per network px, from a matcher's coarse grid; 1 for a detector."""
    return 1.0 if grid is None else Grid(*grid).network_scale


def allowed_error(grids: Iterable[Grid | None], max_error: float) -> float:
    """Epipolar error of an inlier of a pair, px of the images. grids: of both images. max_error: network px.

    Of two images the coarser one's; COLMAP's own where a matcher has no grid.
    """
    both = tuple(grids)
    return DETECTOR_ERROR_PX if None in both else max_error * max(reduction(grid) for grid in both)
