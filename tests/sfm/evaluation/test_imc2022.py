"""The challenge from its files to the score and the submission, on an exact scene."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sfm.cli import main as cli
from sfm.datasets.imc2022 import read_submission, write_scene, write_test
from sfm.errors import BadFile
from sfm.evaluation.imc2022 import estimate_fundamental, evaluate_challenge
from sfm.evaluation.model import read_model
from sfm.evaluation.options import ChallengeEvaluation, ChallengeOptions
from sfm.evaluation.pose_metrics import challenge_errors
from sfm.geometry.poses import relative_pose
from sfm.matchers import registry as matcher_choice
from sfm.registry import Entry
from tests.support.arc_scene import ExactMatcher, K, pose, project
from tests.support.posed_images import NAMES, NUM, write_posed_images

TRAIN = ChallengeEvaluation()


@pytest.fixture
def folder(tmp_path):
    """Two scenes of the same four images, one of them in a unit of 100 m, and a test set of three pairs."""
    scene = write_posed_images(tmp_path / "scene")
    model = read_model(scene / "gt")
    write_scene(model, scene / "images", tmp_path / "imc", "small")
    write_scene(model, scene / "images", tmp_path / "imc", "large", metres_per_unit=100.0)
    write_test(tmp_path / "imc", "b", scene / "images", [(NAMES[1], NAMES[0]), (NAMES[0], NAMES[2]), NAMES[2:]])
    return tmp_path / "imc"


@pytest.fixture
def exact(monkeypatch) -> ExactMatcher:
    matcher = ExactMatcher()
    monkeypatch.setitem(matcher_choice.MATCHERS.built_in, "loftr", Entry("", lambda *_: matcher))
    return matcher


def scores(out):
    values = json.loads((out / "imc2022.json").read_text())
    return values["mAA"], {scene["scene"]: scene for scene in values["scenes"]}


def test_exact_matches_score_one(folder, exact, tmp_path) -> None:
    text = evaluate_challenge(folder, tmp_path / "out", TRAIN)
    mean, scenes = scores(tmp_path / "out")
    assert mean == pytest.approx(1.0)
    assert scenes["small"]["pairs"] == NUM * (NUM - 1) // 2
    assert scenes["large"]["median_translation_m"] < 0.1
    assert scenes["small"]["accuracies"] == [1.0] * 10
    assert "mean Average Accuracy over 2 scene(s): 1.0000" in text


def test_pairs_without_matches_count_as_wrong(folder, exact, tmp_path) -> None:
    exact.blind = (3,)
    evaluate_challenge(folder, tmp_path / "out", TRAIN)
    mean, scenes = scores(tmp_path / "out")
    assert mean == pytest.approx(0.5)  # three of six pairs see image 3
    assert scenes["small"]["without_F"] == 0.5


def test_the_score_is_the_mean_over_scenes_and_translations_are_in_metres(folder, exact, tmp_path) -> None:
    """Image 3 claimed a tenth of a unit too high: 0.1 m, below all thresholds, or 10 m, above all of them."""
    for scene in ("small", "large"):
        path = folder / "train" / scene / "calibration.csv"
        *rest, last = path.read_text().splitlines()
        wrong = " ".join(map(repr, (pose(3)[:, 3] + [0, 0.1, 0]).tolist()))
        path.write_text("\n".join([*rest, ",".join([*last.split(",")[:3], wrong])]) + "\n")
    evaluate_challenge(folder, tmp_path / "out", TRAIN)
    mean, scenes = scores(tmp_path / "out")
    assert scenes["small"]["mAA"] == pytest.approx(1.0)
    assert scenes["large"]["mAA"] == pytest.approx(0.5)  # three of six pairs see image 3
    assert mean == pytest.approx(0.75)


def test_options_choose_the_pairs(folder, exact, tmp_path) -> None:
    some = replace(TRAIN, evaluation=ChallengeOptions(max_pairs=2))
    evaluate_challenge(folder, tmp_path / "out", some)
    assert [scene["pairs"] for scene in scores(tmp_path / "out")[1].values()] == [2, 2]
    none = replace(TRAIN, evaluation=ChallengeOptions(min_covisibility=1.5))
    with pytest.raises(BadFile, match="no pair that counts"):
        evaluate_challenge(folder, tmp_path / "out", none)


def test_after_an_interruption_no_pair_is_matched_twice(folder, exact, tmp_path) -> None:
    exact.fail_after = 4
    with pytest.raises(KeyboardInterrupt):
        evaluate_challenge(folder, tmp_path / "out", TRAIN)
    kept = len((tmp_path / "out" / "imc2022.jsonl").read_text().splitlines())
    assert kept >= 3
    exact.fail_after, exact.matched = 10**9, []
    text = evaluate_challenge(folder, tmp_path / "out", TRAIN)
    assert len(exact.matched) <= 2 * 6 - kept
    exact.matched = []
    assert evaluate_challenge(folder, tmp_path / "out", TRAIN) == text
    assert exact.matched == []


def test_submission(folder, exact, tmp_path, capsys) -> None:
    exact.blind = (3,)
    words = ["evaluate", "imc2022", str(folder), "--split", "test", "--out", str(tmp_path / "out")]
    assert cli.main(words) == 0
    assert "3 pairs by exact, 1 of them without an answer" in capsys.readouterr().out
    found = read_submission(tmp_path / "out" / "submission.csv")
    assert list(found) == ["b;image_1-image_0", "b;image_0-image_2", "b;image_2-image_3"]
    for sample, (a, b) in zip(found, [(1, 0), (0, 2)], strict=False):
        errors = challenge_errors(found[sample], K, K, relative_pose(pose(a), pose(b)), 1.0)
        assert max(errors) < 0.01
    assert not found["b;image_2-image_3"].any()


def test_missing_images_are_one_line(folder, exact, tmp_path) -> None:
    (folder / "train" / "small" / "images" / "image_2.jpg").unlink()
    with pytest.raises(BadFile, match="no usable image image_2"):
        evaluate_challenge(folder, tmp_path / "out", TRAIN)
    assert exact.matched == []  # all files are checked before anything is matched
    (folder / "test_images" / "b" / "image_1.png").unlink()
    with pytest.raises(BadFile, match="no usable image b/image_1"):
        evaluate_challenge(folder, tmp_path / "out", replace(TRAIN, evaluation=ChallengeOptions(split="test")))


def test_fundamental_matrix_of_too_few_matches() -> None:
    assert estimate_fundamental(project(0)[:7], project(1)[:7], max_error=1.0) == (None, 0)
    F, inliers = estimate_fundamental(project(0), project(1), max_error=1.0)
    assert inliers == 600
    assert max(challenge_errors(F, K, K, relative_pose(pose(0), pose(1)), 1.0)) < 0.01
