"""What mapping reads of matchers side by side: the coarsest one's thresholds, and how exact each keypoint is."""

from dataclasses import replace

import numpy as np
import pytest

from sfm.finders import Finder
from sfm.mapping.inputs import DENSE_FILTER, FILTER
from sfm.types import Grid, Keypoints, MatcherTraits

SPARSE = MatcherTraits()


def of_two(data, traits=SPARSE, grids=None):
    """The data with a second matcher, which found every other keypoint; the first sees a quarter of each side."""
    keypoints = tuple(Keypoints(own.xy, own.score, np.arange(len(own)) % 2) for own in data.keypoints)
    names = [record.name for record in data.images]
    first = dict.fromkeys(names, Grid(32.0, 32.0, 20))
    second = Finder(grids or dict.fromkeys(names), traits)
    return replace(data, keypoints=keypoints, grids=first, traits=MatcherTraits(dense=True), beside=(second,))


@pytest.fixture(scope="module")
def data(mapping_data):
    return mapping_data


def test_of_one_matcher_all_keypoints_are_alike(data):
    assert all((own == 1.0).all() for own in data.fineness.values())
    assert data.dense == data.traits.dense
    assert set(data.sigmas.values()) == {data.sigma}


def test_thresholds_are_the_coarsest_matchers_and_each_keypoint_has_its_own(data):
    two = of_two(data)
    assert two.sigma == 4.0
    assert set(two.sigmas.values()) == {4.0}
    assert two.filter_error == DENSE_FILTER * 4.0
    assert two.dense
    for own in two.fineness.values():
        np.testing.assert_array_equal(own, np.where(np.arange(len(own)) % 2, 0.25, 1.0))
    coarse = of_two(data, MatcherTraits(pixel_sigma=6.0, refinable=False))
    assert (coarse.sigma, coarse.filter_error, coarse.refinable) == (6.0, FILTER * 6.0, False)
