"""Evaluation on an exact scene: every pair once, in its own order, and again only where something changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sfm.errors import BadImage
from sfm.evaluation.options import TwoViewOptions
from sfm.evaluation.pair_runner import EvaluatedPair, ImageFolder, PairProtocol, run_pairs
from sfm.evaluation.result_log import ResultLog
from sfm.images.index import read_images_index
from sfm.options import ImageOptions
from tests.support.arc_scene import ExactMatcher, SeenPoints, project
from tests.support.posed_images import NAMES, write_posed_images

PAIRS = [EvaluatedPair(NAMES[a], NAMES[b]) for a, b in [(0, 1), (2, 1), (0, 3), (1, 3)]]


@pytest.fixture
def images(tmp_path) -> ImageFolder:
    folder = write_posed_images(tmp_path / "scene") / "images"
    return ImageFolder(folder, {r.name: r for r in read_images_index(folder, ImageOptions())[0]})


@pytest.fixture
def how(tmp_path) -> PairProtocol:
    def evaluate(pair, points0, points1):
        return {"pair": [pair.name0, pair.name1], "first": [*points0[0], *points1[0]]}

    return PairProtocol(
        ExactMatcher(),
        lambda matches: matches,
        TwoViewOptions(no_align=True),
        evaluate,
        ["test"],
        ResultLog(tmp_path / "log.jsonl"),
    )


def test_each_pair_is_evaluated_in_its_own_order(images, how) -> None:
    results = run_pairs(images, PAIRS, how, desc="")
    assert [tuple(r["pair"]) for r in results] == [(p.name0, p.name1) for p in PAIRS]
    for (a, b), result in zip([(0, 1), (2, 1), (0, 3), (1, 3)], results, strict=True):
        first = np.intersect1d(SeenPoints(a).index, SeenPoints(b).index)[0]
        np.testing.assert_allclose(result["first"], [*project(a)[first], *project(b)[first]], rtol=1e-5)


def test_a_pair_in_both_orders_is_matched_once(images, how) -> None:
    there, back = run_pairs(
        images, [EvaluatedPair(NAMES[0], NAMES[1]), EvaluatedPair(NAMES[1], NAMES[0])], how, desc=""
    )
    assert there["first"] == back["first"][2:] + back["first"][:2]
    assert len(how.matcher.matched) == 1


def test_after_an_interruption_no_pair_is_matched_twice(images, how) -> None:
    stopped = replace(how, matcher=ExactMatcher(fail_after=3))
    with pytest.raises(KeyboardInterrupt):
        run_pairs(images, PAIRS, stopped, desc="")
    kept = len(how.log.path.read_text().splitlines())
    assert kept >= len(stopped.matcher.matched) - 1  # at most the last batch is lost
    run_pairs(images, PAIRS, how, desc="")
    assert len(how.matcher.matched) == len(PAIRS) - kept
    again = replace(how, matcher=ExactMatcher())
    assert len(run_pairs(images, PAIRS, again, desc="")) == len(PAIRS)
    assert again.matcher.matched == []


def test_what_changed_is_evaluated_again(images, how) -> None:
    run_pairs(images, PAIRS, how, desc="")
    for other in (replace(how, evaluation_key=["other"]), replace(how, matcher=ExactMatcher(version="2"))):
        fresh = replace(other, matcher=ExactMatcher(version=other.matcher.version))
        run_pairs(images, PAIRS, fresh, desc="")
        assert len(fresh.matcher.matched) == len(PAIRS)
    one = [replace(PAIRS[0], depends_on=[1.0]), *PAIRS[1:]]
    fresh = replace(how, matcher=ExactMatcher())
    run_pairs(images, one, fresh, desc="")
    assert fresh.matcher.matched == [(0, 1)]


def test_a_image_that_is_gone_ends_the_run_in_one_line(images, how) -> None:
    (images.folder / NAMES[1]).unlink()
    with pytest.raises(BadImage, match=NAMES[1]):
        run_pairs(images, PAIRS, how, desc="")
