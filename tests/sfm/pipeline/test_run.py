from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest

import sfm
import sfm.pipeline.run
from sfm.cli import main as cli
from sfm.errors import BadFile, BadImage, BadOption, NoModel
from sfm.export.hloc import write_hloc
from sfm.images import index
from sfm.images.discovery import find_images
from sfm.matchers import registry as matcher_choice
from sfm.matching import prefetch
from sfm.options import ImageOptions, MappingOptions, MatchingOptions, Options, PairOptions, ReportOptions, TrackOptions
from sfm.pipeline import stages
from sfm.pipeline.reuse import fingerprint_of
from sfm.pipeline.run import reconstruct
from sfm.pipeline.stages import HlocFiles
from sfm.registry import Entry
from sfm.results.console import PROBABLY_BAD
from sfm.storage.database import FeatureDatabase
from sfm.system.hashing import json_digest
from sfm.tracks.thinning import BYTES_PER_OBSERVATION
from sfm.types import STAGE_NAMES
from tests.support.arc_scene import ELSEWHERE, NUM, ExactMatcher, pose, write_image, write_images

OPTIONS = Options(images=ImageOptions(camera_model="SIMPLE_PINHOLE", camera="single", intrinsics="384,160,120"))


@pytest.fixture(autouse=True)
def exact(monkeypatch) -> ExactMatcher:
    """What runs match with in place of LoFTR."""
    matcher = ExactMatcher(batch_size=4)
    monkeypatch.setitem(matcher_choice.MATCHERS.built_in, "loftr", Entry("", lambda *_: matcher))
    monkeypatch.setattr(pycolmap.logging, "minloglevel", 2)
    return matcher


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_images(tmp_path / "photos")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, Path]:
    """Photos and the results of one run over them; copy before you change them."""
    root = tmp_path_factory.mktemp("finished")
    write_images(root / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(matcher_choice.MATCHERS.built_in, "loftr", Entry("", lambda *_: ExactMatcher(batch_size=4)))
        reconstruct(root / "photos", root / "out", OPTIONS)
    return root / "photos", root / "out"


@pytest.fixture
def copied(finished, tmp_path) -> tuple[Path, Path]:
    """A copy of the finished run."""
    shutil.copytree(finished[0], tmp_path / "photos", copy_function=shutil.copy2)
    shutil.copytree(finished[1], tmp_path / "out")
    return tmp_path / "photos", tmp_path / "out"


def reused(summary) -> list[str]:
    return [stage.stage for stage in summary.stages if stage.reused]


def test_model_has_the_true_geometry(finished):
    model = pycolmap.Reconstruction(finished[1] / "sparse" / "0")
    assert model.num_reg_images() == NUM
    assert model.compute_mean_reprojection_error() < 0.05
    by_name = {image.name: image.cam_from_world().matrix() for image in model.images.values()}
    for i in range(NUM - 1):
        true = pose(i + 1)[:, :3] @ pose(i)[:, :3].T
        found = by_name[f"{i + 1}.png"][:, :3] @ by_name[f"{i}.png"][:, :3].T
        np.testing.assert_allclose(found, true, atol=1e-3)


def test_run_json_says_what_the_model_says(finished):
    run = json.loads((finished[1] / "run.json").read_text())
    model = pycolmap.Reconstruction(finished[1] / "sparse" / "0")
    assert (run["images"], run["registered"]) == (NUM, NUM)
    assert run["points3D"] == model.num_points3D()
    assert run["observations"] == model.compute_num_observations()
    assert run["mean_track_length"] == pytest.approx(model.compute_mean_track_length())
    assert run["models"] == [{"path": "sparse/0", "images": NUM}]
    assert [stage["stage"] for stage in run["stages"]] == list(STAGE_NAMES)
    assert run["matcher"] == {"matcher": "exact", "version": "1"}
    assert run["options"]["images"]["camera"] == "single"
    assert run["versions"]["pycolmap"] == pycolmap.__version__
    assert run["error"] is None


def test_same_command_again_reuses_everything(copied, exact):
    summary = reconstruct(*copied, OPTIONS)
    assert reused(summary) == list(STAGE_NAMES)
    assert exact.matched == []
    assert summary.registered == NUM
    assert summary.models == ((copied[1] / "sparse" / "0", NUM),)


def test_report_is_of_this_run(copied):
    photos, out = copied
    path = out / "report.html"
    reconstruct(photos, out, OPTIONS)
    first = path.stat().st_ino
    reconstruct(photos, out, OPTIONS)
    assert path.stat().st_ino == first
    path.unlink()
    reconstruct(photos, out, replace(OPTIONS, report=ReportOptions(no_report=True)))
    assert not path.exists()
    reconstruct(photos, out, OPTIONS, stop_after="tracks")
    assert not path.exists()
    reconstruct(photos, out, OPTIONS)
    assert '"0.png","1.png"' in path.read_text()


def test_stages_say_their_peak_memory(finished):
    run = json.loads((finished[1] / "run.json").read_text())
    assert all(20 < stage["peak_mb"] < 20_000 for stage in run["stages"])


def test_touched_photos_are_read_but_not_matched_again(copied):
    photos, out = copied
    for photo in photos.iterdir():
        os.utime(photo, (1, 1))
    assert reused(reconstruct(photos, out, OPTIONS)) == list(STAGE_NAMES[1:])


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


def test_little_memory_gives_a_sparser_model_and_says_so(copied):
    photos, out = copied
    whole = reconstruct(photos, out, OPTIONS)
    budget = 1000 * BYTES_PER_OBSERVATION  # there are some 3,300 observations
    options = replace(OPTIONS, matching=MatchingOptions(memory=budget / 1e9))
    redone = []
    thinned = reconstruct(photos, out, options, on_stage=redone.append)
    assert {stage.stage for stage in redone if not stage.reused} >= {"tracks", "mapping"}
    assert {stage.stage for stage in redone if stage.reused} >= {"matching", "verification"}
    assert thinned.registered == whole.registered == NUM
    assert 800 < sum(p.track.length() for p in pycolmap.Reconstruction(thinned.model_dir).points3D.values()) <= 1000
    notes = " ".join(note for stage in redone for note in stage.notes)
    assert "of 3," in notes
    assert "observations were kept; a larger --memory keeps more" in notes


def test_another_matcher_matches_again_and_the_first_is_remembered(copied, exact):
    exact.version = "2"
    assert reused(reconstruct(*copied, OPTIONS)) == ["images", "pairs"]
    assert len(exact.matched) == NUM * (NUM - 1) // 2
    exact.version = "1"
    reconstruct(*copied, OPTIONS)
    assert len(exact.matched) == NUM * (NUM - 1) // 2


def test_one_more_photo_matches_its_pairs_only(photos, tmp_path, exact):
    (photos / "5.png").rename(tmp_path / "5.png")
    assert reconstruct(photos, tmp_path / "out", OPTIONS).registered == NUM - 1
    (tmp_path / "5.png").rename(photos / "5.png")
    before = len(exact.matched)
    assert reconstruct(photos, tmp_path / "out", OPTIONS).registered == NUM
    assert len(exact.matched) - before == NUM - 1


def test_lost_model_is_made_again(copied):
    photos, out = copied
    shutil.rmtree(out / "sparse")
    assert reused(reconstruct(photos, out, OPTIONS)) == list(STAGE_NAMES[:-1])
    assert (out / "sparse" / "0" / "images.bin").is_file()


@pytest.mark.parametrize("stage", STAGE_NAMES[:-1])
def test_stop_after(photos, tmp_path, stage):
    summary = reconstruct(photos, tmp_path / "out", OPTIONS, stop_after=stage)
    assert summary.stages[-1].stage == stage
    models = ((tmp_path / "out" / "unrefined" / "0", 6),) if stage == "mapping" else ()
    assert summary.models == models
    with FeatureDatabase.open(tmp_path / "out" / "features.h5", "r") as db:
        assert set(db.stages()) == set(STAGE_NAMES[: STAGE_NAMES.index(stage) + 1])


def test_interrupted_run_carries_on(photos, tmp_path, exact):
    exact.fail_after = 8
    with pytest.raises(KeyboardInterrupt):
        reconstruct(photos, tmp_path / "out", OPTIONS)
    exact.fail_after = 100
    summary = reconstruct(photos, tmp_path / "out", OPTIONS)
    assert reused(summary) == ["images", "pairs"]
    assert summary.stages[2].counts["reused"] == 8
    assert len(exact.matched) == 15
    assert summary.registered == NUM


def test_every_photo_left_out_has_its_reason(photos, tmp_path):
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    write_image(photos / "elsewhere.png", ELSEWHERE)
    summary = reconstruct(photos, tmp_path / "out", OPTIONS)
    assert (summary.images, summary.registered) == (NUM + 2, NUM)
    reasons = dict(summary.unregistered)
    assert set(reasons) == {"broken.jpg", "elsewhere.png"}
    assert reasons["broken.jpg"].startswith("skipped: ")
    assert reasons["elsewhere.png"].startswith("matched nothing")


def test_photo_that_fails_during_matching_is_tried_again(photos, tmp_path, monkeypatch):
    real = prefetch.read_grey

    def failing(folder, record):
        if record.name == "2.png":
            raise BadImage(f"{folder / record.name}: the disk is away")
        return real(folder, record)

    with monkeypatch.context() as patch:
        patch.setattr(prefetch, "read_grey", failing)
        summary = reconstruct(photos, tmp_path / "out", OPTIONS)
    assert summary.registered == NUM - 1
    assert "the disk is away (5 pairs skipped)" in dict(summary.unregistered)["2.png"]
    again = reconstruct(photos, tmp_path / "out", OPTIONS)
    assert again.registered == NUM
    assert again.stages[2].counts["reused"] == 10


def test_photo_that_changes_between_indexing_and_matching_is_left_out(photos, tmp_path):
    """Of the same size, so that nothing but its bytes tells."""

    def change(stage):
        if stage.stage == "images":
            write_image(photos / "2.png", 4)

    summary = reconstruct(photos, tmp_path / "out", OPTIONS, on_stage=change)
    assert summary.registered == NUM - 1
    assert "2.png: has changed since it was indexed; run again" in dict(summary.unregistered)["2.png"]
    write_image(photos / "2.png", 2)
    assert reconstruct(photos, tmp_path / "out", OPTIONS).registered == NUM


def test_photo_that_changes_after_matching_is_matched_again(photos, tmp_path):
    def change(stage):
        if stage.stage == "mapping":
            write_image(photos / "2.png", ELSEWHERE)

    with pytest.raises(BadImage, match=r"2\.png: has changed since it was indexed; run again"):
        reconstruct(photos, tmp_path / "out", OPTIONS, on_stage=change)
    assert not (tmp_path / "out" / "sparse").exists()
    summary = reconstruct(photos, tmp_path / "out", OPTIONS)
    assert summary.stages[2].counts["reused"] == 10
    assert dict(summary.unregistered)["2.png"].startswith("matched nothing")


def test_photo_that_goes_away_after_matching_is_one_line(photos, tmp_path):
    def remove(stage):
        if stage.stage == "mapping":
            (photos / "2.png").unlink()

    with pytest.raises(BadImage, match=r"2\.png: no such file"):
        reconstruct(photos, tmp_path / "out", OPTIONS, on_stage=remove)
    assert reconstruct(photos, tmp_path / "out", OPTIONS).registered == NUM - 1


def test_photo_that_goes_away_while_the_folder_is_listed(photos, tmp_path, monkeypatch):
    found = find_images(photos)
    (photos / "2.png").unlink()
    for module in (stages, index):
        monkeypatch.setattr(module, "find_images", lambda *_, **__: found)
    summary = reconstruct(photos, tmp_path / "out", OPTIONS)
    assert summary.registered == NUM - 1
    assert "no such file" in dict(summary.unregistered)["2.png"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "out/x"), "out/x: No space left on device; what was done is kept"),
        (
            RuntimeError("[sqlite3_utils.h:1] SQLite error: disk I/O error"),
            r"database.db: cannot be written \(disk I/O",
        ),
        (RuntimeError("No registered database factory succeeded."), r"database.db: cannot be written \(disk full\?\)"),
    ],
)
def test_full_disks_are_one_line(photos, tmp_path, monkeypatch, error, words):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr(stages.mapping, "run", failing)
    with pytest.raises(BadFile, match=words):
        reconstruct(photos, tmp_path / "out", OPTIONS)


def test_other_errors_stay_what_they_are(photos, tmp_path, monkeypatch):
    def failing(*_, **__):
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(stages.mapping, "run", failing)
    with pytest.raises(RuntimeError, match="a bug of ours"):
        reconstruct(photos, tmp_path / "out", OPTIONS)


def test_no_overlap_is_no_model(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(3):
        write_image(photos / f"{i}.png", ELSEWHERE + i)
    told = []
    with pytest.raises(NoModel, match="no pair was verified"):
        reconstruct(photos, tmp_path / "out", OPTIONS, on_stage=told.append)
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["models"] == []
    assert "no pair was verified" in run["error"]
    assert [entry["image"] for entry in run["unregistered"]] == ["0.png", "1.png", "2.png"]
    assert [name for name, _ in told[-1].skipped] == ["0.png", "1.png", "2.png"]
    assert "no pair was verified" in (tmp_path / "out" / "report.html").read_text()


def test_hlocs_files_carry_on(finished, tmp_path, exact):
    photos, out = finished
    features, matches = tmp_path / "features.h5", tmp_path / "matches.h5"
    with FeatureDatabase.open(out / "features.h5", "r") as db:
        write_hloc(db, features=features, matches=matches, pairs=tmp_path / "pairs.txt")
    summary = reconstruct(photos, tmp_path / "out", OPTIONS, imported=HlocFiles(features, matches))
    assert summary.registered == NUM
    assert exact.matched == []
    assert reused(reconstruct(photos, tmp_path / "out", OPTIONS, imported=HlocFiles(features, matches))) == [
        name for name in STAGE_NAMES if name != "pairs"
    ]


def test_bad_input_is_one_line_before_any_work(photos, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(BadFile, match="no such folder"):
        reconstruct(tmp_path / "absent", out, OPTIONS)
    assert not out.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(BadFile, match="is a file"):
        reconstruct(photos, tmp_path / "file", OPTIONS)
    with pytest.raises(BadFile, match="cannot be written"):
        reconstruct(photos, tmp_path / "file" / "below", OPTIONS)
    with pytest.raises(BadOption, match="--stop-after cooking"):
        reconstruct(photos, out, OPTIONS, stop_after="cooking")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadFile, match="no photos"):
        reconstruct(tmp_path / "empty", out, OPTIONS)
    write_image(tmp_path / "empty" / "one.png", 1)
    with pytest.raises(BadImage, match="at least two"):
        reconstruct(tmp_path / "empty", out, OPTIONS)
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("0.png absent.png\n")
    with pytest.raises(BadFile, match=r"absent\.png"):
        reconstruct(photos, out, replace(OPTIONS, pairs=PairOptions(str(pairs))))


def test_known_poses_are_looked_at_before_the_matching(photos, tmp_path, exact):
    options = replace(OPTIONS, mapping=MappingOptions(known_poses=tmp_path / "absent"))
    with pytest.raises(BadFile, match="absent: is no COLMAP model"):
        reconstruct(photos, tmp_path / "out", options)
    assert exact.matched == []


def test_mapping_depends_on_the_content_of_known_poses(tmp_path):
    for name in ("cameras", "images", "points3D"):
        (tmp_path / f"{name}.txt").write_text(name)
    options = replace(OPTIONS, mapping=MappingOptions(known_poses=tmp_path))
    (mapping,) = (stage for stage in stages.STAGES if stage.name == "mapping")

    def depends_on(options):
        return mapping.depends_on(stages.Run(None, tmp_path, tmp_path, options, None))

    first = depends_on(options)
    assert depends_on(options) == first
    (tmp_path / "images.txt").write_text("other")
    assert depends_on(options) != first
    assert depends_on(OPTIONS) != depends_on(options)


def test_options_as_keywords_and_paths_as_strings(photos, tmp_path):
    out = str(tmp_path / "out")
    keywords = {"camera_model": "SIMPLE_PINHOLE", "camera": "single", "intrinsics": "384,160,120"}
    summary = sfm.reconstruct(str(photos), out, stop_after="tracks", **keywords)
    assert [stage.stage for stage in summary.stages] == list(STAGE_NAMES[:5])
    assert reused(reconstruct(photos, out, OPTIONS, stop_after="tracks")) == list(STAGE_NAMES[:5])
    with pytest.raises(BadOption, match="matcher: give options either"):
        sfm.reconstruct(photos, out, OPTIONS, matcher="sift")


def test_stages_one_by_one(photos, tmp_path):
    with sfm.open_run(photos, tmp_path / "out", OPTIONS) as run:
        assert run.run_stage("images").counts["images"] == NUM
        assert len(run.db.read_images()) == NUM
        assert run.run_stage("matching").counts["pairs"] == NUM * (NUM - 1) // 2
        assert [summary.stage for summary in run.summaries] == ["images", "pairs", "matching"]
        assert run.run_stage("pairs") == run.summaries[1]
        with pytest.raises(BadOption, match="stage cooking: choose one of images, pairs"):
            run.run_stage("cooking")
    assert reused(reconstruct(photos, tmp_path / "out", OPTIONS)) == ["images", "pairs", "matching"]
    with sfm.open_run(photos, tmp_path / "out", OPTIONS) as run:
        assert run.run_stage("refinement").counts["registered"] == NUM
        assert all(summary.reused for summary in run.summaries)


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


CAMERA = ("--camera-model", "SIMPLE_PINHOLE", "--camera", "single", "--intrinsics", "384,160,120")


def test_a_model_that_is_probably_bad_is_said_to_be_so_everywhere(photos, tmp_path, capsys):
    for i in range(NUM + 1):
        write_image(photos / f"elsewhere {i}.png", ELSEWHERE + i)
    out, text = tmp_path / "out", f"only {NUM} of {2 * NUM + 1} photos are in the model"
    run = (str(photos), str(out), *CAMERA)
    for _ in range(2):  # the second time all is reused
        assert cli.main(run) == 4
        said = capsys.readouterr()
        assert f"{PROBABLY_BAD}:\n  few photos: {text}\n" in said.out
        assert said.err.endswith(f"loftr-sfm: {PROBABLY_BAD} (exit code 4): {text}\n")
    assert said.out.count("  reused  ") == len(STAGE_NAMES)
    assert json.loads((out / "run.json").read_text())["doubts"] == [{"sign": "few photos", "text": text}]
    assert f'"warnings":["{PROBABLY_BAD}: {text}"' in (out / "report.html").read_text()
    for verb in (["report", out], ["inspect", out], ["export", out, "ply"], ["compare", out, out]):
        assert cli.main([str(word) for word in verb]) == 0
        assert f"{out}: {PROBABLY_BAD}:\n  {text}\n" in capsys.readouterr().err
    assert f"{PROBABLY_BAD}: {text}" in (out / "compare_out.html").read_text()


def test_a_good_model_has_no_doubts_and_unlearns_old_ones(copied, capsys):
    photos, out = copied
    record = json.loads((out / "run.json").read_text())
    assert record["doubts"] == []
    (out / "run.json").write_text(json.dumps(record | {"doubts": [{"sign": "old", "text": "of before"}]}))
    assert cli.main(["inspect", str(out)]) == 0
    assert "of before" in capsys.readouterr().err
    assert cli.main([str(photos), str(out), *CAMERA]) == 0
    assert json.loads((out / "run.json").read_text())["doubts"] == []
    assert PROBABLY_BAD not in (out / "report.html").read_text()


def test_a_model_is_judged_before_it_is_refined_as_well(photos, tmp_path):
    for i in range(NUM + 1):
        write_image(photos / f"elsewhere {i}.png", ELSEWHERE + i)
    doubts = {stage: reconstruct(photos, tmp_path / "out", OPTIONS, stop_after=stage).doubts for stage in STAGE_NAMES}
    assert [len(doubts[stage]) for stage in STAGE_NAMES] == [0, 0, 0, 0, 0, 1, 1]
