"""What is left out where memory does not suffice: the least confident rows, the shortest tracks, evenly."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from sfm.tracks.thinning import BYTES_PER_OBSERVATION, Room, best_in_bins, room_for, thin, verified_rows
from sfm.types import ImagePair, Matches, TwoViewGeometry


def test_only_verified_rows_are_kept_and_of_them_the_most_confident():
    confidence = np.array([0.9, 0.2, 0.8, 0.5, 0.5, 0.7])
    xy = np.arange(12.0).reshape(6, 2)
    matches = Matches(xy, xy + 1, confidence, np.arange(6), np.arange(6) + 10)
    geometry = TwoViewGeometry(ImagePair("a", "b"), np.array([1, 2, 3, 4]), "calibrated", F=np.eye(3))
    kept, rows = verified_rows(geometry, matches, None)
    assert rows.cells0.tolist() == [1, 2, 3, 4]
    assert kept.inliers.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(kept.F, np.eye(3))
    _, rows = verified_rows(geometry, matches, 2)
    assert rows.cells0.tolist() == [2, 3]  # of equals the first
    assert rows.cells1.tolist() == [12, 13]
    np.testing.assert_array_equal(rows.points1, xy[[2, 3]] + 1)


@pytest.fixture(scope="module")
def observations():
    """Tracks of 2 to 6 of 12 images, more of them on the left."""
    rng = np.random.default_rng(0)
    label, image, xy = [], [], []
    for track in range(3000):
        seen = rng.choice(12, rng.integers(2, 7), replace=False)
        place = np.array([640 * rng.uniform() ** 3, 480 * rng.uniform()])
        for i in seen:
            label.append(2 * track + 5)
            image.append(i)
            xy.append(place + rng.uniform(0, 5, 2))
    order = rng.permutation(len(label))
    return np.array(label)[order], np.array(image)[order], np.array(xy)[order], rng.uniform(size=len(order))


@pytest.mark.parametrize("limit", [3, 50, 700, 5000, 10**6])
def test_whole_tracks_within_the_limit(observations, limit):
    label, *_ = observations
    kept = thin(*observations, limit)
    assert limit - 6 < kept.sum() <= limit or kept.all()
    assert not set(label[kept]) & set(label[~kept])


def test_long_tracks_all_over_every_image(observations):
    label, image, xy, _ = observations
    kept = thin(*observations, 5000)
    length = np.bincount(label)[label]
    assert length[kept].mean() > length.mean() + 0.7
    for i in range(12):
        share = [np.histogram(xy[rows & (image == i), 0], bins=4, range=(0, 640))[0] for rows in (kept, label >= 0)]
        left, right = (share[0] / share[1])[[0, 3]]
        assert right > 2 * left  # crowded places give way first
    assert thin(*observations, 5000).tolist() == kept.tolist()


def test_nothing_at_all():
    none = np.zeros(0, np.int64)
    assert thin(none, none, np.zeros((0, 2)), np.zeros(0), 10).shape == (0,)


def test_small_sets_keep_all_and_large_ones_a_number_that_grows_more_slowly_than_they_do():
    assert room_for(100, None, None) == Room()
    numbers = [room_for(num, None, None).observations for num in (101, 1000, 10_000)]
    assert numbers == [570_700, 1_200_000, 7_500_000]
    assert room_for(1000, None, 0).observations == sys.maxsize  # all, as far as matches go
    assert room_for(1000, None, 300).observations == 300_000
    assert room_for(50, None, 300).observations == 15_000


def test_memory_limits_what_is_kept_of_any_set():
    room = room_for(50, 10_000_000, None)
    assert room.observations == 10_000_000 // BYTES_PER_OBSERVATION
    assert room.by_memory
    assert not room_for(1000, 10**11, None).by_memory
    assert room_for(1000, 10**11, None).edges == room_for(1000, None, None).edges < 20_000_000


def test_the_best_of_each_part_of_each_image_are_kept_first():
    rng = np.random.default_rng(0)
    num = 4000
    image = np.repeat([0, 1], num // 2)
    xy = rng.uniform(0, 640, (num, 2))
    degree, score = rng.integers(1, 10, num), rng.uniform(size=num)
    kept = best_in_bins(degree, image, xy, score, 3000)
    assert degree[kept].sum() <= 3000
    assert degree[kept].sum() > 2980
    bins = image * 64 + (xy[:, 1] // 80).astype(int) * 8 + (xy[:, 0] // 80).astype(int)
    counts = np.bincount(bins[kept], minlength=128)
    assert counts.min() >= 2
    assert counts.max() <= counts.min() + 2
    for cell in range(0, 128, 17):
        own = np.flatnonzero(bins == cell)
        assert degree[own][kept[own]].min() >= degree[own][~kept[own]].max()
