from __future__ import annotations

import random
from itertools import combinations

import pytest

from sfm.matching.feature_cache import count_encodings, order_pairs
from sfm.types import ImagePair


def name_of(i: int) -> str:
    return f"{i:03d}.png"


def exhaustive(num: int) -> list[ImagePair]:
    return [ImagePair(name_of(a), name_of(b)) for a, b in combinations(range(num), 2)]


@pytest.mark.parametrize("capacity", [0, 1, 2, 3, 5, 12, 40, 100])
def test_order_is_a_permutation(capacity):
    pairs = exhaustive(30)
    random.Random(0).shuffle(pairs)
    assert sorted(order_pairs(pairs, capacity)) == sorted(pairs)
    assert order_pairs([], capacity) == []


def test_each_image_is_encoded_once_where_all_fit():
    for pairs in (exhaustive(40), [ImagePair(name_of(i), name_of(i + k)) for i in range(200) for k in (1, 2, 3)]):
        num_images = len({name for pair in pairs for name in (pair.name0, pair.name1)})
        assert count_encodings(order_pairs(pairs, num_images), num_images) == num_images


@pytest.mark.parametrize("capacity", [5, 12, 22])
def test_exhaustive_encodings_stay_near_the_least(capacity):
    num = 100
    pairs = exhaustive(num)
    count = count_encodings(order_pairs(pairs, capacity), capacity)
    # Each encoding can complete at most capacity - 1 new pairs, so there is no order with fewer:
    least = len(pairs) / (capacity - 1)
    assert least <= count <= 1.6 * least + num
    assert count < count_encodings(pairs, capacity) / (capacity / 4)


def test_a_sequence_is_encoded_once_with_little_memory():
    pairs = [ImagePair(name_of(i), name_of(i + k)) for i in range(300) for k in range(1, 11)]
    assert count_encodings(order_pairs(pairs, 12), 12) == 310


def test_images_each_in_few_pairs_are_encoded_hardly_more_than_once_whatever_their_names():
    names = [name_of(i) for i in random.Random(0).sample(range(400), 400)]
    pairs = [ImagePair.of(names[i], names[j]) for i in range(400) for j in range(i + 1, min(i + 9, 400))]
    assert count_encodings(order_pairs(pairs, 40), 40) <= 420
    assert count_encodings(sorted(pairs, key=lambda pair: (pair.name0, pair.name1)), 40) > 1500
