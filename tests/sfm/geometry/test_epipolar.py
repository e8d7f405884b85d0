"""Epipolar geometry, against projections and OpenCV."""

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sfm.geometry import epipolar as G
from sfm.geometry.pixels import homogeneous

RNG = np.random.default_rng(3)
K0 = np.array([[800.0, 0, 320], [0, 810, 240], [0, 0, 1]])
K1 = np.array([[700.0, 0, 300], [0, 705, 220], [0, 0, 1]])


def random_pose(rng=RNG):
    return np.concatenate([Rotation.random(random_state=rng.integers(1 << 30)).as_matrix(), rng.normal(size=(3, 1))], 1)


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
    h0, h1 = homogeneous(p0), homogeneous(p1)
    expected = [cv2.sampsonDistance(a[:, None], b[:, None], F) for a, b in zip(h0, h1, strict=True)]
    np.testing.assert_allclose(G.epipolar_distance(p0, p1, F) ** 2, expected, rtol=1e-9)


def test_epipolar_distance_is_infinite_where_both_lines_vanish():
    assert np.isinf(G.epipolar_distance(np.ones((1, 2)), np.ones((1, 2)), np.zeros((3, 3)))).all()


def test_cross_matrix_is_the_cross_product():
    a, b = RNG.normal(size=(2, 3))
    np.testing.assert_allclose(G.cross_matrix(a) @ b, np.cross(a, b), atol=1e-12)


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
