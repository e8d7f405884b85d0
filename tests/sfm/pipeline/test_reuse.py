"""What of a run is reused, and what is redone."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import sfm
import sfm.pipeline.run
from sfm.errors import BadFile, BadImage
from sfm.matching import prefetch
from sfm.options import MappingOptions, PairOptions, TrackOptions
from sfm.pairs import retrieval
from sfm.pipeline import stages
from sfm.pipeline.reuse import fingerprint_of
from sfm.pipeline.run import reconstruct
from sfm.storage.database import FeatureDatabase
from sfm.system.hashing import json_digest
from sfm.types import STAGE_NAMES, MatcherTraits
from tests.support.arc_scene import (
    ELSEWHERE,
    NUM,
    OPTIONS,
    reused,
    write_image,
)


def test_same_command_again_reuses_everything(copied, exact):
    summary = reconstruct(*copied, OPTIONS)
    assert reused(summary) == list(STAGE_NAMES)
    assert exact.matched == []
    assert summary.registered == NUM
    assert summary.models == ((copied[1] / "sparse" / "0", NUM),)


def test_touched_images_are_read_but_not_matched_again(copied):
    images, out = copied
    for image in images.iterdir():
        os.utime(image, (1, 1))
    assert reused(reconstruct(images, out, OPTIONS)) == list(STAGE_NAMES[1:])


def test_files_that_are_no_images_change_nothing_but_a_file_of_pairs_that_names_them(copied, tmp_path):
    images, out = copied
    names = sorted(path.name for path in images.iterdir())
    (images / "broken.jpg").write_text("text")
    summary = reconstruct(images, out, OPTIONS)
    assert "broken.jpg" in dict(summary.unregistered)
    assert reused(summary) == list(STAGE_NAMES[1:])
    listed = tmp_path / "pairs.txt"
    listed.write_text("\n".join([*(f"{a} {b}" for a, b in pairwise(names)), f"{names[0]} broken.jpg"]))
    options = replace(OPTIONS, pairs=PairOptions(str(listed)))
    reconstruct(images, out, options)
    (images / "broken.jpg").unlink()
    with pytest.raises(BadFile, match=r"broken\.jpg"):
        reconstruct(images, out, options)


@pytest.mark.parametrize(
    ("change", "first_redone"),
    [
        ({"tracks": TrackOptions(min_score=0.1)}, "tracks"),
        ({"pairs": PairOptions("sequential:3")}, "pairs"),
        ({"images": replace(OPTIONS.images, camera="per-image", intrinsics=None)}, "images"),
    ],
)
def test_changed_option_redoes_what_depends_on_it(copied, change, first_redone, exact):
    summary = reconstruct(*copied, replace(OPTIONS, **change))
    assert reused(summary) == list(STAGE_NAMES[: STAGE_NAMES.index(first_redone)])
    assert exact.matched == []


def test_refinement_is_redone_after_mapping_was_which_overwrites_its_database(copied):
    other = replace(OPTIONS, mapping=replace(OPTIONS.mapping, min_model_size=NUM))
    reconstruct(*copied, other, stop_after="mapping")
    assert reused(reconstruct(*copied, OPTIONS)) == list(STAGE_NAMES[: STAGE_NAMES.index("mapping")])


def test_another_matcher_matches_again_and_the_first_is_remembered(copied, exact):
    exact.version = "2"
    assert reused(reconstruct(*copied, OPTIONS)) == ["images", "pairs"]
    assert len(exact.matched) == NUM * (NUM - 1) // 2
    exact.version = "1"
    reconstruct(*copied, OPTIONS)
    assert len(exact.matched) == NUM * (NUM - 1) // 2


def test_one_more_image_matches_its_pairs_only(images, tmp_path, exact):
    (images / "5.png").rename(tmp_path / "5.png")
    assert reconstruct(images, tmp_path / "out", OPTIONS).registered == NUM - 1
    (tmp_path / "5.png").rename(images / "5.png")
    before = len(exact.matched)
    assert reconstruct(images, tmp_path / "out", OPTIONS).registered == NUM
    assert len(exact.matched) - before == NUM - 1


def test_lost_model_is_made_again(copied):
    images, out = copied
    shutil.rmtree(out / "sparse")
    assert reused(reconstruct(images, out, OPTIONS)) == list(STAGE_NAMES[:-1])
    assert (out / "sparse" / "0" / "images.bin").is_file()


def test_interrupted_run_carries_on(images, tmp_path, exact):
    exact.fail_after = 8
    with pytest.raises(KeyboardInterrupt):
        reconstruct(images, tmp_path / "out", OPTIONS)
    exact.fail_after = 100
    summary = reconstruct(images, tmp_path / "out", OPTIONS)
    assert reused(summary) == ["images", "pairs"]
    assert summary.stages[2].counts["reused"] == 8
    assert len(exact.matched) == 15
    assert summary.registered == NUM


def test_image_that_changes_after_matching_is_matched_again(images, tmp_path):
    def change(stage):
        if stage.stage == "mapping":
            write_image(images / "2.png", ELSEWHERE)

    with pytest.raises(BadImage, match=r"2\.png: has changed since it was indexed; run again"):
        reconstruct(images, tmp_path / "out", OPTIONS, on_stage=change)
    assert not (tmp_path / "out" / "sparse").exists()
    summary = reconstruct(images, tmp_path / "out", OPTIONS)
    assert summary.stages[2].counts["reused"] == 10
    assert dict(summary.unregistered)["2.png"].startswith("matched nothing")


def test_mapping_depends_on_the_content_of_known_poses_and_on_the_kind_of_matcher(copied, tmp_path):
    for name in ("cameras", "images", "points3D"):
        (tmp_path / f"{name}.txt").write_text(name)
    options = replace(OPTIONS, mapping=MappingOptions(known_poses=tmp_path))
    (mapping,) = (stage for stage in stages.STAGES if stage.name == "mapping")

    with FeatureDatabase.open(copied[1] / "features.h5", "r") as db:

        def depends_on(options):
            return mapping.depends_on(stages.Run(db, *copied, options, None))

        first = depends_on(options)
        assert depends_on(options) == first
        (tmp_path / "images.txt").write_text("other")
        assert depends_on(options) != first
        assert depends_on(OPTIONS) != depends_on(options)
        assert depends_on(OPTIONS)[-1] == "every matcher"  # the matcher is not dense: 0.1.0 did other things
        db.read_traits = lambda: MatcherTraits(dense=True)
        assert depends_on(OPTIONS) == ["incremental", None, 3, 0, True]


def test_stages_are_the_names_in_order_and_revision_one_is_hashed_as_version_010(tmp_path):
    assert tuple(stage.name for stage in stages.STAGES) == STAGE_NAMES
    stage = replace(stages.STAGES[1], depends_on=lambda run: ["auto"])
    run = stages.Run(None, tmp_path, tmp_path, OPTIONS, None)
    fingerprint = fingerprint_of(stage, run, {"images": "abc"})
    assert fingerprint == json_digest(["pairs", "0.1.0", ["auto"], ["abc"]])
    assert fingerprint_of(replace(stage, revision=2), run, {"images": "abc"}) != fingerprint


def test_another_revision_of_a_stage_redoes_it(copied, monkeypatch):
    changed = tuple(replace(stage, revision=stage.revision + (stage.name == "tracks")) for stage in stages.STAGES)
    monkeypatch.setattr(sfm.pipeline.run, "STAGES", changed)
    assert reused(reconstruct(*copied, OPTIONS)) == list(STAGE_NAMES[:4])


def test_image_that_fails_during_matching_is_tried_again(images, tmp_path, monkeypatch):
    real = prefetch.read_grey

    def failing(folder, record):
        if record.name == "2.png":
            raise BadImage(f"{folder / record.name}: the disk is away")
        return real(folder, record)

    with monkeypatch.context() as patch:
        patch.setattr(prefetch, "read_grey", failing)
        summary = reconstruct(images, tmp_path / "out", OPTIONS)
    assert summary.registered == NUM - 1
    assert "the disk is away (5 pairs skipped)" in dict(summary.unregistered)["2.png"]
    again = reconstruct(images, tmp_path / "out", OPTIONS)
    assert again.registered == NUM
    assert again.stages[2].counts["reused"] == 10


@pytest.fixture
def growing(monkeypatch):
    """Options with pairs that grow, of images that look the more alike the nearer they are on the arc."""
    place = np.arange(NUM)
    similarity = np.exp(-np.abs(place[:, None] - place) / 3).astype(np.float32)
    monkeypatch.setattr(retrieval, "similarity_of", lambda images: (images.names, similarity))
    return replace(OPTIONS, pairs=PairOptions("retrieval:4"))


def tried_of(out):
    with FeatureDatabase.open(out / "features.h5", "r") as db:
        return db.read_tried(), [geometry.pair for geometry in db.read_two_view()], db.read_pairs()


def test_pairs_that_grew_are_those_that_later_stages_see(copied, growing):
    images, out = copied
    reconstruct(images, out, growing)
    tried, verified, first = tried_of(out)
    assert [each.pair for each in tried] == verified
    assert {each.pair for each in tried if each.round == 1} == set(first)
    assert {each.round for each in tried} > {1}
    assert len(tried) < NUM * (NUM - 1) / 2
    stricter = replace(growing, verification=replace(growing.verification, min_inliers=20))
    assert reused(reconstruct(images, out, stricter)) == list(STAGE_NAMES[:3])  # verification reads what was matched
    assert tried_of(out) == (tried, verified, first)


def test_other_pairs_in_between_leave_nothing_behind(copied, growing):
    images, out = copied
    reconstruct(images, out, growing)
    grown = tried_of(out)
    reconstruct(images, out, OPTIONS)
    assert len(tried_of(out)[0]) == NUM * (NUM - 1) / 2
    with FeatureDatabase.open(out / "features.h5", "r") as db:
        assert db.read_candidates() is None
    reconstruct(images, out, growing)
    assert tried_of(out) == grown
