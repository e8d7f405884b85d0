"""verification: all pairs at once, thresholds in network pixels, what detector-free pairs need."""

import numpy as np
import pytest

from sfm.geometry.epipolar import fundamental_matrix
from sfm.options import SMALL_SET, VerificationOptions
from sfm.types import Grid, ImagePair, MatcherTraits, Matches, TwoViewGeometry
from sfm.verification import stage as V
from tests.support.pair_scene import PAIR, POSE, K, record, two_views

OPTIONS = VerificationOptions()
GRIDS = {"a": Grid(8.0, 8.0, 128), "b": Grid(8.0, 8.0, 128)}
DENSE, SPARSE = MatcherTraits(dense=True), MatcherTraits()


def test_result_does_not_depend_on_threads_or_repetition():
    items = [(ImagePair("a", f"b{i}"), two_views(400, seed=i)[0]) for i in range(6)]
    records = {name: record(name) for name in ["a", *(f"b{i}" for i in range(6))]}
    first = V.verify(items, records, {}, OPTIONS, traits=SPARSE)
    alone = [V.verify(items[i : i + 1], records, {}, OPTIONS, traits=SPARSE)[0] for i in range(6)]
    assert [g.pair for g in first] == [pair for pair, _ in items]
    for a, b in zip(first, alone, strict=True):
        np.testing.assert_array_equal(a.inliers, b.inliers)


@pytest.mark.parametrize(
    ("traits", "share_false", "num", "left_out"),
    [
        (DENSE, 0.7, 1500, False),  # a small part is common, and more matches fit than chance ever gives
        (DENSE, 0.7, 60, True),  # as many fit where nothing is common
        (DENSE, 0.1, 60, False),
        (SPARSE, 0.6, 1500, False),
    ],
)
def test_what_detector_free_pairs_need_follows_from_how_many_matches_there_are(traits, share_false, num, left_out):
    matches, num_true = two_views(num=num, share_false=share_false)
    records = {"a": record("a"), "b": record("b")}
    (geometry,) = V.verify([(PAIR, matches)], records, GRIDS, OPTIONS, traits=traits)
    if left_out:
        assert geometry.kind == "degenerate"
        assert geometry.reason in ("chance", "little evidence")
        assert len(geometry.inliers) == 0
    else:
        assert geometry.reason == ""
        assert np.count_nonzero(geometry.inliers < num_true) > 0.85 * num_true


def test_the_share_that_must_be_verified_is_an_option():
    records = {"a": record("a"), "b": record("b")}
    matches, num_true = two_views(share_false=0.6)
    (kept,) = V.verify([(PAIR, matches)], records, GRIDS, VerificationOptions(min_inlier_ratio=0.3), traits=DENSE)
    assert np.count_nonzero(kept.inliers < num_true) > 0.85 * num_true
    matches, _ = two_views(share_false=0.4)
    (left_out,) = V.verify([(PAIR, matches)], records, GRIDS, VerificationOptions(min_inlier_ratio=0.7), traits=DENSE)
    assert len(left_out.inliers) == 0
    assert left_out.reason == "small share"


def test_a_detectors_matches_keep_colmaps_error():
    """True rows are 3 px off their lines: beyond the 2 px of a network's image, within COLMAP's 4 px of a detector."""
    matches, num_true = two_views(share_false=0.1)
    F = fundamental_matrix(K, K, POSE)
    normal = (np.column_stack([matches.points0, np.ones(len(matches))]) @ F.T)[:, :2]
    side = np.where(np.arange(len(matches)) % 2, 3.0, -3.0)[:, None]
    points1 = matches.points1 + side * normal / np.linalg.norm(normal, axis=1, keepdims=True)
    off = Matches(matches.points0, points1, matches.confidence, matches.cells0, matches.cells1)
    records = {"a": record("a"), "b": record("b")}
    (detector,) = V.verify([(PAIR, off)], records, {}, OPTIONS, traits=SPARSE)
    (network,) = V.verify([(PAIR, off)], records, GRIDS, OPTIONS, traits=DENSE)
    assert np.count_nonzero(detector.inliers < num_true) > 0.8 * num_true
    assert np.count_nonzero(network.inliers < num_true) < 0.6 * num_true  # those of one side


def test_a_pair_in_doubt_is_kept_only_where_it_connects_images_that_nothing_else_connects():
    def geometry(a, b, reason="", num=20):
        return TwoViewGeometry(ImagePair(a, b), np.arange(num), "calibrated", reason=reason)

    weak = "little evidence"
    found = [
        geometry("a", "b"),
        geometry("b", "c"),
        geometry("a", "c", weak),  # connected already
        geometry("d", "e"),
        geometry("c", "d", weak),
        geometry("a", "e", weak),  # between the same two groups
        geometry("b", "e", "chance", 0),
    ]
    settled = V.settle(found)
    assert [len(g.inliers) for g in settled] == [20, 20, 0, 20, 20, 20, 0]
    assert [g.reason for g in settled] == ["", "", weak, "", "", "", "chance"]
    assert [g.kind for g in settled[2:5]] == ["degenerate", "calibrated", "calibrated"]
    assert V.settle(settled)[:2] == settled[:2]


def test_of_many_images_a_pair_is_estimated_from_some_of_its_matches_and_keeps_all_that_fit():
    matches, num_true = two_views(num=6000, share_false=0.3)
    num_false = len(matches) - num_true
    few = {"a": record("a"), "b": record("b")}
    many = few | {f"{i:03d}": record(f"{i:03d}") for i in range(SMALL_SET)}
    (whole,) = V.verify([(PAIR, matches)], few, GRIDS, OPTIONS, traits=DENSE)
    (some,) = V.verify([(PAIR, matches)], many, GRIDS, OPTIONS, traits=DENSE)
    assert some.kind == whole.kind
    assert np.count_nonzero(some.inliers < num_true) > 0.95 * num_true
    assert np.count_nonzero(some.inliers >= num_true) < 0.1 * num_false
    common = len(np.intersect1d(some.inliers, whole.inliers))
    assert common > 0.95 * len(np.union1d(some.inliers, whole.inliers))
    turn = some.cam1_from_cam0[:, :3].T @ POSE[:, :3]
    assert np.degrees(np.arccos(min(1.0, (np.trace(turn) - 1) / 2))) < 0.5
