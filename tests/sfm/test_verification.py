"""verification: exact scenes with false matches, pairs without overlap, thresholds in network pixels."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sfm import verification as V
from sfm.geometry import epipolar_distance, fundamental_matrix, pose_error_deg
from sfm.options import VerificationOptions
from sfm.types import CameraPrior, ImagePair, ImageRecord, Matches

WIDTH, HEIGHT, FOCAL = 1024, 768, 900.0
K = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
POSE = np.concatenate([Rotation.from_rotvec([0.05, -0.3, 0.02]).as_matrix(), [[1.0], [0.1], [0.2]]], 1)
PAIR = ImagePair("a", "b")
OPTIONS = VerificationOptions()


def record(name, prior=True):
    camera = CameraPrior("SIMPLE_RADIAL", np.array([FOCAL, WIDTH / 2, HEIGHT / 2, 0.0]), prior, "one")
    return ImageRecord(name, WIDTH, HEIGHT, camera, "")


def two_views(num=1500, share_false=0.4, seed=0, pose=POSE, flat=False):
    """Matches with 0.5 px noise, the false ones last; their number of true rows."""
    rng = np.random.default_rng(seed)
    xyz = rng.uniform([-2, -1.5, 4], [2, 1.5, 4.0 if flat else 8], (num, 3))
    p0, p1 = xyz @ K.T, (xyz @ pose[:, :3].T + pose[:, 3]) @ K.T
    p0, p1 = p0[:, :2] / p0[:, 2:], p1[:, :2] / p1[:, 2:]
    p0, p1 = p0 + rng.normal(0, 0.5, p0.shape), p1 + rng.normal(0, 0.5, p1.shape)
    num_true = round(num * (1 - share_false))
    p1[num_true:] = rng.uniform(0, [WIDTH, HEIGHT], (num - num_true, 2))
    confidence = rng.uniform(0.2, 1, num)
    confidence[num_true:] *= 0.7
    ids = np.arange(num)
    return Matches(p0, p1, confidence, ids, ids), num_true


def verify(matches, prior=True, max_error=3.0):
    return V.verify_pair(PAIR, matches, (record("a", prior), record("b", prior)), OPTIONS, max_error=max_error)


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


def test_result_does_not_depend_on_threads_or_repetition():
    items = [(ImagePair("a", f"b{i}"), two_views(400, seed=i)[0]) for i in range(6)]
    records = {name: record(name) for name in ["a", *(f"b{i}" for i in range(6))]}
    first = V.verify(items, records, {}, OPTIONS)
    alone = [V.verify(items[i : i + 1], records, {}, OPTIONS)[0] for i in range(6)]
    assert [g.pair for g in first] == [pair for pair, _ in items]
    for a, b in zip(first, alone, strict=True):
        np.testing.assert_array_equal(a.inliers, b.inliers)


def test_allowed_error_is_in_network_pixels():
    grids = {"a": (12.8, 12.8, 80), "b": (8.0, 8.0, 80), "s": None, "t": None}
    assert V.pair_error(ImagePair("a", "b"), grids, OPTIONS) == pytest.approx(2 * 1.6)
    assert V.pair_error(ImagePair("a", "b"), grids, VerificationOptions(max_error=3)) == pytest.approx(3 * 1.6)


GRIDS = {"a": (8.0, 8.0, 128), "b": (8.0, 8.0, 128)}


@pytest.mark.parametrize(
    ("grids", "share_false", "left_out"),
    [(GRIDS, 0.6, True), (GRIDS, 0.4, False), ({"a": None, "b": None}, 0.6, False), ({}, 0.6, False)],
)
def test_detector_free_pairs_need_most_of_their_matches_verified(grids, share_false, left_out):
    matches, num_true = two_views(share_false=share_false)
    (geometry,) = V.verify([(PAIR, matches)], {"a": record("a"), "b": record("b")}, grids, OPTIONS)
    if left_out:
        assert geometry.kind == "degenerate"
        assert len(geometry.inliers) == 0
    else:
        assert np.count_nonzero(geometry.inliers < num_true) > 0.85 * num_true


def test_the_share_that_must_be_verified_is_an_option():
    records = {"a": record("a"), "b": record("b")}
    matches, num_true = two_views(share_false=0.6)
    (kept,) = V.verify([(PAIR, matches)], records, GRIDS, VerificationOptions(min_inlier_ratio=0.3))
    assert np.count_nonzero(kept.inliers < num_true) > 0.85 * num_true
    matches, _ = two_views(share_false=0.4)
    (left_out,) = V.verify([(PAIR, matches)], records, GRIDS, VerificationOptions(min_inlier_ratio=0.7))
    assert len(left_out.inliers) == 0


def test_a_detectors_matches_keep_colmaps_error():
    """True rows are 3 px off their lines: beyond the 2 px of a network's image, within COLMAP's 4 px of a detector."""
    matches, num_true = two_views(share_false=0.1)
    F = fundamental_matrix(K, K, POSE)
    normal = (np.column_stack([matches.points0, np.ones(len(matches))]) @ F.T)[:, :2]
    side = np.where(np.arange(len(matches)) % 2, 3.0, -3.0)[:, None]
    points1 = matches.points1 + side * normal / np.linalg.norm(normal, axis=1, keepdims=True)
    off = Matches(matches.points0, points1, matches.confidence, matches.cells0, matches.cells1)
    records = {"a": record("a"), "b": record("b")}
    (detector,) = V.verify([(PAIR, off)], records, {}, OPTIONS)
    (network,) = V.verify([(PAIR, off)], records, GRIDS, OPTIONS)
    assert np.count_nonzero(detector.inliers < num_true) > 0.8 * num_true
    assert len(network.inliers) == 0


def test_false_alarms_fall_with_inliers_and_rise_with_chance():
    values = [V.log_false_alarms(k, 1000, 0.02) for k in (5, 40, 120, 200)]
    assert values[0] == np.inf
    assert values[1] > 0 > values[2] > values[3]
    assert V.log_false_alarms(120, 1000, 0.1) > 0


def test_chance_on_uniform_points_is_the_band_around_an_epipolar_line():
    rng = np.random.default_rng(0)
    p0, p1 = rng.uniform(0, [WIDTH, HEIGHT], (2, 5000, 2))
    F = np.array([[0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])  # same row: distance |y1 - y0| / sqrt(2)
    matches = Matches(p0, p1, np.ones(5000), np.arange(5000), np.arange(5000))
    assert V.chance(matches, F, 4.0) == pytest.approx(2 * 4 * np.sqrt(2) / HEIGHT, rel=0.15)
