"""match_alignment: dense matches of two images of a known surface come to sub-pixel, and nothing else moves."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sfm.alignment import match_alignment
from sfm.alignment.match_alignment import NEIGHBOURS, align_matches, local_maps
from sfm.alignment.pyramids import AlignmentImages
from sfm.types import Matches
from tests.support.plane_scene import HEIGHT, WIDTH, project, rendered, surface_points

NUM, NUM_FALSE = 900, 100


def dense_matches(first=1, second=3, factor=1, sigma=1.0):
    """Matches of a surface in two images, off by sigma px in the second one and false at the end, and true points1."""
    xyz = surface_points(NUM)
    points0, points1 = project(first, xyz, factor), project(second, xyz, factor)
    rng = np.random.default_rng(1)
    false = [rng.uniform(15, [WIDTH * factor - 15, HEIGHT * factor - 15], (NUM_FALSE, 2)) for _ in range(2)]
    off = points1 + rng.normal(0, sigma * factor, points1.shape)
    return _matches(np.concatenate([points0, false[0]]), np.concatenate([off, false[1]])), points1


def _matches(points0, points1):
    num = len(points0)
    return Matches(points0, points1, np.linspace(1, 0.5, num), np.arange(num), np.arange(num) + 7)


def images(*greys, sigma=1.0, align_size=0):
    sizes = [grey.shape[::-1] for grey in greys]
    return AlignmentImages.of(greys.__getitem__, sizes, [sigma] * len(greys), align_size=align_size)


def off(found, true):
    """Distances to the truth, px."""
    return np.linalg.norm(found.points1[: len(true)] - true, axis=1)


def test_dense_matches_come_to_sub_pixel_and_false_ones_stay():
    matches, true = dense_matches()
    num = len(true)
    found, aligned = align_matches(matches, images(rendered(1), rendered(3)))
    assert np.median(off(matches, true)) > 1.0
    assert aligned[:num].mean() > 0.85
    assert np.median(off(found, true)[aligned[:num]]) < 0.1
    assert np.quantile(off(found, true)[aligned[:num]], 0.9) < 0.5
    assert aligned[num:].mean() < 0.1
    np.testing.assert_array_equal(found.points1[~aligned], matches.points1[~aligned])
    for name in ("points0", "confidence", "cells0", "cells1"):
        np.testing.assert_array_equal(getattr(found, name), getattr(matches, name))


def test_an_image_on_its_side_is_no_obstacle():
    matches, true = dense_matches()
    turned, true = (np.stack([xy[:, 1], WIDTH - xy[:, 0]], axis=1) for xy in (matches.points1, true))
    matches = _matches(matches.points0, turned)
    found, aligned = align_matches(matches, images(rendered(1), np.ascontiguousarray(np.rot90(rendered(3)))))
    assert np.median(off(found, true)[aligned[: len(true)]]) < 0.1


def test_of_three_images_those_asked_for_at_a_size_of_their_own():
    matches, true = dense_matches(0, 2, factor=2)
    greys = (rendered(4, 2), rendered(2, 2), rendered(0, 2))
    found, aligned = align_matches(matches, images(*greys, sigma=2.0, align_size=WIDTH), (2, 1))
    assert aligned[: len(true)].mean() > 0.85
    assert np.median(off(found, true)[aligned[: len(true)]]) < 0.25  # px of images of twice the size


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_the_number_of_cores_changes_no_bit(cores, monkeypatch):
    monkeypatch.setattr(match_alignment, "CHUNK", 128)
    matches, _ = dense_matches()
    pair = images(rendered(1), rendered(3))
    (alone, _), (shared, aligned) = align_matches(matches, pair, cores=1), align_matches(matches, pair, cores=cores)
    assert aligned.any()
    np.testing.assert_array_equal(shared.points1, alone.points1)


def test_images_of_different_things_keep_their_matches():
    matches, _ = dense_matches()
    found, aligned = align_matches(matches, images(rendered(1), rendered(3, seed=7)))
    assert not aligned.any()
    np.testing.assert_array_equal(found.points1, matches.points1)


@pytest.mark.parametrize("num", [0, 7, NEIGHBOURS - 1, NEIGHBOURS])
def test_few_matches_are_no_error(num):
    matches, _ = dense_matches()
    found, aligned = align_matches(matches.rows(np.arange(num)), images(rendered(1), rendered(3)))
    assert len(found) == len(aligned) == num
    assert aligned.sum() == 0 or num == NEIGHBOURS


def test_maps_are_those_of_the_neighbours():
    rng = np.random.default_rng(0)
    A = Rotation.from_euler("z", 130, degrees=True).as_matrix()[:2, :2] @ np.array([[1.3, 0.2], [0.1, 0.8]])
    xy0 = rng.uniform(0, 200, (600, 2))
    xy1 = xy0 @ A.T + [5.0, -300.0]
    np.testing.assert_allclose(local_maps(xy0, xy1, 2.0), np.tile(A, (600, 1, 1)), atol=1e-3)
    wrong = rng.permutation(600)[:60]
    xy1[wrong] += rng.uniform(-40, 40, (60, 2))
    right = np.setdiff1d(np.arange(600), wrong)
    found = local_maps(xy0, xy1, 2.0)[right]
    assert np.quantile(np.abs(found - A).max(axis=(1, 2)), 0.8) < 0.1


def test_across_a_line_of_matches_nothing_is_taken_to_change():
    xy0 = np.stack([np.linspace(0, 100, 50), np.full(50, 30.0)], axis=1)
    found = local_maps(xy0, 2 * xy0, 2.0)
    np.testing.assert_allclose(found, np.tile(np.diag([2.0, 1.0]), (50, 1, 1)), atol=0.01)
