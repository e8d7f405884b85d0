"""evaluate pairs: on exact matches, on matches with known faults, and from images to the table."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sfm.cli import main as cli
from sfm.datasets.colmap_model import read_model
from sfm.datasets.courtyard.demo_scene import copy_demo_scene
from sfm.evaluation.ground_truth_pairs import PosedPair
from sfm.evaluation.options import PairEvaluation, PairEvaluationOptions
from sfm.evaluation.pair_poses import (
    PairResult,
    as_json,
    by_rotation,
    evaluate_pair,
    evaluate_pairs,
    from_json,
    reduction_of,
    summarise,
    table,
)
from sfm.geometry.pixels import homogeneous
from sfm.geometry.poses import relative_pose
from sfm.matchers import registry as matcher_choice
from sfm.registry import Entry
from tests.support.arc_scene import ExactMatcher, K, pose, project
from tests.support.posed_images import NAMES, NUM, write_posed_images

OPTIONS = PairEvaluation(evaluation=PairEvaluationOptions(seeds=2))


@pytest.fixture
def pair() -> PosedPair:
    import pycolmap

    camera = pycolmap.Camera(model="PINHOLE", width=320, height=240, params=[K[0, 0], K[1, 1], 160, 120])
    return PosedPair("a", "b", camera, camera, relative_pose(pose(0), pose(2)))


# One pair


def test_exact_matches_have_no_error(pair) -> None:
    result = evaluate_pair(pair, project(0), project(2), options=OPTIONS)
    assert len(result.errors_deg) == 2
    assert max(result.errors_deg) < 0.01
    assert (result.matches, result.inliers, result.precision, result.under_1px) == (600, 600, 1, 1)
    assert result.rotation_deg == pytest.approx(18)


def test_false_matches_are_outvoted_and_counted(pair) -> None:
    points1 = project(2)
    points1[300:] = np.random.default_rng(1).uniform((0, 0), (320, 240), (300, 2))
    result = evaluate_pair(pair, project(0), points1, options=OPTIONS)
    assert max(result.errors_deg) < 0.3
    assert 0.5 <= result.precision < 0.58
    assert 0.5 <= result.under_1px < 0.55
    assert 300 <= result.inliers < 315


def test_too_few_matches_are_infinitely_wrong(pair) -> None:
    result = evaluate_pair(pair, project(0)[:4], project(2)[:4], options=OPTIONS)
    assert result.errors_deg == (math.inf, math.inf)
    none = evaluate_pair(pair, np.zeros((0, 2)), np.zeros((0, 2)), options=OPTIONS)
    assert (none.matches, none.inliers, none.precision, none.errors_deg) == (0, 0, 0, (math.inf, math.inf))
    assert from_json(json.loads(json.dumps(as_json(none), allow_nan=False))) == none


def test_distortion_is_taken_away(pair) -> None:
    import pycolmap

    radial = pycolmap.Camera(model="SIMPLE_RADIAL", width=320, height=240, params=[K[0, 0], 160, 120, -0.2])
    xy0, xy1 = (radial.img_from_cam(homogeneous(pair.camera0.cam_from_img(project(i)))) for i in (0, 2))
    assert np.abs(xy0 - project(0)).max() > 2
    result = evaluate_pair(replace(pair, camera0=radial, camera1=radial), xy0, xy1, options=OPTIONS)
    assert max(result.errors_deg) < 0.01
    assert result.under_1px == 1


def test_pixels_are_of_the_reduced_image() -> None:
    assert reduction_of((320, 240), 640) == 0.5
    assert reduction_of((320, 240), 0) == 1


# Summaries


def test_summaries_average_the_seeds_and_split_by_rotation() -> None:
    row = PairResult("a", "b", 10.0, (0.0, math.inf), 100, 80.0, 0.5, 0.4)
    far = replace(row, rotation_deg=40.0, errors_deg=(0.0, 2.5))
    groups = by_rotation([row, far])
    assert {name: s.pairs for name, s in groups.items()} == {"all": 2, "0° to 15°": 1, "30° to 60°": 1}
    assert summarise([row]).auc == {5.0: 0.5, 10.0: 0.5, 20.0: 0.5}
    assert summarise([row]).auc5_spread == 0.5
    assert groups["30° to 60°"].auc[5.0] == pytest.approx((1 + 0.75) / 2)
    assert groups["all"].without_pose == 0.25
    assert table(groups).splitlines()[2].split()[:5] == ["0°", "to", "15°", "1", "50.0"]


# From images to the table


@pytest.fixture
def exact(monkeypatch) -> ExactMatcher:
    matcher = ExactMatcher(blind=(3,))
    monkeypatch.setitem(matcher_choice.MATCHERS.built_in, "loftr", Entry("", lambda *_: matcher))
    return matcher


def test_evaluate_pairs(exact, tmp_path) -> None:
    scene = write_posed_images(tmp_path / "scene")
    text = evaluate_pairs(scene / "images", scene / "gt", tmp_path / "out", OPTIONS)
    values = json.loads((tmp_path / "out" / "pairs.json").read_text())
    assert values["summary"]["all"]["pairs"] == 6
    assert values["summary"]["all"]["auc"]["5"] == pytest.approx(0.5, abs=0.002)  # three of six pairs see image 3
    assert values["summary"]["all"]["without_pose"] == 0.5
    assert values["pairs"][2]["errors_deg"] == [None, None]
    assert (values["pairs"][2]["name1"], values["matcher"]["matcher"]) == (NAMES[3], "exact")
    assert values["options"]["evaluation"]["seeds"] == 2
    assert text.startswith("exact, 6 pairs")
    assert evaluate_pairs(scene / "images", scene / "gt", tmp_path / "out", OPTIONS) == text
    assert len(exact.matched) == NUM * (NUM - 1) // 2  # the second time nothing


def test_the_verb_on_the_demo(tmp_path, capsys) -> None:
    """Real images, real weights, a COLMAP model; then the same pairs again, from the results."""
    copy_demo_scene(tmp_path)
    (tmp_path / "pairs.txt").write_text("view_00.jpg view_01.jpg\nview_05.jpg view_03.jpg\n")
    words = ["evaluate", "pairs", str(tmp_path / "images"), str(tmp_path / "gt"), "--out", str(tmp_path / "out")]
    words += ["--weights", "compact", "--device", "cpu", "--resize", "320", "--pairs", str(tmp_path / "pairs.txt")]
    assert cli.main(words) == 0
    first = capsys.readouterr().out
    values = json.loads((tmp_path / "out" / "pairs.json").read_text())
    assert [p["name0"] for p in values["pairs"]] == ["view_00.jpg", "view_03.jpg"]
    assert values["options"]["matching"]["confidence"] == 0.4
    assert values["summary"]["all"]["auc"]["10"] > 0.8
    assert values["summary"]["all"]["precision"] > 0.7
    assert "AUC@5°" in first
    lines = (tmp_path / "out" / "pairs.jsonl").read_text()
    assert cli.main(words) == 0
    assert capsys.readouterr().out == first
    assert (tmp_path / "out" / "pairs.jsonl").read_text() == lines
    assert cli.main([*words, "--no-align"]) == 0
    as_matched = json.loads((tmp_path / "out" / "pairs.json").read_text())
    for aligned, left in zip(values["pairs"], as_matched["pairs"], strict=True):
        assert aligned["matches"] == left["matches"]
        assert np.median(aligned["errors_deg"]) < np.median(left["errors_deg"])
        assert aligned["under_1px"] > left["under_1px"]


def test_a_image_on_its_side_is_matched_upright(tmp_path) -> None:
    """A pairs file with cameras whose second image is stored rotated clockwise: rot1 1 turns it back for matching, and
    where the file does not say it, a look at the images does."""
    copy_demo_scene(tmp_path / "demo")
    (tmp_path / "images").mkdir()
    a, b = "view_00.jpg", "view_01.jpg"
    shutil.copy(tmp_path / "demo" / "images" / a, tmp_path / "images" / a)
    with Image.open(tmp_path / "demo" / "images" / b) as image:
        image.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "images" / "b.png")
    model = read_model(tmp_path / "demo" / "gt")
    posed = {model.image(i).name: model.image(i) for i in model.reg_image_ids()}
    upright_K, height = posed[a].camera.calibration_matrix(), posed[a].camera.height
    (focal_x, _, x), (_, focal_y, y), _ = upright_K
    rotated_K = np.array([[focal_y, 0, height - y], [0, focal_x, x], [0, 0, 1]])
    image_rotation = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    ground_truth = image_rotation @ relative_pose(*(posed[name].cam_from_world().matrix() for name in (a, b)))
    centred = [matrix - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]) for matrix in (upright_K, rotated_K)]
    numbers = np.concatenate([*map(np.ravel, centred), ground_truth.ravel(), [0, 0, 0, 1]])
    for rot, path in ((0, tmp_path / "not.txt"), (1, tmp_path / "turned.txt")):
        path.write_text(f"{a} b.png 0 {rot} {' '.join(map(repr, numbers.tolist()))}\n")
    matching = replace(OPTIONS.matching, weights="compact", device="cpu", resize=320, at_least=0)
    found = {}
    for name, turns in (("not", "off"), ("turned", "off"), ("not", "auto"), ("turned", "auto")):
        options = PairEvaluation(matching=replace(matching, turns=turns), evaluation=OPTIONS.evaluation)
        evaluate_pairs(tmp_path / "images", tmp_path / f"{name}.txt", tmp_path / "out", options)
        found[name, turns] = json.loads((tmp_path / "out" / "pairs.json").read_text())["pairs"][0]
    assert max(found["turned", "off"]["errors_deg"]) < 2
    assert found["turned", "off"]["precision"] > 0.7
    assert found["turned", "off"]["matches"] > 3 * found["not", "off"]["matches"]
    assert found["not", "auto"] == found["turned", "auto"] == found["turned", "off"]


def test_the_verb_on_a_model(tmp_path, capsys) -> None:
    scene = write_posed_images(tmp_path / "scene")
    assert cli.main(["evaluate", "model", str(scene / "gt"), str(scene / "gt"), "--out", str(tmp_path / "out")]) == 0
    assert "pose AUC @ 1°           1.000" in capsys.readouterr().out
    written = json.loads((tmp_path / "out" / "model_gt.json").read_text())
    assert written["auc"] == pytest.approx({"1": 1, "3": 1, "5": 1})


@pytest.mark.parametrize("words", [["pairs", "nowhere", "gt"], ["model", "nowhere", "gt"], ["imc2022", "nowhere"]])
def test_what_is_not_there_is_one_line(words, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["evaluate", *words]) == 2
    error = capsys.readouterr().err
    assert "nowhere" in error or "gt" in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_no_form_is_a_line_of_help(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["evaluate"])
    assert stop.value.code == 2
    assert "evaluate --help" in capsys.readouterr().err
