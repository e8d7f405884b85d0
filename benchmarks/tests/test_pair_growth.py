"""The replay of pair growth, on a run of an exact scene that matched all pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.pair_growth import line, replayed
from sfm.match_graph import TriedPair
from sfm.matchers import registry
from sfm.pairs import retrieval
from sfm.pairs.base import ImageSet
from sfm.pipeline.run import open_run
from sfm.registry import Entry
from sfm.storage.database import FeatureDatabase
from sfm.types import ImagePair
from tests.support.arc_scene import NUM, OPTIONS, ExactMatcher, write_images


def test_a_replay_is_what_a_run_would_match(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = np.arange(NUM)
    similarity = np.exp(-np.abs(place[:, None] - place) / 3).astype(np.float32)
    monkeypatch.setattr(retrieval, "similarity_of", lambda images: (images.names, similarity))
    monkeypatch.setitem(registry.MATCHERS.built_in, "loftr", Entry("", lambda *_: ExactMatcher(batch_size=4)))
    folder = write_images(tmp_path / "images")
    with open_run(folder, tmp_path / "all", OPTIONS) as run:
        run.run_stage("verification")
    with open_run(folder, tmp_path / "grown", pairs="retrieval:4", camera_model="SIMPLE_PINHOLE") as run:
        run.run_stage("matching")
        grown = run.db.read_tried()
    with FeatureDatabase.open(tmp_path / "all" / "features.h5", "r") as db:
        images = ImageSet(db.read_images(), folder)
        tried, missing = replayed(db, images, "retrieval:4")
        every, none_missing = replayed(db, images, "exhaustive")
    assert tuple(tried) == grown
    assert missing == none_missing == 0
    assert len(every) == NUM * (NUM - 1) / 2


def test_shares_are_counted_and_weighed() -> None:
    pairs = [ImagePair("a", name) for name in "bcde"]
    text = line("x", [TriedPair(pair) for pair in pairs[:2]], 3, {pairs[0]: 60, pairs[3]: 40}, 0.0)
    assert (
        "2 tried       1 verified (50.0%), 50.0% of all, 60.0% by inliers; 1 rounds [2]; 2 chosen; 3 not there" in text
    )
