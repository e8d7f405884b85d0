from __future__ import annotations

import numpy as np

from sfm.pairs.exhaustive import all_pairs
from sfm.pairs.registry import choose
from sfm.pairs.sequential import loops, neighbours, rows_of
from sfm.types import ImagePair
from tests.support.image_sets import image_set

NAMES = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")


def test_sequential_takes_the_next_ones() -> None:
    assert neighbours(NAMES, 1) == (
        ImagePair("a.jpg", "b.jpg"),
        ImagePair("b.jpg", "c.jpg"),
        ImagePair("c.jpg", "d.jpg"),
    )
    assert len(neighbours(NAMES, 2)) == 3 + 2
    assert set(neighbours(NAMES, 99)) == set(all_pairs(NAMES))


def test_sequential_counts_numbers_as_numbers() -> None:
    names = [f"f{i}.jpg" for i in (1, 10, 11, 2, 9)]
    expected = [(1, 2), (2, 9), (9, 10), (10, 11)]
    assert neighbours(names, 1) == tuple(ImagePair.of(f"f{i}.jpg", f"f{j}.jpg") for i, j in expected)


def test_sequential_orders_names_that_differ_in_leading_zeros_only() -> None:
    assert neighbours(["f01.jpg", "f1.jpg", "2/f.jpg", "f.jpg"], 9)  # any mixture of text and digits can be sorted


def test_gaps_grow_beyond_the_next_ones() -> None:
    names = [f"{i:04}.jpg" for i in range(1000)]
    gaps = {int(pair.name1[:4]) - int(pair.name0[:4]) for pair in neighbours(names, 10)}
    assert gaps == {*range(1, 11), 16, 32, 64, 128, 256, 512}
    assert {int(p.name1[:4]) - int(p.name0[:4]) for p in neighbours(names, 3)} == {1, 2, 3, 4}
    assert {int(p.name1[:4]) - int(p.name0[:4]) for p in neighbours(names, 1)} == {1}


def test_each_folder_is_a_row_of_its_own() -> None:
    names = ["b/2.jpg", "b/10.jpg", "a/1.jpg", "a/2.jpg", "c.jpg"]
    assert sorted(rows_of(names)) == [["a/1.jpg", "a/2.jpg"], ["b/2.jpg", "b/10.jpg"], ["c.jpg"]]
    chosen = choose("sequential:1", image_set(names))  # of images that cannot be read: nothing looks like them
    assert set(chosen.pairs) == {ImagePair("a/1.jpg", "a/2.jpg"), ImagePair("b/10.jpg", "b/2.jpg")}


def test_a_row_that_comes_back_is_closed_and_one_that_does_not_is_not() -> None:
    names = [f"{i:02}.jpg" for i in range(40)]
    place = np.arange(40)
    ring = np.minimum(np.abs(place[:, None] - place), 40 - np.abs(place[:, None] - place))
    found = loops(names, np.exp(-ring / 4.0).astype(np.float32), 5)
    assert ImagePair("00.jpg", "39.jpg") in found
    assert ImagePair("02.jpg", "38.jpg") in found
    assert all(40 - (int(p.name1[:2]) - int(p.name0[:2])) <= 5 for p in found)
    line = np.exp(-np.abs(place[:, None] - place) / 4.0).astype(np.float32)
    assert loops(names, line, 5) == ()
