"""geometry: pixel conventions, epipolar geometry and angles, against pycolmap and OpenCV."""

import cv2
import numpy as np
import pycolmap
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sfm.geometry import epipolar as G
from sfm.types import Grid

RNG = np.random.default_rng(3)
K0 = np.array([[800.0, 0, 320], [0, 810, 240], [0, 0, 1]])
K1 = np.array([[700.0, 0, 300], [0, 705, 220], [0, 0, 1]])


def random_pose(rng=RNG):
    return np.concatenate([Rotation.random(random_state=rng.integers(1 << 30)).as_matrix(), rng.normal(size=(3, 1))], 1)


def test_conventions_are_half_a_pixel_apart_and_inverse():
    xy = RNG.uniform(0, 100, (5, 2))
    assert np.array_equal(G.corner_from_center(np.zeros((1, 2))), [[0.5, 0.5]])
    np.testing.assert_allclose(G.center_from_corner(G.corner_from_center(xy)), xy, atol=1e-12)


def test_relative_pose_equals_pycolmap():
    pose0, pose1 = random_pose(), random_pose()
    expected = pycolmap.Rigid3d(pose1) * pycolmap.Rigid3d(pose0).inverse()
    np.testing.assert_allclose(G.relative_pose(pose0, pose1), expected.matrix(), atol=1e-12)


def test_fundamental_matrix_holds_projections_and_distance_is_zero():
    pose = np.concatenate([Rotation.from_rotvec([0.1, -0.2, 0.05]).as_matrix(), [[0.5], [0.1], [0.2]]], 1)
    xyz = RNG.uniform([-1, -1, 4], [1, 1, 6], (50, 3))
    p0, p1 = xyz @ K0.T, (xyz @ pose[:, :3].T + pose[:, 3]) @ K1.T
    p0, p1 = p0[:, :2] / p0[:, 2:], p1[:, :2] / p1[:, 2:]
    F = G.fundamental_matrix(K0, K1, pose)
    assert G.epipolar_distance(p0, p1, F).max() < 1e-9
    assert np.median(G.epipolar_distance(p0, p1 + np.array([0, 8.0]), F)) == pytest.approx(8 / np.sqrt(2), rel=0.3)


def test_epipolar_distance_equals_opencv_sampson():
    F = RNG.normal(size=(3, 3))
    p0, p1 = RNG.uniform(0, 500, (20, 2)), RNG.uniform(0, 500, (20, 2))
    h0, h1 = G.homogeneous(p0), G.homogeneous(p1)
    expected = [cv2.sampsonDistance(a[:, None], b[:, None], F) for a, b in zip(h0, h1, strict=True)]
    np.testing.assert_allclose(G.epipolar_distance(p0, p1, F) ** 2, expected, rtol=1e-9)


def test_epipolar_distance_is_infinite_where_both_lines_vanish():
    assert np.isinf(G.epipolar_distance(np.ones((1, 2)), np.ones((1, 2)), np.zeros((3, 3)))).all()


def test_cross_matrix_is_the_cross_product():
    a, b = RNG.normal(size=(2, 3))
    np.testing.assert_allclose(G.cross_matrix(a) @ b, np.cross(a, b), atol=1e-12)


@given(st.floats(0.0, 180.0), st.integers(0, 1000))
def test_rotation_angle_is_that_of_the_axis_angle(angle, seed):
    axis = np.random.default_rng(seed).normal(size=3)
    axis /= np.linalg.norm(axis)
    R = Rotation.from_rotvec(axis * np.radians(angle)).as_matrix()
    assert G.rotation_angle_deg(R) == pytest.approx(angle, abs=1e-6)


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


def test_line_distance_equals_opencv():
    rng = np.random.default_rng(8)
    points0, points1 = rng.uniform(0, 640, (2, 50, 2))
    F = G.fundamental_matrix(K0, K1, random_pose(rng))
    total = np.zeros(50)
    for points, others, image in ((points0, points1, 1), (points1, points0, 2)):
        a, b, c = cv2.computeCorrespondEpilines(points[:, None], image, F)[:, 0].T
        total += np.abs(a * others[:, 0] + b * others[:, 1] + c) / np.hypot(a, b)
    np.testing.assert_allclose(G.epipolar_line_distance(points0, points1, F), total / 2, rtol=1e-5)
    assert np.isinf(G.epipolar_line_distance(points0, points1, np.zeros((3, 3)))).all()


def test_lines_are_cut_at_the_image():
    np.testing.assert_allclose(G.clip_line([0, 1, -30], 100, 50), [[0, 30], [100, 30]])
    ends = G.clip_line([1, -1, 0], 100, 50)
    np.testing.assert_allclose(ends[np.argsort(ends[:, 0])], [[0, 0], [50, 50]], atol=1e-9)
    assert G.clip_line([0, 1, -60], 100, 50) is None
    assert G.clip_line([0, 0, 1], 100, 50) is None


@pytest.mark.parametrize(
    ("grid", "scale"),
    [(None, 1.0), (Grid(12.8, 8.0, 80), 1.6), (Grid(8.0, 12.8, 80), 1.6), (Grid(14.0, 14.0, 60, 14), 1.0)],
)
def test_pixels_of_an_image_for_each_that_the_network_sees(grid, scale):
    assert G.reduction(grid) == pytest.approx(scale)
