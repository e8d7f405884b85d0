"""A verification that is stopped half way: what it has done is not done again, unless it depends on something else."""

from __future__ import annotations

from itertools import combinations

import h5py
import numpy as np
import pytest

from sfm.errors import BadFile
from sfm.options import VerificationOptions
from sfm.storage.database import FeatureDatabase
from sfm.types import ImagePair, StageSummary
from sfm.verification import stage as V
from tests.support.pair_scene import record, two_views

PAIRS = [ImagePair(a, b) for a, b in combinations("abcd", 2)]


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A database with matches of six pairs; verification keeps two pairs at a time."""
    monkeypatch.setattr(V, "BLOCK", 2)
    with FeatureDatabase.open(tmp_path / "features.h5") as db:
        db.write_images([record(name) for name in "abcd"])
        db.write_pairs(PAIRS)
        db.write_grids(dict.fromkeys("abcd", (8.0, 8.0, 128)))
        db.write_matches(
            [(pair, two_views(300, 0.2, seed=i)[0]) for i, pair in enumerate(PAIRS)], matcher_key="matcher"
        )
        for stage in ("images", "pairs", "matching"):
            db.commit(stage, fingerprint=stage, provenance={}, summary=StageSummary(stage, {}, 0.0))
    return tmp_path / "features.h5"


def stop_after(num_blocks, monkeypatch, path, options=VerificationOptions()):  # noqa: B008
    """Runs the stage and is interrupted; returns the pairs that were begun."""
    begun, verify = [], V.verify_each

    def interrupted(items, *args, **more):
        if len(begun) == 2 * num_blocks:
            raise KeyboardInterrupt
        begun.extend(pair for pair, _ in items)
        return verify(items, *args, **more)

    with monkeypatch.context() as patch, FeatureDatabase.open(path) as db:
        patch.setattr(V, "verify_each", interrupted)
        try:
            V.run(db, options)
        except KeyboardInterrupt:
            return begun
        db.commit("verification", fingerprint="v", provenance={}, summary=StageSummary("verification", {}, 0.0))
    return begun


def geometries(path):
    with FeatureDatabase.open(path, "r") as db:
        return db.read_two_view()


def test_a_stopped_run_carries_on_and_ends_as_one_that_was_not(path, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    whole = tmp_path / "other" / "features.h5"
    whole.write_bytes(path.read_bytes())
    assert stop_after(9, monkeypatch, whole) == PAIRS
    assert stop_after(1, monkeypatch, path) == PAIRS[:2]
    assert stop_after(1, monkeypatch, path) == PAIRS[2:4]
    assert stop_after(9, monkeypatch, path) == PAIRS[4:]
    for one, other in zip(geometries(path), geometries(whole), strict=True):
        assert (one.pair, one.kind) == (other.pair, other.kind)
        assert len(one.inliers) > 200
        np.testing.assert_array_equal(one.inliers, other.inliers)
        np.testing.assert_array_equal(one.cam1_from_cam0, other.cam1_from_cam0)
    with h5py.File(path) as file:
        assert not [name for name in file if name.startswith("two_view.")]


def test_other_options_and_other_matches_begin_anew(path, monkeypatch):
    assert stop_after(2, monkeypatch, path) == PAIRS[:4]
    other = VerificationOptions(max_error=3.0)
    assert stop_after(1, monkeypatch, path, other) == PAIRS[:2]
    assert stop_after(1, monkeypatch, path) == PAIRS[:2]  # the first ones are gone
    with FeatureDatabase.open(path) as db:
        db.commit("matching", fingerprint="other", provenance={}, summary=StageSummary("matching", {}, 0.0))
    assert stop_after(9, monkeypatch, path) == PAIRS


def test_parts_of_a_stranger_are_checked(path, monkeypatch):
    stop_after(1, monkeypatch, path)
    with h5py.File(path, "a") as file:
        file["two_view.0/image_idx"][0] = (0, 99)
    with pytest.raises(BadFile, match="beyond 4"):
        stop_after(9, monkeypatch, path)
