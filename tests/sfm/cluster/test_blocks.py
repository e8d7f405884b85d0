from __future__ import annotations

import random
from heapq import heappush
from itertools import combinations

import pytest

from sfm.cluster import blocks
from sfm.cluster.blocks import MAX_IMAGES, MAX_PAIRS, cut, pairs_a_block
from sfm.matching.rotations import RotatedPair
from sfm.types import ImagePair


def name(i: int) -> str:
    return f"{i:05d}.jpg"


def exhaustive(num: int) -> list[RotatedPair]:
    return [RotatedPair(ImagePair(name(i), name(j)), 0) for i, j in combinations(range(num), 2)]


def sequence(num: int, reach: int) -> list[RotatedPair]:
    return [
        RotatedPair(ImagePair(name(i), name(j)), 0) for i in range(num) for j in range(i + 1, min(num, i + reach + 1))
    ]


def scattered(num: int, partners: int) -> list[RotatedPair]:
    rng = random.Random(0)
    ends = {tuple(sorted(rng.sample(range(num), 2))) for _ in range(num * partners // 2)}
    return [RotatedPair(ImagePair(name(i), name(j)), 0) for i, j in sorted(ends)]


@pytest.mark.parametrize("tasks", [exhaustive(70), sequence(300, 10), scattered(150, 8), exhaustive(2), []])
def test_every_pair_is_in_one_block_and_blocks_are_bounded(tasks):
    blocks = cut(tasks)
    assert sorted(task for block in blocks for task in block.tasks) == sorted(tasks)
    for block in blocks:
        assert 0 < len(block.tasks) <= MAX_PAIRS
        assert len(block.images) <= MAX_IMAGES
        assert list(block.images) == sorted({end for pair, _ in block.tasks for end in (pair.name0, pair.name1)})


def test_blocks_depend_on_the_pairs_alone_not_on_their_order():
    tasks = sequence(80, 6)
    shuffled = random.Random(1).sample(tasks, len(tasks))
    assert cut(tasks) == cut(shuffled) == cut([*tasks, *tasks[:5]])


@pytest.mark.parametrize(
    ("tasks", "most"),
    [(exhaustive(100), 0.16), (sequence(500, 10), 0.16)],  # 20 images have 190 pairs; 30 in a row with reach 10, 245
    ids=["all pairs", "sequence"],
)
def test_images_are_encoded_rarely(tasks, most):
    blocks = cut(tasks)
    assert sum(len(block.images) for block in blocks) / len(tasks) < most
    assert len(blocks) < 1.15 * len(tasks) / MAX_PAIRS + 1


def test_a_rotated_image_counts_as_another():
    star = [RotatedPair(ImagePair("0", name(i)), rotation) for i in range(4) for rotation in range(4)]
    assert [len(block.tasks) for block in cut(star, max_images=5)] == [4, 4, 4, 4]


def test_an_image_with_many_partners_is_spread_over_blocks():
    star = [RotatedPair(ImagePair("0", name(i)), 0) for i in range(100)]
    assert sorted(len(block.tasks) for block in cut(star)) == [22, 39, 39]


def test_steps_grow_with_the_number_of_pairs(monkeypatch):
    pushed = 0

    def counted(heap, item):
        nonlocal pushed
        pushed += 1
        heappush(heap, item)

    def steps(num: int) -> int:
        nonlocal pushed
        pushed = 0
        cut(sequence(num, 10))
        return pushed

    monkeypatch.setattr(blocks, "heappush", counted)
    assert 0 < steps(2000) < 1.2 * 4 * steps(500)


@pytest.mark.parametrize(
    ("num_pairs", "num_workers", "expected"), [(10, 8, 16), (1000, 2, 83), (10**6, 8, 200), (45, 1, 16), (0, 4, 16)]
)
def test_few_pairs_are_spread_over_the_workers(num_pairs, num_workers, expected):
    assert pairs_a_block(num_pairs, num_workers) == expected
