"""evidence: geometries against chance, by independent blocks and by confidence."""

import numpy as np
import pytest

from sfm.geometry import evidence as E
from sfm.geometry.epipolar import epipolar_distance, fundamental_matrix
from sfm.types import Grid, Matches
from tests.support.pair_scene import HEIGHT, POSE, WIDTH, K, two_views

F = fundamental_matrix(K, K, POSE)
GRID = Grid(8.0, 8.0, 128)
BLOCKS = E.Blocks.of(GRID, GRID)


def convincing(matches, max_error=3.0):
    inliers = np.flatnonzero(epipolar_distance(matches.points0, matches.points1, F) <= max_error)
    return E.is_convincing(matches, inliers, E.chance(matches, F, max_error), BLOCKS)


def patches(num_patches, each, share_true, seed=0):
    """Matches in patches of 6 px, of which a share lies on the epipolar lines of F, whole patches at a time."""
    rng = np.random.default_rng(seed)
    true, num_true = two_views(num=num_patches, share_false=1 - share_true, seed=seed)
    centres0, centres1 = true.points0, true.points1
    offsets = rng.uniform(-3, 3, (num_patches, each, 2))
    p0, p1 = centres0[:, None] + offsets, centres1[:, None] + offsets
    lines = np.concatenate([p0[:num_true], np.ones((num_true, each, 1))], -1) @ F.T  # onto its line: a patch goes along
    distance = (lines * np.concatenate([p1[:num_true], np.ones((num_true, each, 1))], -1)).sum(-1)
    normal = lines[..., :2] / (lines[..., :2] ** 2).sum(-1, keepdims=True)
    p1[:num_true] -= distance[..., None] * normal
    rows = num_patches * each
    return Matches(p0.reshape(-1, 2), p1.reshape(-1, 2), np.full(rows, 0.4), np.arange(rows), np.arange(rows))


def test_false_alarms_fall_with_inliers_and_rise_with_chance():
    values = [E.log_false_alarms(k, 1000, 0.02) for k in (5, 40, 120, 200)]
    assert values[0] == np.inf
    assert values[1] > 0 > values[2] > values[3]
    assert E.log_false_alarms(120, 1000, 0.1) > 0


def test_chance_on_uniform_points_is_the_band_around_an_epipolar_line():
    rng = np.random.default_rng(0)
    p0, p1 = rng.uniform(0, [WIDTH, HEIGHT], (2, 5000, 2))
    F = np.array([[0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])  # same row: distance |y1 - y0| / sqrt(2)
    matches = Matches(p0, p1, np.ones(5000), np.arange(5000), np.arange(5000))
    assert E.chance(matches, F, 4.0) == pytest.approx(2 * 4 * np.sqrt(2) / HEIGHT, rel=0.15)


def test_matches_of_the_same_two_blocks_are_one():
    p0 = np.array([[1.0, 1], [31, 31], [33, 1], [1, 1]])
    p1 = np.array([[500.0, 300], [502, 301], [500, 300], [900, 300]])
    numbers = BLOCKS.numbers(Matches(p0, p1, np.ones(4), np.arange(4), np.arange(4)))
    assert numbers[0] == numbers[1]
    assert len(set(numbers.tolist())) == numbers.max() + 1 == 3


def test_the_lower_end_of_a_share_is_wilsons():
    explained = np.arange(100) < 50
    assert E.least_explained(np.ones(100), explained, 100) == pytest.approx(0.4019, abs=1e-3)
    assert E.least_explained(np.ones(100), explained, 20) < E.least_explained(np.ones(100), explained, 1000) < 0.5
    weighted = np.where(explained, 0.9, 0.3)
    assert E.least_explained(weighted, explained, 10**9) == pytest.approx(0.75, abs=1e-3)
    assert E.least_explained(np.zeros(3), np.ones(3, bool), 3) == 0


def test_a_small_common_part_is_enough_where_matches_are_many():
    assert convincing(two_views(num=1500, share_false=0.75)[0])


def test_the_same_share_of_few_matches_is_not():
    few, _ = two_views(num=60, share_false=0.6)
    assert not convincing(Matches(few.points0, few.points1, np.full(60, 0.4), few.cells0, few.cells1))


def test_few_matches_convince_where_the_confident_ones_agree():
    few, num_true = two_views(num=60, share_false=0.55)
    confidence = np.where(np.arange(60) < num_true, 0.9, 0.25)
    assert convincing(Matches(few.points0, few.points1, confidence, few.cells0, few.cells1))
    assert not convincing(Matches(few.points0, few.points1, np.full(60, 0.5), few.cells0, few.cells1))


def test_a_wrong_patch_counts_once_however_many_matches_it_has():
    """A quarter of 100 patches on the lines of a geometry: 500 of 2,000 matches, which independent ones never are."""
    together = patches(100, 20, 0.25)
    assert E.is_meaningful(together, np.arange(500), F, 3.0)
    assert not convincing(together)
    assert convincing(patches(100, 20, 0.9))


def test_nothing_explained_convinces_of_nothing():
    assert not E.is_convincing(two_views()[0], np.zeros(0, np.int64), 0.01, BLOCKS)
    assert not E.is_convincing(two_views(share_false=1.0)[0], np.arange(20), None, BLOCKS)
