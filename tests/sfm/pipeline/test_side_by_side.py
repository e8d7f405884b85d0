"""A run with two matchers: one model, what is kept of either, and runs that go from one matcher to two and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sfm.errors import BadOption
from sfm.matchers import registry as matcher_choice
from sfm.options import MatchingOptions
from sfm.pipeline.run import reconstruct
from sfm.registry import Entry
from sfm.results.run_json import run_title
from sfm.storage.database import FeatureDatabase
from sfm.types import ReconstructionSummary
from tests.support.arc_scene import OPTIONS, ExactMatcher, reused


class Second(ExactMatcher):
    name = "second"


@pytest.fixture
def matchers(monkeypatch) -> tuple[ExactMatcher, Second]:
    """What runs have for loftr, a grid that does not see image 0, and for sift, a detector that misses image 5."""
    first, second = ExactMatcher(cell=4, blind=(0,), batch_size=4), Second(blind=(5,), batch_size=4)
    monkeypatch.setitem(matcher_choice.MATCHERS.built_in, "loftr", Entry("", lambda *_: first))
    monkeypatch.setitem(matcher_choice.MATCHERS.built_in, "sift", Entry("", lambda *_: second))
    return first, second


def run(images: Path, out: Path, matcher: str, fallback: str = "off") -> ReconstructionSummary:
    return reconstruct(images, out, replace(OPTIONS, matching=MatchingOptions(matcher=matcher, fallback=fallback)))


def models(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("sparse/0/*.bin"))}


def test_two_matchers_make_one_model_of_what_either_sees(images, tmp_path, matchers):
    assert run(images, tmp_path / "first", "loftr").registered == 5
    assert run(images, tmp_path / "second", "sift").registered == 5
    summary = run(images, tmp_path / "both", "loftr+sift")
    assert summary.registered == 6
    with FeatureDatabase.open(tmp_path / "both" / "features.h5", "r") as db:
        found = [np.bincount(own.finder, minlength=2).tolist() for own in db.read_keypoints()]
        alone = {pair: len(db.read_matches(pair)) for pair in (each.pair for each in db.read_tried())}
    assert found[0][0] == found[5][1] == 0
    assert min(found[0][1], found[5][0], *found[2]) > 100
    assert min(alone.values()) == 0  # of images 0 and 5
    tracks = next(stage for stage in summary.stages if stage.stage == "tracks")
    by_first, by_second = (sum(each) for each in zip(*found, strict=True))
    assert tracks.notes == (f"keypoints: {by_first:,} by exact, {by_second:,} by second",)


def test_a_fallback_sees_what_the_first_matcher_does_not(images, tmp_path, matchers):
    summary = run(images, tmp_path / "out", "loftr", fallback="sift")
    assert summary.registered == 6
    with FeatureDatabase.open(tmp_path / "out" / "features.h5", "r") as db:
        found = [np.bincount(own.finder, minlength=2).tolist() for own in db.read_keypoints()]
    assert found[0][0] == 0  # of the first matcher
    matching, tracks = (next(s for s in summary.stages if s.stage == name) for name in ("matching", "tracks"))
    assert matching.counts["helped"] == 4  # image 0 with all but image 5
    by_first, by_second = (sum(each) for each in zip(*found, strict=True))
    assert tracks.notes == (f"keypoints: {by_first:,} by exact, {by_second:,} by sift",)
    record = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert record["matcher"] == {"matcher": "exact", "version": "1"}
    assert record["options"]["matching"]["fallback"] == "sift"
    assert reused(run(images, tmp_path / "out", "loftr", fallback="sift")) == [s.stage for s in summary.stages]


def test_without_a_fallback_nothing_is_left_of_it(images, tmp_path, matchers):
    assert run(images, tmp_path / "without", "loftr").registered == 5
    assert run(images, tmp_path / "out", "loftr", fallback="sift").registered == 6
    assert run(images, tmp_path / "out", "loftr").registered == 5
    assert models(tmp_path / "out") == models(tmp_path / "without")


def test_what_a_run_says_of_its_matchers(images, tmp_path, matchers):
    run(images, tmp_path / "out", "loftr+sift")
    record = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    expected = {"matcher": "exact+second", "exact.version": "1", "second.version": "1"}
    assert record["matcher"] == expected
    assert record["options"]["matching"]["matcher"] == "loftr+sift"
    assert run_title(record) == "exact + second"


def test_a_matcher_that_is_added_reuses_the_first_ones_matches(images, tmp_path, matchers):
    first, second = matchers
    run(images, tmp_path / "out", "loftr")
    before, num = models(tmp_path / "out"), len(first.matched)
    assert num == 15
    assert run(images, tmp_path / "out", "loftr+sift").registered == 6
    assert (len(first.matched), len(second.matched)) == (15, 15)
    fresh = run(images, tmp_path / "fresh", "loftr+sift")
    assert models(tmp_path / "out") == models(tmp_path / "fresh")
    again = run(images, tmp_path / "fresh", "loftr+sift")
    assert reused(again) == [stage.stage for stage in fresh.stages]
    run(images, tmp_path / "out", "loftr")
    assert models(tmp_path / "out") == before
    assert len(first.matched) == 30  # 15 of the fresh run


@pytest.mark.parametrize("pairs", [0, 8])
def test_a_run_that_is_stopped_in_the_second_matcher_carries_on(images, tmp_path, matchers, pairs):
    first, second = matchers
    run(images, tmp_path / "whole", "loftr+sift")
    first.matched.clear()
    second.matched.clear()
    second.fail_after = pairs
    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "out", "loftr+sift")
    second.fail_after = 10**9
    run(images, tmp_path / "out", "loftr+sift")
    assert (len(first.matched), len(second.matched)) == (15, 15)
    assert models(tmp_path / "out") == models(tmp_path / "whole")


def test_what_is_wrong_with_the_names_is_said_before_the_images_are_read(tmp_path, matchers):
    (tmp_path / "photos").mkdir()
    with pytest.raises(BadOption, match=r"--matcher loftr\+loftr: names loftr twice"):
        run(tmp_path / "photos", tmp_path / "out", "loftr+loftr")
    with pytest.raises(BadOption, match=r"--matcher sitf: choose one of .*; did you mean sift"):
        run(tmp_path / "photos", tmp_path / "out", "loftr+sitf")
