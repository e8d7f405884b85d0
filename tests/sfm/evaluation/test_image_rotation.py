"""Which quarter turn two images match at: what is asked, and what is kept."""

from __future__ import annotations

import numpy as np
import pytest

from sfm.evaluation.image_rotation import TURNS, best_matches, best_rotation, glancing_matcher, hardly_match
from sfm.evaluation.options import TwoViewOptions
from sfm.matchers.rotated import RotatingMatcher
from sfm.types import Grid, MatcherTraits, Matches

SIZE = (96, 64)
GREY = np.arange(64 * 96, dtype=np.uint8).reshape(64, 96)
GREYS = (GREY, GREY)


class Turned:
    """Finds matches of a confidence of .9 by how far image 1 is rotated: what `numbers` says."""

    name, rotation_invariant, anchor, batch_size = "turned", False, 0.5, 4
    provenance, traits = {"matcher": "turned"}, MatcherTraits()

    def __init__(self, numbers):
        self.numbers = numbers
        self.asked = []

    def grid(self, width, height):
        return Grid(8, 8, width // 8, 8)

    def encode(self, images, masks=None):
        return [next(k for k in TURNS if np.array_equal(image, np.rot90(GREY, k))) for image in images]

    def match(self, pairs):
        self.asked += [rotation for _, rotation in pairs]
        counts = [self.numbers[rotation] for _, rotation in pairs]
        return [
            Matches(np.full((n, 2), 20.0), np.full((n, 2), 20.0), np.full(n, 0.9), np.arange(n), np.arange(n))
            for n in counts
        ]


def best(full, glance):
    full, glance = Turned(full), Turned(glance)
    (features0,) = RotatingMatcher(full).encode([(GREY, None, 0)])
    (upright,) = full.match([(0, 0)])
    matches, rotation = best_matches(upright, GREYS, features0, full, glance, lambda matches: matches)
    return len(matches), rotation, full.asked[1:], glance.asked


def test_one_pair_is_matched_again_as_the_glance_says():
    assert best([3, 4, 30, 2], [2, 1, 9, 3]) == (30, 2, [2], [0, 1, 2, 3])


def test_images_that_match_best_as_they_are_are_not_matched_again():
    assert best([3, 40, 40, 40], [9, 1, 9, 3]) == (3, 0, [], [0, 1, 2, 3])


def test_what_full_size_does_not_confirm_is_not_kept():
    assert best([3, 4, 3, 2], [2, 1, 9, 3]) == (3, 0, [2], [0, 1, 2, 3])


def test_ties_go_to_the_smaller_rotation():
    assert best_rotation({0: 1.0, 1: 2.0, 2: 2.0}) == 1
    assert best_rotation({3: 0.0, 0: 0.0}) == 0


@pytest.mark.parametrize(("number", "hardly"), [(0, True), (4, True), (5, False)])
def test_few_cells_with_a_strong_match_are_hardly_matches(number, hardly):
    (matches,) = Turned([number]).match([(0, 0)])  # of 96 cells
    assert hardly_match(matches, Turned([]), [SIZE, (960, 640)]) == hardly


def test_nothing_is_rotated_without_need_or_wish():
    assert glancing_matcher(Turned([]), TwoViewOptions()) is not None
    assert glancing_matcher(Turned([]), TwoViewOptions(turns="off")) is None
    invariant, detector = Turned([]), Turned([])
    invariant.rotation_invariant = True
    detector.grid = lambda width, height: None
    assert glancing_matcher(invariant, TwoViewOptions()) is None
    assert glancing_matcher(detector, TwoViewOptions()) is None
