"""pair_geometry: exact scenes with false matches, pairs without overlap, planes and pure rotations."""

import numpy as np
import pytest

from sfm.colmap.camera import prior_camera
from sfm.geometry import two_view as P
from sfm.geometry.epipolar import epipolar_distance, fundamental_matrix
from sfm.geometry.evidence import Blocks
from sfm.geometry.poses import pose_error_deg
from sfm.options import VerificationOptions
from sfm.types import Matches
from tests.support.pair_scene import PAIR, POSE, K, record, two_views

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


@pytest.mark.parametrize(
    ("share_false", "num", "reason"),
    [(0.0, 14, "few matches"), (1.0, 2000, "chance"), (0.4, 1500, "")],
)
def test_a_pair_that_is_left_out_says_why(share_false, num, reason):
    geometry = verify(two_views(num=num, share_false=share_false)[0])
    assert geometry.reason == reason
    assert (len(geometry.inliers) == 0) == bool(reason)


def test_the_same_place_is_told_from_another_one():
    assert P.shows_same_place(two_views(share_false=0.5)[0], 3.0, Blocks.UNKNOWN)
    assert not P.shows_same_place(two_views(share_false=1.0)[0], 3.0, Blocks.UNKNOWN)
    assert not P.shows_same_place(Matches.empty(), 3.0, Blocks.UNKNOWN)
