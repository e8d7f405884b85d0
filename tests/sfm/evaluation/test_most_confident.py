"""most_confident: all sure matches, and so many of the best where these are few."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sfm.datasets.courtyard.demo_scene import copy_demo_scene
from sfm.datasets.training_pairs.textures import read_grey
from sfm.evaluation.most_confident import most_confident, two_view_matcher
from sfm.evaluation.options import TwoViewOptions
from sfm.types import Matches


def matches_of(confidence):
    points = np.arange(2.0 * len(confidence)).reshape(-1, 2)
    return Matches(points, points, np.array(confidence), *np.zeros((2, len(confidence)), np.int64))


@pytest.mark.parametrize(
    ("at_least", "expected"),
    [(0, [0.9, 0.5, 0.4]), (2, [0.9, 0.5, 0.4]), (4, [0.9, 0.5, 0.4, 0.3]), (9, [0.9, 0.5, 0.4, 0.3, 0.1])],
)
def test_the_sure_ones_or_so_many_of_the_best(at_least, expected):
    found = most_confident(matches_of([0.3, 0.9, 0.1, 0.4, 0.5]), sure=0.4, at_least=at_least)
    np.testing.assert_allclose(found.confidence, expected)
    assert found.points0[0].tolist() == [2, 3]  # of the second, which is the best


def test_a_network_gives_what_it_gave_and_less_sure_ones(tmp_path):
    copy_demo_scene(tmp_path)
    options = TwoViewOptions(weights="compact", device="cpu", resize=320)
    images = [read_grey(tmp_path / "images" / name) for name in ("view_00.jpg", "view_05.jpg")]

    def matched(at_least):
        matcher, select = two_view_matcher(replace(options, at_least=at_least))
        return select(matcher.match([tuple(matcher.encode(images))])[0])

    sure, more = matched(0), matched(4000)
    assert len(sure) > 100
    assert sure.confidence.min() >= 0.4
    assert len(more) > 2 * len(sure)
    rows = {tuple(row) for row in np.column_stack([more.points0, more.points1]).round(2).tolist()}
    assert all(tuple(row) in rows for row in np.column_stack([sure.points0, sure.points1]).round(2).tolist())


def test_a_detector_gives_what_it_gives():
    matcher, select = two_view_matcher(TwoViewOptions(matcher="sift"))
    few = matches_of([0.01, 0.02])
    assert select(few) is few
    assert matcher.name == "sift"
