"""Relative poses and angles, against pycolmap and scipy."""

import numpy as np
import pycolmap
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sfm.geometry import poses as G

RNG = np.random.default_rng(3)


def random_pose(rng=RNG):
    return np.concatenate([Rotation.random(random_state=rng.integers(1 << 30)).as_matrix(), rng.normal(size=(3, 1))], 1)


def test_relative_pose_equals_pycolmap():
    pose0, pose1 = random_pose(), random_pose()
    expected = pycolmap.Rigid3d(pose1) * pycolmap.Rigid3d(pose0).inverse()
    np.testing.assert_allclose(G.relative_pose(pose0, pose1), expected.matrix(), atol=1e-12)


@given(st.floats(0.0, 180.0), st.integers(0, 1000))
def test_rotation_angle_is_that_of_the_axis_angle(angle, seed):
    axis = np.random.default_rng(seed).normal(size=3)
    axis /= np.linalg.norm(axis)
    R = Rotation.from_rotvec(axis * np.radians(angle)).as_matrix()
    assert G.rotation_angle_deg(R) == pytest.approx(angle, abs=3e-6)  # the trace is rounded


def test_angles_near_zero_and_opposite_keep_their_digits():
    v = np.array([0.0, 0.0, 1.0])
    assert G.angle_between_deg(v, np.array([1e-9, 0, 1.0])) == pytest.approx(np.degrees(1e-9), rel=1e-6)
    assert G.angle_between_deg(v, -2 * v) == pytest.approx(180.0)


def test_pose_error_counts_a_flipped_baseline_as_wrong():
    pose = random_pose()
    flipped = pose * [1, 1, 1, -1]
    rotation, translation = G.pose_error_deg(flipped, pose)
    assert rotation == pytest.approx(0.0, abs=1e-6)
    assert translation == pytest.approx(180.0)
