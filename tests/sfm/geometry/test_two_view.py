"""pair_geometry: exact scenes with false matches, pairs without overlap, planes and pure rotations."""

import numpy as np
import pytest

from sfm.colmap.camera import prior_camera
from sfm.geometry import two_view as P
from sfm.geometry.epipolar import epipolar_distance, fundamental_matrix
from sfm.geometry.poses import pose_error_deg
from sfm.options import VerificationOptions
from sfm.types import Matches
from tests.support.pair_scene import HEIGHT, PAIR, POSE, WIDTH, K, record, two_views

OPTIONS = VerificationOptions()


def verify(matches, prior=True, max_error=3.0):
    cameras = prior_camera(record("a", prior)), prior_camera(record("b", prior))
    return P.verify_pair(PAIR, matches, cameras, OPTIONS, max_error=max_error)


@pytest.mark.parametrize("prior", [True, False])
def test_true_rows_are_found_and_the_pose_is_right(prior):
    matches, num_true = two_views()
    geometry = verify(matches, prior)
    assert geometry.kind == ("calibrated" if prior else "uncalibrated")
    assert np.count_nonzero(geometry.inliers < num_true) > 0.98 * num_true
    assert np.count_nonzero(geometry.inliers >= num_true) < 0.06 * len(matches)
    assert (np.diff(geometry.inliers.astype(int)) > 0).all()
    assert np.linalg.norm(geometry.cam1_from_cam0[:, 3]) == pytest.approx(1.0)
    assert max(pose_error_deg(geometry.cam1_from_cam0, POSE)) < (0.5 if prior else 2.0)
    true_rows = epipolar_distance(
        matches.points0[:num_true], matches.points1[:num_true], fundamental_matrix(K, K, POSE)
    )
    assert np.median(true_rows) < 1.0  # the scene itself is what it says
    assert np.median(epipolar_distance(matches.points0[:num_true], matches.points1[:num_true], geometry.F)) < 1.0


def test_random_matches_are_refused_although_thousands():
    matches, _ = two_views(num=2000, share_false=1.0)
    geometry = verify(matches)
    assert geometry.kind == "degenerate"
    assert len(geometry.inliers) == 0


def test_random_matches_on_a_small_object_are_refused():
    rng = np.random.default_rng(0)
    p0, p1 = (rng.uniform([500, 350], [580, 430], (800, 2)) for _ in range(2))
    assert len(verify(Matches(p0, p1, rng.uniform(size=800), np.arange(800), np.arange(800))).inliers) == 0


def test_a_plane_keeps_all_its_true_rows():
    matches, num_true = two_views(share_false=0.2, flat=True)
    geometry = verify(matches)
    assert geometry.kind.startswith("planar")
    assert np.count_nonzero(geometry.inliers < num_true) > 0.97 * num_true


def test_pure_rotation_is_a_homography_and_keeps_its_rows():
    pose = np.concatenate([POSE[:, :3], np.zeros((3, 1))], 1)
    matches, num_true = two_views(share_false=0.2, pose=pose)
    geometry = verify(matches)
    assert geometry.kind in ("planar", "panoramic", "planar_or_panoramic")
    assert np.count_nonzero(geometry.inliers < num_true) > 0.97 * num_true


@pytest.mark.parametrize("num", [0, 1, 7, 14])
def test_too_few_matches_are_refused(num):
    matches, _ = two_views(num=14, share_false=0.0)
    few = Matches(*(getattr(matches, f)[:num] for f in ("points0", "points1", "confidence", "cells0", "cells1")))
    assert len(verify(few).inliers) == 0


def test_identical_points_do_not_crash():
    same = np.full((40, 2), 100.0)
    assert len(verify(Matches(same, same, np.ones(40), np.arange(40), np.arange(40))).inliers) in (0, 40)


def test_false_alarms_fall_with_inliers_and_rise_with_chance():
    values = [P.log_false_alarms(k, 1000, 0.02) for k in (5, 40, 120, 200)]
    assert values[0] == np.inf
    assert values[1] > 0 > values[2] > values[3]
    assert P.log_false_alarms(120, 1000, 0.1) > 0


def test_chance_on_uniform_points_is_the_band_around_an_epipolar_line():
    rng = np.random.default_rng(0)
    p0, p1 = rng.uniform(0, [WIDTH, HEIGHT], (2, 5000, 2))
    F = np.array([[0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])  # same row: distance |y1 - y0| / sqrt(2)
    matches = Matches(p0, p1, np.ones(5000), np.arange(5000), np.arange(5000))
    assert P.chance(matches, F, 4.0) == pytest.approx(2 * 4 * np.sqrt(2) / HEIGHT, rel=0.15)
