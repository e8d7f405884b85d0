"""What a run says of its model, and of what is not in it."""

from __future__ import annotations

import json

import numpy as np
import pycolmap
import pytest

from sfm.cli import main as cli
from sfm.errors import NoModel
from sfm.pipeline.run import reconstruct
from sfm.results.console import PROBABLY_BAD
from sfm.types import STAGE_NAMES
from tests.support.arc_scene import (
    ELSEWHERE,
    NUM,
    OPTIONS,
    pose,
    write_image,
)
from tests.support.report_pages import embedded

CAMERA = ("--camera-model", "SIMPLE_PINHOLE", "--camera", "single", "--intrinsics", "384,160,120")


def test_a_model_that_is_probably_bad_is_said_to_be_so_everywhere(images, tmp_path, capsys):
    for i in range(NUM + 1):
        write_image(images / f"elsewhere {i}.png", ELSEWHERE + i)
    out, text = tmp_path / "out", f"only {NUM} of {2 * NUM + 1} images are in the model"
    run = (str(images), str(out), *CAMERA)
    for _ in range(2):  # the second time all is reused
        assert cli.main(run) == 4
        said = capsys.readouterr()
        assert f"{PROBABLY_BAD}:\n  few images: {text}\n" in said.out
        assert said.err.endswith(f"loftr-sfm: {PROBABLY_BAD} (exit code 4): {text}\n")
    assert said.out.count("  reused  ") == len(STAGE_NAMES)
    assert json.loads((out / "run.json").read_text())["warnings"] == [{"sign": "few images", "text": text}]
    problems = embedded((out / "report.html").read_text())["verdict"]["problems"]
    assert problems[0]["text"] == f"{text[:1].upper()}{text[1:]}."
    for verb in (["report", out], ["inspect", out], ["export", out, "ply"], ["compare", out, out]):
        assert cli.main([str(word) for word in verb]) == 0
        assert f"{out}: {PROBABLY_BAD}:\n  {text}\n" in capsys.readouterr().err
    assert text in (out / "compare_out.html").read_text().lower()


def test_a_good_model_has_no_warnings_and_unlearns_old_ones(copied, capsys):
    images, out = copied
    record = json.loads((out / "run.json").read_text())
    assert record["warnings"] == []
    del record["warnings"]
    (out / "run.json").write_text(json.dumps(record | {"doubts": [{"sign": "old", "text": "of before"}]}))  # as 0.1.0
    assert cli.main(["inspect", str(out)]) == 0
    assert "of before" in capsys.readouterr().err
    assert cli.main([str(images), str(out), *CAMERA]) == 0
    assert json.loads((out / "run.json").read_text())["warnings"] == []
    assert PROBABLY_BAD not in (out / "report.html").read_text()


def test_a_model_is_checked_before_it_is_refined_as_well(images, tmp_path):
    for i in range(NUM + 1):
        write_image(images / f"elsewhere {i}.png", ELSEWHERE + i)
    out = tmp_path / "out"
    warnings = {stage: reconstruct(images, out, OPTIONS, stop_after=stage).warnings for stage in STAGE_NAMES}
    assert [len(warnings[stage]) for stage in STAGE_NAMES] == [0, 0, 0, 0, 0, 1, 1]


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


def test_every_image_left_out_has_its_reason(images, tmp_path):
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    write_image(images / "elsewhere.png", ELSEWHERE)
    summary = reconstruct(images, tmp_path / "out", OPTIONS)
    assert (summary.images, summary.registered) == (NUM + 2, NUM)
    reasons = dict(summary.unregistered)
    assert set(reasons) == {"broken.jpg", "elsewhere.png"}
    assert reasons["broken.jpg"].startswith("skipped: ")
    assert reasons["elsewhere.png"].startswith("matched nothing")


def test_no_overlap_is_no_model(tmp_path):
    images = tmp_path / "photos"
    images.mkdir()
    for i in range(3):
        write_image(images / f"{i}.png", ELSEWHERE + i)
    told = []
    with pytest.raises(NoModel, match="no pair was verified"):
        reconstruct(images, tmp_path / "out", OPTIONS, on_stage=told.append)
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["models"] == []
    assert "no pair was verified" in run["error"]
    assert [entry["image"] for entry in run["unregistered"]] == ["0.png", "1.png", "2.png"]
    assert [name for name, _ in told[-1].skipped] == ["0.png", "1.png", "2.png"]
    assert "no pair was verified" in (tmp_path / "out" / "report.html").read_text()
