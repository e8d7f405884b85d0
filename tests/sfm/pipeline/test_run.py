"""A run over all stages, and stage by stage."""

from __future__ import annotations

import json
from dataclasses import replace

import pycolmap
import pytest

import sfm
import sfm.pipeline.run
from sfm.errors import BadFile, BadImage, BadOption
from sfm.export.hloc import write_hloc
from sfm.export.registry import export
from sfm.export.source import ExportSource
from sfm.images import index
from sfm.images.discovery import find_images
from sfm.options import ImageOptions, MappingOptions, MatchingOptions, PairOptions, ReportOptions
from sfm.pipeline import stages
from sfm.pipeline.run import reconstruct
from sfm.pipeline.stages import HlocFiles
from sfm.storage.database import FeatureDatabase
from sfm.tracks.thinning import BYTES_PER_OBSERVATION
from sfm.types import STAGE_NAMES
from tests.support.arc_scene import (
    NUM,
    OPTIONS,
    reused,
    write_image,
)


def test_report_is_of_this_run(copied):
    images, out = copied
    path = out / "report.html"
    reconstruct(images, out, OPTIONS)
    first = path.stat().st_ino
    reconstruct(images, out, OPTIONS)
    assert path.stat().st_ino == first
    path.unlink()
    reconstruct(images, out, replace(OPTIONS, report=ReportOptions(no_report=True)))
    assert not path.exists()
    reconstruct(images, out, OPTIONS, stop_after="tracks")
    assert not path.exists()
    reconstruct(images, out, OPTIONS)
    assert '"0.png","1.png"' in path.read_text()


def test_stages_say_their_peak_memory(finished):
    run = json.loads((finished[1] / "run.json").read_text())
    assert all(20 < stage["peak_mb"] < 20_000 for stage in run["stages"])


def test_little_memory_gives_a_sparser_model_and_says_so(copied):
    images, out = copied
    whole = reconstruct(images, out, OPTIONS)
    budget = 1000 * BYTES_PER_OBSERVATION  # there are some 3,300 observations
    options = replace(OPTIONS, matching=MatchingOptions(memory=budget / 1e9))
    redone = []
    thinned = reconstruct(images, out, options, on_stage=redone.append)
    assert {stage.stage for stage in redone if not stage.reused} >= {"tracks", "mapping"}
    assert {stage.stage for stage in redone if stage.reused} >= {"matching", "verification"}
    assert thinned.registered == whole.registered == NUM
    assert 800 < sum(p.track.length() for p in pycolmap.Reconstruction(thinned.model_dir).points3D.values()) <= 1000
    notes = " ".join(note for stage in redone for note in stage.notes)
    assert "of 3," in notes
    assert "observations were kept; a larger --memory keeps more" in notes


@pytest.mark.parametrize("stage", STAGE_NAMES[:-1])
def test_stop_after(images, tmp_path, stage):
    summary = reconstruct(images, tmp_path / "out", OPTIONS, stop_after=stage)
    assert summary.stages[-1].stage == stage
    models = ((tmp_path / "out" / "unrefined" / "0", 6),) if stage == "mapping" else ()
    assert summary.models == models
    assert summary.model_dir == (models[0][0] if models else None)
    with FeatureDatabase.open(tmp_path / "out" / "features.h5", "r") as db:
        assert set(db.stages()) == set(STAGE_NAMES[: STAGE_NAMES.index(stage) + 1])


def test_image_that_changes_between_indexing_and_matching_is_left_out(images, tmp_path):
    """Of the same size, so that nothing but its bytes tells."""

    def change(stage):
        if stage.stage == "images":
            write_image(images / "2.png", 4)

    summary = reconstruct(images, tmp_path / "out", OPTIONS, on_stage=change)
    assert summary.registered == NUM - 1
    assert "2.png: has changed since it was indexed; run again" in dict(summary.unregistered)["2.png"]
    write_image(images / "2.png", 2)
    assert reconstruct(images, tmp_path / "out", OPTIONS).registered == NUM


def test_image_that_goes_away_after_matching_is_one_line(images, tmp_path):
    def remove(stage):
        if stage.stage == "mapping":
            (images / "2.png").unlink()

    with pytest.raises(BadImage, match=r"2\.png: no such file"):
        reconstruct(images, tmp_path / "out", OPTIONS, on_stage=remove)
    assert reconstruct(images, tmp_path / "out", OPTIONS).registered == NUM - 1


def test_image_that_goes_away_while_the_folder_is_listed(images, tmp_path, monkeypatch):
    found = find_images(images)
    (images / "2.png").unlink()
    for module in (stages, index):
        monkeypatch.setattr(module, "find_images", lambda *_, **__: found)
    summary = reconstruct(images, tmp_path / "out", OPTIONS)
    assert summary.registered == NUM - 1
    assert "no such file" in dict(summary.unregistered)["2.png"]


def test_hlocs_files_carry_on(finished, tmp_path, exact):
    images, out = finished
    features, matches = tmp_path / "features.h5", tmp_path / "matches.h5"
    with FeatureDatabase.open(out / "features.h5", "r") as db:
        write_hloc(db, features=features, matches=matches, pairs=tmp_path / "pairs.txt")
    summary = reconstruct(images, tmp_path / "out", OPTIONS, imported=HlocFiles(features, matches))
    assert summary.registered == NUM
    assert exact.matched == []
    assert reused(reconstruct(images, tmp_path / "out", OPTIONS, imported=HlocFiles(features, matches))) == [
        name for name in STAGE_NAMES if name != "pairs"
    ]
    with pytest.raises(BadOption, match="--stop-after pairs: choose one of images, matching, verification"):
        reconstruct(images, tmp_path / "out", OPTIONS, imported=HlocFiles(features, matches), stop_after="pairs")


def test_bad_input_is_one_line_before_any_work(images, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(BadFile, match="no such folder"):
        reconstruct(tmp_path / "absent", out, OPTIONS)
    assert not out.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(BadFile, match="is a file"):
        reconstruct(images, tmp_path / "file", OPTIONS)
    with pytest.raises(BadFile, match="cannot be written"):
        reconstruct(images, tmp_path / "file" / "below", OPTIONS)
    with pytest.raises(BadOption, match="--stop-after cooking"):
        reconstruct(images, out, OPTIONS, stop_after="cooking")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadFile, match="no images"):
        reconstruct(tmp_path / "empty", out, OPTIONS)
    write_image(tmp_path / "empty" / "one.png", 1)
    with pytest.raises(BadImage, match="at least two"):
        reconstruct(tmp_path / "empty", out, OPTIONS)
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("0.png absent.png\n")
    with pytest.raises(BadFile, match=r"absent\.png"):
        reconstruct(images, out, replace(OPTIONS, pairs=PairOptions(str(pairs))))


def test_known_poses_are_looked_at_before_the_matching(images, tmp_path, exact):
    options = replace(OPTIONS, mapping=MappingOptions(known_poses=tmp_path / "absent"))
    with pytest.raises(BadFile, match="absent: no such folder"):
        reconstruct(images, tmp_path / "out", options)
    assert exact.matched == []


def test_options_as_keywords_and_paths_as_strings(images, tmp_path):
    out = str(tmp_path / "out")
    keywords = {"camera_model": "SIMPLE_PINHOLE", "camera": "single", "intrinsics": "384,160,120"}
    summary = sfm.reconstruct(str(images), out, stop_after="tracks", **keywords)
    assert [stage.stage for stage in summary.stages] == list(STAGE_NAMES[:5])
    assert reused(reconstruct(images, out, OPTIONS, stop_after="tracks")) == list(STAGE_NAMES[:5])
    with pytest.raises(BadOption, match="matcher: give options either"):
        sfm.reconstruct(images, out, OPTIONS, matcher="sift")


def test_stages_one_by_one(images, tmp_path):
    with sfm.open_run(images, tmp_path / "out", OPTIONS) as run:
        assert run.run_stage("images").counts["images"] == NUM
        assert len(run.db.read_images()) == NUM
        assert run.run_stage("matching").counts["pairs"] == NUM * (NUM - 1) // 2
        assert [summary.stage for summary in run.summaries] == ["images", "pairs", "matching"]
        assert run.run_stage("pairs") == run.summaries[1]
        with pytest.raises(BadOption, match="stage cooking: choose one of images, pairs"):
            run.run_stage("cooking")
    assert reused(reconstruct(images, tmp_path / "out", OPTIONS)) == ["images", "pairs", "matching"]
    with sfm.open_run(images, tmp_path / "out", OPTIONS) as run:
        assert run.run_stage("refinement").counts["registered"] == NUM
        assert all(summary.reused for summary in run.summaries)


@pytest.mark.parametrize("place", ["out", "sub/out", "."])
def test_results_among_the_images_are_not_taken_for_images(images, place):
    out = images / place
    assert reconstruct(images, out, OPTIONS).registered == NUM
    for format in ("nerfstudio", "undistorted"):
        export(ExportSource.of_run(out), out / format, format)
    again = reconstruct(images, out, OPTIONS)
    assert (again.images, again.registered) == (NUM, NUM)
    assert set(reused(again)) >= set(STAGE_NAMES[1:])
    assert again.stages[0].notes == (
        () if place != "." else ("folders of results of earlier runs (nerfstudio, undistorted) are left out",)
    )
    if place != ".":
        other = reconstruct(images, images / "second", OPTIONS)
        assert (other.images, other.registered) == (NUM, NUM)
        assert other.stages[0].notes == (f"folders of results of earlier runs ({place}) are left out",)


def test_exports_that_would_overwrite_images_are_refused(images):
    reconstruct(images, images / "out", OPTIONS)
    for dest in (images, images / "new"):
        with pytest.raises(BadOption, match="overlaps the images"):
            export(ExportSource.of_run(images / "out"), dest, "nerfstudio")


def test_a_file_in_place_of_the_images(images, tmp_path):
    with pytest.raises(BadFile, match=r"0\.png: is a file; give the folder that it is in, or a video"):
        reconstruct(images / "0.png", tmp_path / "out", OPTIONS)


def test_masks_that_are_not_there(images, tmp_path):
    options = replace(OPTIONS, images=ImageOptions(masks=tmp_path / "nosuch"))
    with pytest.raises(BadFile, match=r"--masks .*nosuch: no such folder; give the folder of masks"):
        reconstruct(images, tmp_path / "out", options)


@pytest.mark.parametrize("pairs", ["sequental", "exhaustive+nofile.txt", "nofile.txt"])
def test_pairs_that_nobody_knows_are_said_before_the_images_are_read(tmp_path, pairs):
    (tmp_path / "photos").mkdir()
    with pytest.raises(BadFile, match=r"--pairs \S+: no such file, and none of auto, exhaustive"):
        reconstruct(tmp_path / "photos", tmp_path / "out", pairs=pairs)
    assert not (tmp_path / "out" / "features.h5").exists()


def test_weights_that_do_not_exist_are_said_before_the_images_are_read(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(BadFile, match=r"outdor: no such weights; .*; did you mean outdoor\?"):
        reconstruct(tmp_path / "photos", tmp_path / "out", weights="outdor")
