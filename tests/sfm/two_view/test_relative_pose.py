"""relative_pose: the spread of a pose is what it says, and large where nothing determines the pose."""

import numpy as np
import pytest

from sfm.geometry.poses import pose_error_deg
from sfm.two_view.api import MAX_SPREAD_DEG, two_view
from sfm.two_view.relative_pose import pose_spread_deg
from sfm.types import Matches
from tests.support.pair_scene import HEIGHT, POSE, WIDTH, record, two_views

IMAGES = record("a"), record("b")


def result_of(num, seed, *, width=WIDTH):
    """Of matches in the middle of image 0, so wide and high."""
    matches, _ = two_views(num=num, share_false=0.1, seed=seed)
    rows = np.flatnonzero((np.abs(matches.points0 - [WIDTH / 2, HEIGHT / 2]) <= width / 2).all(axis=1))
    columns = (matches.points0, matches.points1, matches.confidence, matches.cells0, matches.cells1)
    return two_view(Matches(*(column[rows] for column in columns)), IMAGES, max_error=3.0)


@pytest.mark.slow
@pytest.mark.parametrize("num", [120, 600])
def test_the_spread_is_the_error(num):
    """Root mean square over scenes, of the spread and of the true error."""
    results = [result_of(num, seed) for seed in range(8)]
    errors = [max(pose_error_deg(result.cam1_from_cam0, POSE)) for result in results]
    spreads = [result.pose_spread_deg for result in results]
    said, true = (float(np.sqrt(np.mean(np.square(values)))) for values in (spreads, errors))
    assert true / 2 < said < 3 * true


def test_matches_of_a_small_part_do_not_determine_a_pose():
    results = [result_of(8000, seed, width=60) for seed in range(3)]
    assert all(result.pose_spread_deg > MAX_SPREAD_DEG for result in results)
    assert not any(result.trusted for result in results)
    assert all(any("not determined well" in remark for remark in result.remarks) for result in results)


def test_a_pose_that_its_matches_do_not_have_spreads():
    """Right matches, another pose: it is far off whatever half is taken."""
    matches, num_true = two_views(share_false=0.0)
    other = np.column_stack([POSE[:, :3], [0.0, 1.0, 0.0]])
    every = np.ones(num_true, bool)
    assert pose_spread_deg(matches, every, IMAGES, POSE, 1.5) < 1
    assert pose_spread_deg(matches, every, IMAGES, other, 1.5) == pytest.approx(84.4, abs=2)
    assert pose_spread_deg(matches, ~every, IMAGES, POSE, 1.5) == 90


def test_an_unknown_focal_length_has_no_spread():
    matches, _ = two_views(share_false=0.1, pose=np.c_[np.eye(3), [1, 0, 0]])
    result = two_view(matches, (record("a", False), record("b", False)), max_error=2.0)
    assert result.pose_spread_deg is None


@pytest.mark.parametrize(("share_false", "trusted"), [(0.1, True), (0.5, False)])
def test_a_network_that_is_sure_of_what_does_not_fit_is_not_trusted(share_false, trusted):
    matches, _ = two_views(share_false=share_false)
    result = two_view(matches, IMAGES, max_error=3.0, dense=True)
    assert result.trusted == trusted
    assert two_view(matches, IMAGES, max_error=3.0).trusted  # of a detector, whose confidence says nothing
