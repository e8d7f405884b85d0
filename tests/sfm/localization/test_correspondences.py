"""Observations carried from an image of the model to a new one."""

import numpy as np
import pytest

from sfm.localization.correspondences import Correspondences, Observed, lifted, merged

RNG = np.random.default_rng(0)
A = np.array([[1.3, 0.4], [-0.2, 0.8]])


def grid(step=8):
    return np.stack(np.meshgrid(np.arange(4, 320, step), np.arange(4, 240, step)), -1).reshape(-1, 2).astype(float)


def test_an_affine_map_is_followed_exactly():
    """Observations lie between matches, whose map is not a shift."""
    centres = grid()
    observed = Observed(RNG.uniform(20, 220, (50, 2)), np.arange(50))
    found = lifted(observed, centres, centres @ A.T + 7, np.full(len(centres), 0.9), reach=6)
    assert len(found) == 50
    np.testing.assert_allclose(found.xy, observed.xy @ A.T + 7, atol=0.25)
    np.testing.assert_array_equal(found.point, np.arange(50))


def test_wrong_matches_among_the_neighbours_do_not_bend_the_map():
    centres = grid()
    shift = np.array([3.0, -2.0])
    target = centres + shift
    wrong = RNG.uniform(size=len(centres)) < 0.15
    target[wrong] = RNG.uniform(0, 240, (wrong.sum(), 2))
    observed = Observed(centres[~wrong][::7] + 2.0, np.arange(len(centres[~wrong][::7])))
    found = lifted(observed, centres, target, np.ones(len(centres)), reach=6)
    error = np.linalg.norm(found.xy - (observed.xy[found.point] + shift), axis=1)
    assert np.quantile(error, 0.9) < 0.1


def test_what_no_match_is_near_is_left_out():
    centres = grid()[grid()[:, 0] < 100]
    observed = Observed(np.array([[50.0, 50.0], [200.0, 50.0]]), np.array([7, 8]))
    assert lifted(observed, centres, centres, np.ones(len(centres)), reach=6).point.tolist() == [7]
    assert len(lifted(observed, centres[:3], centres[:3], np.ones(3), reach=6)) == 0


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_of_several_pixels_of_one_point_the_agreed_one_is_kept(order):
    parts = [
        Correspondences(np.array([[10.0, 10.0], [1.0, 2.0]]), np.array([5, 9]), np.array([0.5, 0.3])),
        Correspondences(np.array([[10.5, 10.0]]), np.array([5]), np.array([0.6])),
        Correspondences(np.array([[90.0, 40.0]]), np.array([5]), np.array([0.7])),
    ]
    found = merged([parts[i] for i in order])
    assert found.point.tolist() == [5, 9]
    np.testing.assert_array_equal(found.xy, [[10.5, 10.0], [1.0, 2.0]])
