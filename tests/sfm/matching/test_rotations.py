from __future__ import annotations

import time
from itertools import combinations

import numpy as np
import pytest

from sfm.matching.rotations import (
    FOUND,
    MOST_PROBES,
    NUM_BEST,
    ROTATIONS,
    ImageGroups,
    RotatedPair,
    find_rotations,
    find_ties,
    probe_order,
    strength,
)
from sfm.types import ImagePair, Matches


def world(rotations: list[int], overlap=lambda a, b: True):
    """Pairs of images taken with the camera rotated so, those that match as they are, and a measure that counts."""
    names = [f"{i:02d}" for i in range(len(rotations))]
    of = dict(zip(names, rotations, strict=True))
    pairs = [ImagePair(a, b) for a, b in combinations(names, 2)]
    asked: list[RotatedPair] = []

    def good(pair, rotation):
        return (rotation - of[pair.name0] + of[pair.name1]) % 4 == 0 and overlap(int(pair.name0), int(pair.name1))

    def measure(tasks):
        asked.extend(tasks)
        return {task: 0.05 if good(*task) else 0.003 for task in tasks}

    return pairs, [pair for pair in pairs if good(pair, 0)], measure, asked, good


def searched(pairs, tied, glance, measure, **options):
    groups = ImageGroups({name for pair in pairs for name in (pair.name0, pair.name1)}, tied)
    return find_rotations(pairs, groups, glance, measure, **options)


def test_strength_is_a_share_of_cells():
    confidence = [0.9, 0.9, 0.6, 0.49]
    matches = Matches(np.zeros((4, 2)), np.zeros((4, 2)), np.array(confidence), np.array([3, 3, 5, 7]), np.arange(4))
    assert strength(matches, 100) == 0.02
    assert strength(Matches.empty(), 0) == 0


def test_nothing_is_tried_where_all_images_are_tied():
    pairs, tied, measure, asked, _ = world([0] * 6)
    assert searched(pairs, tied, measure, measure) == []
    assert searched([], [], measure, measure) == []
    assert asked == []


@pytest.mark.parametrize("rotation", [1, 2, 3])
def test_a_rotated_group_is_found(rotation):
    pairs, tied, measure, asked, good = world([0] * 8 + [rotation] * 4)
    found = searched(pairs, tied, measure, measure)
    assert sorted(task.pair for task in found) == sorted(set(pairs) - set(tied))
    assert all(good(*task) for task in found)
    assert len(asked) == 8 * len(ROTATIONS) + NUM_BEST  # one round, and the best once more at full size


def test_many_turns_and_few_overlaps():
    rotations = [0, 0, 1, 1, 2, 2, 3, 3, 0, 2]
    pairs, tied, measure, _, good = world(rotations, lambda a, b: abs(a - b) <= 2)
    found = searched(pairs, tied, measure, measure)
    between = {task for pair in pairs for task in [RotatedPair(pair, t) for t in ROTATIONS] if good(*task)}
    assert between <= set(found)
    assert all(
        (task.rotation - rotations[int(task.pair.name0)] + rotations[int(task.pair.name1)]) % 4 == 0 for task in found
    )


def test_several_weak_pairs_speak_together():
    pairs, tied, _, _, good = world([0] * 4 + [2] * 4)
    weak = {True: 0.009, False: 0.003}

    def measure(tasks):
        return {task: weak[good(*task)] for task in tasks}

    assert {task.rotation for task in searched(pairs, tied, measure, measure, proposed=FOUND)} == {2}
    assert searched(pairs, tied, measure, measure) == []  # at small images more is asked for

    def alike(tasks):
        return dict.fromkeys(tasks, 0.02)

    assert searched(pairs, tied, alike, alike) == []  # no rotation is ahead


def test_a_glance_is_confirmed_at_full_size():
    """What looks rotated in small images only is not; the best pairs are asked about once, not all."""
    pairs, tied, glance, _, good = world([0] * 8 + [2] * 8)
    asked = []

    def measure(tasks):
        asked.append(list(tasks))
        return dict.fromkeys(tasks, 0.007)

    assert searched(pairs, tied, glance, measure) == []
    assert all(len(tasks) == NUM_BEST and all(good(*task) for task in tasks) for tasks in asked)
    assert len(asked) == len({frozenset(tasks) for tasks in asked}) <= 8


@pytest.mark.parametrize("num_groups", [1, 25, 500])
def test_probes_of_large_sets_are_bounded(num_groups):
    """1,000 images, each with its 15 next ones, in several parts: tries and time do not grow with the pairs."""
    names = [f"{i:04d}" for i in range(1000)]
    pairs = [ImagePair(names[i], names[j]) for i in range(1000) for j in range(i + 1, min(i + 16, 1000))]
    size = 500 // num_groups
    tied = [pair for pair in pairs if int(pair.name0) // size == int(pair.name1) // size]
    asked = []

    def glance(tasks):
        asked.extend(tasks)
        return dict.fromkeys(tasks, 0.004)

    start = time.perf_counter()
    assert searched(pairs, tied, glance, glance) == []
    assert len(asked) <= MOST_PROBES * len(ROTATIONS)
    assert time.perf_counter() - start < 10


def test_unrelated_groups_cost_a_bounded_number_of_tries():
    pairs, _, _, _, _ = world([0] * 40)
    tied = [pair for pair in pairs if int(pair.name0) // 10 == int(pair.name1) // 10]
    asked = []

    def measure(tasks):
        asked.extend(tasks)
        return dict.fromkeys(tasks, 0.004)

    assert searched(pairs, tied, measure, measure) == []
    assert len(asked) == len(set(asked)) <= len(ROTATIONS) * len(pairs) // 4


def test_probes_are_spread_over_both_groups():
    pairs, tied, _, _, _ = world([0] * 6 + [2] * 6)
    groups = ImageGroups({name for pair in pairs for name in (pair.name0, pair.name1)}, tied)
    order = probe_order(pairs, groups)
    assert len({name for pair in order[:6] for name in (pair.name0, pair.name1)}) == 12
    assert len(order) == len(set(order)) == 32


def test_groups_keep_turns_when_joined():
    groups = ImageGroups({"a", "b", "c", "d"}, [ImagePair("c", "d")])
    groups.join(ImagePair("a", "b"), 90.0)
    groups.join(ImagePair("b", "c"), 180.0)
    assert len(groups) == 1
    assert groups.rotation_of(ImagePair("a", "d")) == 3
    assert groups.rotation_of(ImagePair("c", "d")) == 0
    assert groups.rotation_of(ImagePair("b", "d")) == 2


def test_a_pair_in_doubt_ties_two_groups_only_if_a_geometry_says_so():
    """A rotated image whose false matches are as strong as a weak pair's true ones (turned_arch) stays apart."""
    a, b, c, d = "abcd"
    strengths = {
        ImagePair(a, b): 0.2,
        ImagePair(b, c): 0.015,
        ImagePair(a, c): 0.012,
        ImagePair(a, d): 0.0113,
        ImagePair(b, d): 0.009,
        ImagePair(c, d): 0.005,
    }
    asked = []

    def fits(pair):
        asked.append(pair)
        return d not in (pair.name0, pair.name1)

    assert find_ties(strengths, fits) == [ImagePair(a, b), ImagePair(b, c)]
    assert asked == [ImagePair(b, c), ImagePair(a, d)]  # a and c are of one group by then


def test_clear_ties_ask_for_no_geometry():
    pairs, *_ = world([0] * 5)
    assert find_ties(dict.fromkeys(pairs, 0.1), lambda pair: pytest.fail("asked")) == pairs
