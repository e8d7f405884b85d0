"""Pairs by GPS: nearest neighbours, distances, images without a position."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from sfm.errors import BadOption
from sfm.pairs.base import ImageSet
from sfm.pairs.gps import select
from sfm.pairs.registry import choose
from sfm.types import ImagePair
from tests.support.drone_scene import names_of, records_of, strips, tags_of

ENU = strips() * [1, 1, 0]
NAMES = names_of(len(ENU))


def images(tags):
    return ImageSet(records_of(tags), Path())


def test_the_nearest_are_paired():
    chosen = select(images(tags_of(ENU)), "10")
    pairs = set(chosen.pairs)
    expected = set()
    for i in range(len(ENU)):
        nearest = np.argsort(np.linalg.norm(ENU - ENU[i], axis=1))[1:4]
        expected |= {ImagePair.of(NAMES[i], NAMES[j]) for j in nearest}
    assert pairs == expected
    assert chosen.candidates is not None
    assert chosen.candidates.budget == len(ENU) * 5
    near = chosen.candidates.rows[np.argsort(-chosen.candidates.likeness)[:50]]
    steps = np.linalg.norm(ENU[chosen.candidates.rows[:, 0]] - ENU[chosen.candidates.rows[:, 1]], axis=1)
    assert np.linalg.norm(ENU[near[:, 0]] - ENU[near[:, 1]], axis=1).max() <= np.median(steps)  # the more alike


def test_a_distance_in_metres_holds():
    pairs = set(choose("gps:35m", images(tags_of(ENU))).pairs)
    assert choose("gps:35m", images(tags_of(ENU))).candidates is None
    near = {
        ImagePair(NAMES[i], NAMES[j])
        for i, j in combinations(range(len(ENU)), 2)
        if np.linalg.norm((ENU[i] - ENU[j])[:2]) <= 35
    }
    assert pairs == near


def test_images_without_a_position_are_paired_by_time():
    tags = tags_of(ENU)
    tags[10] = None
    chosen = choose("gps:4", images(tags))
    assert {pair for pair in chosen.pairs if NAMES[10] in (pair.name0, pair.name1)} == {
        ImagePair.of(NAMES[10], NAMES[i]) for i in (8, 9, 11, 12)
    }
    assert NAMES[10] in chosen.note


def test_images_at_one_place_are_paired():
    pairs = select(images(tags_of(np.zeros((6, 3)))), None).pairs
    assert len(pairs) == 15
    assert set(pairs) == {ImagePair(a, b) for a, b in combinations(NAMES[:6], 2)}


@pytest.mark.parametrize("argument", ["", "0", "-3", "x", "0m", "5 km", "1e9m"])
def test_bad_arguments(argument):
    with pytest.raises(BadOption, match="--pairs gps:"):
        select(images(tags_of(ENU)), argument)


def test_no_positions_or_none_near_each_other():
    with pytest.raises(BadOption, match="0 of 40 images have a GPS position"):
        select(images([None] * len(ENU)))
    with pytest.raises(BadOption, match="no two images are that near"):
        select(images(tags_of(ENU)), "0.5m")
