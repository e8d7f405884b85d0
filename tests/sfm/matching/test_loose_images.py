"""Which pairs of images that are tied to few others are tried: the nearest first, and how many."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from sfm.match_graph import Candidates, reason_number
from sfm.matching.growth import JUDGED
from sfm.matching.loose_images import TRIES, LooseImages
from sfm.types import ImagePair


def table(pairs: list[tuple[int, int, float, str]]) -> Candidates:
    rows, likeness, reason = zip(*((p[:2], p[2], reason_number(p[3])) for p in sorted(pairs)), strict=True)
    return Candidates(np.array(rows), np.array(likeness, np.float32), np.array(reason), 1000)


def test_near_ones_come_first_and_an_image_is_tried_a_bounded_number_of_times():
    names = [f"{i:02}" for i in range(20)]
    candidates = table([(0, i, 0.9 - 0.01 * i, "near" if i in (7, 9) else "alike") for i in range(1, 20)])
    loose = LooseImages(names, candidates)
    ties = frozenset(ImagePair(a, b) for a, b in combinations(names[1:], 2))
    rounds = []
    while pairs := loose.next(ties):
        rounds.append([int(pair.name1) for pair in pairs])
    assert rounds == [[7, 9], [1, 2], [3, 4], [5, 6]]
    assert sum(map(len, rounds)) == TRIES[1]


def test_images_with_enough_ties_are_left():
    names = [f"{i:02}" for i in range(6)]
    candidates = table([(i, j, 0.5, "alike") for i, j in combinations(range(6), 2)])
    every = frozenset(ImagePair(a, b) for a, b in combinations(names, 2))
    assert LooseImages(names, candidates).next(every) == []
    two_short = frozenset(pair for pair in every if names[5] not in (pair.name0, pair.name1))
    assert all(names[5] in (pair.name0, pair.name1) for pair in LooseImages(names, candidates).next(two_short))


def test_it_is_given_up_where_hardly_anything_is_found():
    names = [f"{i:03}" for i in range(400)]
    candidates = table([(i, j, 0.5, "alike") for i in range(400) for j in range(i + 1, min(i + 9, 400))])
    loose, asked = LooseImages(names, candidates), 0
    while pairs := loose.next(frozenset()):
        asked += len(pairs)
    assert asked == JUDGED
