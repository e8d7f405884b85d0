"""One geometry of a pair from the matches of two matchers."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sfm.finders import Finder
from sfm.geometry.epipolar import epipolar_distance, fundamental_matrix
from sfm.options import VerificationOptions
from sfm.types import Grid, MatcherTraits, Matches, TwoViewGeometry
from sfm.verification.side_by_side import agreed
from sfm.verification.stage import verify
from sfm.verification.still import StillParts
from tests.support.pair_scene import HEIGHT, PAIR, POSE, WIDTH, K, record, two_views

GRIDS = {"a": Grid(32.0, 32.0, 32), "b": Grid(32.0, 32.0, 32)}  # a network that sees a quarter of each side
DENSE, SPARSE = MatcherTraits(dense=True), MatcherTraits()
RECORDS = {"a": record("a"), "b": record("b")}
OTHER_POSE = np.column_stack([POSE[:, :3].T, [0.1, 1.0, -0.3]])


def beside(*each: Matches) -> Matches:
    """Rows of several matchers, one after the other."""
    names = ("points0", "points1", "confidence", "cells0", "cells1")
    columns = {name: np.concatenate([getattr(own, name) for own in each]) for name in names}
    return Matches(**columns, finder=np.repeat(np.arange(len(each)), [len(own) for own in each]).astype(np.uint8))


def noise(num: int, seed: int = 0) -> Matches:
    return two_views(num, share_false=1.0, seed=seed)[0]


def verified(matches: Matches, *, dense_first: bool = True) -> TwoViewGeometry:
    first, second = Finder(GRIDS, DENSE), Finder(dict.fromkeys("ab"), SPARSE)
    if not dense_first:
        first, second = second, first
    options = VerificationOptions()
    (found,) = verify([(PAIR, matches)], RECORDS, first.grids, options, traits=first.traits, others=[second])
    return found


def counts(geometry: TwoViewGeometry, matches: Matches) -> list[int]:
    return np.bincount(matches.finder[geometry.inliers], minlength=2).tolist()


@pytest.mark.parametrize("dense_first", [True, False])
def test_a_pair_is_kept_if_one_of_them_verifies_it(dense_first):
    """The detector's hundred matches say where a network saw nothing but noise, in either order."""
    right, num_true = two_views(120, share_false=0.3, seed=3)
    wrong = noise(900, seed=4)
    matches = beside(wrong, right) if dense_first else beside(right, wrong)
    number = 1 if dense_first else 0
    found = verified(matches, dense_first=dense_first)
    assert found.reason == ""
    own = found.inliers[matches.finder[found.inliers] == number] - (len(wrong) if dense_first else 0)
    assert np.count_nonzero(own < num_true) > 0.9 * num_true
    assert counts(found, matches)[1 - number] < 0.2 * len(wrong)


def test_without_any_geometry_the_first_ones_reason_counts():
    found = verified(beside(noise(900), two_views(10, share_false=0.0)[0]))
    assert len(found.inliers) == 0
    assert found.reason in ("chance", "little evidence")
    found = verified(beside(two_views(10, share_false=0.0)[0], noise(60)))
    assert found.reason == "few matches"


def test_a_few_matches_join_a_pair_that_the_other_verifies():
    """Fourteen are fewer than a pair needs, and more than chance would bring to the lines of another's geometry."""
    many, few = two_views(900, share_false=0.3, seed=1)[0], two_views(14, share_false=0.0, seed=2)[0]
    matches = beside(many, few)
    alone = verify([(PAIR, few)], RECORDS, {}, VerificationOptions(), traits=SPARSE)[0]
    assert (len(alone.inliers), alone.reason) == (0, "few matches")
    assert counts(verified(matches), matches)[1] >= 12
    wrong = beside(many, noise(14, seed=5))
    assert counts(verified(wrong), wrong)[1] == 0


def test_each_has_the_error_that_is_its_own():
    """A network that sees a quarter of the image may be 4 px off; a detector's matches, 12 px off, may not."""
    dense, num_dense = two_views(900, share_false=0.0, seed=1)
    sparse, _ = two_views(300, share_false=0.0, seed=2)
    off = np.zeros((300, 2))
    off[200:, 1] = 12.0  # against lines that are nearly level
    rough = Matches(
        dense.points0,
        dense.points1 + np.random.default_rng(0).normal(0, 3, dense.points1.shape),
        dense.confidence,
        dense.cells0,
        dense.cells1,
    )
    shifted = Matches(sparse.points0, sparse.points1 + off, sparse.confidence, sparse.cells0, sparse.cells1)
    matches = beside(rough, shifted)
    found = verified(matches)
    own = found.inliers[matches.finder[found.inliers] == 1] - num_dense
    assert np.count_nonzero(own < 200) > 190
    assert np.count_nonzero(own >= 200) < 10
    assert counts(found, matches)[0] > 0.85 * num_dense


def test_the_more_exact_geometry_is_the_pairs():
    F = fundamental_matrix(K, K, POSE)
    turned = Rotation.from_rotvec([0.006, 0, 0]).as_matrix() @ POSE[:, :3]  # 5 px
    exact, rough = two_views(400, share_false=0.0, seed=1)[0], two_views(900, share_false=0.0, seed=2)[0]
    tilted = fundamental_matrix(K, K, np.column_stack([turned, POSE[:, 3]]))
    matches = beside(rough, exact)
    rows = np.arange(len(matches), dtype=np.uint32)
    of_rough = TwoViewGeometry(PAIR, rows[:900], "uncalibrated", F=tilted)
    of_exact = TwoViewGeometry(PAIR, rows[900:], "uncalibrated", F=F)
    assert (epipolar_distance(exact.points0, exact.points1, tilted) <= 4).mean() < 0.9  # px: it explains fewer of them
    found = agreed([of_rough, of_exact], matches, [16.0, 4.0])
    assert np.array_equal(found.F, F)
    assert counts(found, matches) == [900, 400]


def test_where_two_contradict_each_other_the_ones_inliers_do_not_join():
    one, other = two_views(600, share_false=0.0, seed=1)[0], two_views(90, share_false=0.0, seed=2, pose=OTHER_POSE)[0]
    matches = beside(one, other)
    found = verified(matches)
    assert counts(found, matches)[0] > 0.9 * 600
    assert counts(found, matches)[1] < 0.4 * 90
    assert np.median(epipolar_distance(one.points0, one.points1, found.F)) < 1.0


def test_one_in_doubt_is_decided_by_one_that_is_sure():
    rows = np.arange(40, dtype=np.uint32)
    F = fundamental_matrix(K, K, POSE)
    matches = beside(two_views(20, share_false=0.0)[0], two_views(20, share_false=0.0, seed=1)[0])
    doubted = TwoViewGeometry(PAIR, rows[:20], "calibrated", F=F, reason="little evidence")
    sure = TwoViewGeometry(PAIR, rows[20:], "calibrated", F=F)
    nothing = TwoViewGeometry(PAIR, rows[:0], "degenerate", reason="few matches")
    assert agreed([doubted, sure], matches, [4.0, 4.0]).reason == ""
    assert len(agreed([doubted, sure], matches, [4.0, 4.0]).inliers) == 40
    assert agreed([doubted, nothing], matches, [4.0, 4.0]).reason == "little evidence"


def test_planes_keep_what_each_matcher_found():
    rows = np.arange(40, dtype=np.uint32)
    matches = beside(noise(20), noise(20, seed=1))  # whatever they are: a homography has no lines to hold them against
    each = [TwoViewGeometry(PAIR, rows[:20], "planar"), TwoViewGeometry(PAIR, rows[20:], "planar")]
    assert len(agreed(each, matches, [4.0, 4.0]).inliers) == 40


def test_what_stands_still_is_left_out_of_a_detectors_matches_too():
    """The left half of both images is known to stand still: by the network's cells, whatever the detector's ids are."""
    cells = np.zeros((24, 32), bool)
    cells[:, :16] = True
    still = StillParts({"a": cells.reshape(-1)}, frozenset(), GRIDS)
    matches = two_views(400, share_false=0.0)[0]
    shown = still.shown_on(PAIR, matches, (None, None))
    kept = still.moving_rows(PAIR, shown, 4.0, float(np.hypot(WIDTH, HEIGHT)))
    assert np.array_equal(kept, np.flatnonzero(matches.points0[:, 0] >= WIDTH / 2))
    assert still.shown_on(PAIR, matches, (GRIDS["a"], GRIDS["b"])) is matches
