from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfm.cli.main import main
from sfm.drawing.scene import moved, scene_of
from sfm.errors import BadFile
from sfm.evaluation.comparison import compare
from sfm.evaluation.model import Similarity
from sfm.report.comparison import default_path, ground_truth_errors, together, write_comparison
from tests.support.finished_run import LOST, NASTY, synthetic_model, write_run
from tests.support.report_pages import embedded, unpack


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a: LoFTR, all images but one; b: SIFT, five of them; ground truth."""
    folder = tmp_path_factory.mktemp("compare")
    write_run(folder / "a", folder / "images")
    write_run(folder / "b", folder / "images", names=NASTY[:5], matcher="sift")
    (folder / "truth").mkdir()
    synthetic_model(tuple(sorted(NASTY))).write(str(folder / "truth"))
    return folder


@pytest.fixture(scope="module")
def document(folder: Path) -> dict[str, Any]:
    ground_truth = folder / "truth"
    path = write_comparison(
        compare([folder / "a", folder / "b"], ground_truth), folder / "c.html", ground_truth=ground_truth
    )
    return embedded(path.read_text(encoding="utf-8"))


def test_who_has_what(document: dict[str, Any]):
    names = document["images"]["names"]
    groups = {group["title"]: {names[k] for k in group["images"]} for group in document["groups"]}
    assert groups == {
        "In both models": set(NASTY[:5]),
        "Only LoFTR compact": set(NASTY[5:]),
        "Only SIFT": set(),
        "In neither": {LOST[0]},
    }
    assert document["verdict"]["sentence"] == (
        "LoFTR compact is better: against ground truth its pose AUC at 5° is 1.000, against 0.357 of SIFT; it "
        "registered 8 of 8 images, SIFT 5."
    )
    assert document["verdict"]["best"] == 0


def test_figures_of_the_ground_truth_come_first_and_the_best_is_marked(document: dict[str, Any]):
    rows = {row["label"]: row for row in document["figures"]}
    assert document["figures"][0]["label"] == "pose AUC @ 1°"
    assert rows["registered images"] == {"label": "registered images", "texts": ["8", "5"], "best": [0]}
    assert rows["time of all stages"]["texts"] == ["24 s", "24 s"]
    assert rows["time of all stages"]["best"] == []


def test_more_than_two(folder: Path):
    runs = [folder / "a", folder / "b", folder / "truth"]
    found = compare(runs)
    written = embedded(write_comparison(found, folder / "three.html", images=folder / "images").read_text())
    assert written["images"]["titles"] == ["LoFTR compact", "SIFT", "truth"]
    assert [len(row["texts"]) for row in written["figures"]] == [3] * len(written["figures"])
    groups = {group["title"]: len(group["images"]) for group in written["groups"]}
    assert groups == {
        "In all models": 5,
        "Only LoFTR compact": 0,
        "Only SIFT": 0,
        "Only truth": 0,
        "In some": 3,
        "In none": 1,
    }
    assert len(written["models"]) == len(written["histograms"]) == len(written["made"]) == 3
    assert default_path(runs) == folder / "a" / "compare_b_truth.html"


def test_what_to_do_next_has_real_paths(document: dict[str, Any], folder: Path):
    commands = [step["command"] for step in document["next"]]
    assert f"loftr-sfm view {(folder / 'a').resolve()}" in commands
    assert f"loftr-sfm export {(folder / 'a').resolve()} nerfstudio" in commands
    assert not any("--ground-truth" in command for command in commands)


def test_both_models_and_the_true_cameras_are_in_one_frame(document: dict[str, Any]):
    """The ground truth of a is its own model, so its cameras coincide; without an alignment they would not."""
    a, b, ground_truth = document["models"]
    assert ground_truth["outline"]
    assert (a["total"], ground_truth["total"]) == (300, 0)
    np.testing.assert_allclose(unpack(a["cameras"]["pose"]), unpack(ground_truth["cameras"]["pose"]), atol=2e-3)
    assert len(unpack(b["cameras"]["pose"])) == 5


def test_errors_against_the_ground_truth(document: dict[str, Any]):
    a, b = (side["truth"] for side in document["images"]["sides"])
    known = [error for error in a if error is not None]
    assert len(known) == 8
    assert max(error["centre_percent"] for error in known) < 0.01
    assert sum(error is not None for error in b) == 5
    assert max(error["rotation_deg"] for error in b if error is not None) < 0.01


def test_ground_truth_errors_are_what_was_done_to_the_cameras():
    scene = scene_of(synthetic_model(tuple(f"{k}.jpg" for k in range(12))), "")
    ground_truth = dict(zip(scene.cameras.names, scene.cameras.cam_from_world, strict=True))
    angle = np.radians(3)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    rotation = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    other = moved(scene, Similarity(2.5, rotation, np.array([1.0, 2, 3])))
    poses = dict(zip(other.cameras.names, other.cameras.cam_from_world, strict=True))
    poses["4.jpg"] = turn @ poses["4.jpg"]  # rotated about its own axis: the centre stays
    errors = ground_truth_errors(poses, ground_truth)
    assert errors["4.jpg"]["rotation_deg"] == pytest.approx(3, abs=1e-3)
    assert max(error["rotation_deg"] for name, error in errors.items() if name != "4.jpg") < 1e-3
    assert max(error["centre_percent"] for error in errors.values()) < 1e-3


@pytest.mark.parametrize("swapped", [False, True])
def test_the_model_of_more_images_is_the_frame(swapped: bool):
    large = scene_of(synthetic_model(tuple(f"{k}.jpg" for k in range(9))), "large")
    few = synthetic_model(tuple(f"{k}.jpg" for k in range(9)))
    for image_id in list(few.images)[6:]:
        few.deregister_frame(few.images[image_id].frame_id)
    small = moved(scene_of(few, "small"), Similarity(3.0, np.diag([1.0, -1, -1]), np.ones(3)))
    pair = together([small, large]) if swapped else together([large, small])[::-1]
    assert [scene.title for scene in pair] == ["small", "large"]
    assert np.median(np.linalg.norm(pair[1].points.xyz, axis=1)) == pytest.approx(1, abs=0.1)
    assert len(pair[0].cameras.names) == 6
    common = [pair[1].cameras.names.index(name) for name in pair[0].cameras.names]
    np.testing.assert_allclose(pair[0].cameras.centres, pair[1].cameras.centres[common], atol=1e-4)


def test_what_differs_between_the_runs(document: dict[str, Any], folder: Path):
    assert document["differences"] == []
    record = json.loads((folder / "b" / "run.json").read_text())
    record["options"]["matching"]["resize"] = 1024
    (folder / "b" / "run.json").write_text(json.dumps(record))
    path = write_comparison(compare([folder / "a", folder / "b"]), folder / "d.html")
    assert embedded(path.read_text())["differences"] == [["--resize", "320", "1024"]]


def test_models_that_are_no_runs(folder: Path):
    plain = shutil.copytree(folder / "a" / "sparse" / "0", folder / "plain")
    found = compare([plain, folder / "truth"])
    written = embedded(write_comparison(found, folder / "e.html", images=folder / "images").read_text())
    assert written["images"]["titles"] == ["plain", "truth"]
    assert len(written["images"]["thumbnails"]) == 8
    assert written["made"][0]["command"] == ""


def test_a_runs_model_is_the_runs(folder: Path):
    """By the folder of the model, too: its title, its command, its images."""
    found = compare([folder / "a" / "sparse" / "0", folder / "truth"])
    written = embedded(write_comparison(found, folder / "f.html").read_text())
    assert written["images"]["titles"] == ["LoFTR compact", "truth"]
    assert len(written["images"]["thumbnails"]) == 9  # the one that is in neither, too
    assert written["made"][0]["command"].startswith("loftr-sfm ")


def test_command_writes_it_where_it_says(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["compare", str(folder / "a"), str(folder / "b")]) == 0
    assert capsys.readouterr().out.endswith(f"side by side, in any browser: {folder / 'a' / 'compare_b.html'}\n")
    assert (folder / "a" / "compare_b.html").is_file()
    assert main(["report", str(folder / "a")]) == 0
    assert capsys.readouterr().out == f"{folder / 'a' / 'report.html'}\n"
    with pytest.raises(BadFile, match="cannot be written"):
        write_comparison(compare([folder / "a", folder / "b"]), folder / "nowhere" / "c.html")


def test_thumbnails_come_from_the_folder_that_has_most_of_the_images(tmp_path: Path):
    write_run(tmp_path / "few", tmp_path / "few images", names=NASTY[4:6])
    write_run(tmp_path / "all", tmp_path / "all images")
    found = compare([tmp_path / "few", tmp_path / "all"])
    assert len(embedded(write_comparison(found, tmp_path / "c.html").read_text())["images"]["thumbnails"]) == 9


def test_default_path_holds_no_odd_characters(tmp_path: Path):
    assert default_path([tmp_path, tmp_path / "b <x>"]) == tmp_path / "compare_b_x_.html"
    assert default_path([tmp_path, Path("/")]) == tmp_path / "compare_other.html"
