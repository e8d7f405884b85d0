from __future__ import annotations

from sfm.pairs.exhaustive import all_pairs
from sfm.pairs.sequential import neighbours
from sfm.types import ImagePair

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
