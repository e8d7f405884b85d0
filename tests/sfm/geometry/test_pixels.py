"""The convention of pixels, and the pixels of a matcher's network."""

import numpy as np
import pytest

from sfm.geometry import pixels as P
from sfm.types import Grid, MatcherTraits


def test_the_first_pixels_centre_is_half_a_pixel_from_the_corner():
    assert np.array_equal(P.corner_from_center(np.array([[0, 0], [3, 1]])), [[0.5, 0.5], [3.5, 1.5]])


def test_homogeneous_appends_a_one_whatever_the_shape():
    assert np.array_equal(P.homogeneous(np.array([[1, 2]])), [[1, 2, 1]])
    assert P.homogeneous(np.zeros((2, 5, 2))).shape == (2, 5, 3)


@pytest.mark.parametrize(
    ("grid", "scale"),
    [(None, 1.0), (Grid(12.8, 8.0, 80), 1.6), (Grid(8.0, 12.8, 80), 1.6), (Grid(14.0, 14.0, 60, 14), 1.0)],
)
def test_pixels_of_an_image_for_each_that_the_network_sees(grid, scale):
    assert P.reduction(grid) == pytest.approx(scale)


@pytest.mark.parametrize(("sigma", "error"), [(1.0, 6.0), (0.5, 3.0)])
def test_the_allowed_error_of_a_dense_matcher_is_in_its_deviations_on_the_coarser_image(sigma, error):
    grids = [Grid(16.0, 16.0, 40), Grid(24.0, 20.0, 30)]
    assert P.allowed_error(grids, MatcherTraits(sigma, dense=True), 2.0) == error


def test_the_allowed_error_of_sparse_matches_is_colmaps():
    assert P.allowed_error([None, None], MatcherTraits(), 2.0) == 4.0
    assert P.allowed_error([None, None], MatcherTraits(0.5), 2.0) == 2.0
