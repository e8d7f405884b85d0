"""The page of a model that no run made."""

import pytest

from sfm.errors import BadFile
from sfm.report.any_model import write_any_report
from tests.support.finished_run import random_image, synthetic_model, write_run
from tests.support.report_pages import embedded

NAMES = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")


@pytest.fixture
def colmap(tmp_path):
    """COLMAP's own layout: images/ beside sparse/."""
    (tmp_path / "scene" / "images").mkdir(parents=True)
    (tmp_path / "scene" / "sparse" / "0").mkdir(parents=True)
    synthetic_model(NAMES).write_text(tmp_path / "scene" / "sparse" / "0")
    for k, name in enumerate(NAMES):
        random_image(k).save(tmp_path / "scene" / "images" / name)
    return tmp_path / "scene"


def document_of(path):
    return embedded(path.read_text(encoding="utf-8"))


def test_a_colmap_models_page_has_what_the_model_says(colmap):
    path = write_any_report(colmap)
    assert path == colmap / "report.html"
    document = document_of(path)
    tiles = dict(map(tuple, document["tiles"]))
    assert (tiles["images"], tiles["3D points"]) == ("4", "300")
    assert not any(label.startswith("time") for label in tiles)
    assert document["heading"] == "scene 0"
    assert "whether it is right was not checked" in document["verdict"]["sentence"]
    assert document["run"] is None
    assert document["images"]["names"] == list(NAMES)
    assert len(document["images"]["thumbnails"]) == 4
    assert not any("matched by" in remark for remark in document["remarks"])
    commands = [step["command"] for step in document["next"]]
    assert any(command.startswith(f"loftr-sfm refine {colmap}/sparse/0 {colmap}/images") for command in commands)


def test_a_model_without_images_says_how_to_give_them(tmp_path):
    synthetic_model(NAMES).write_binary(tmp_path)
    document = document_of(write_any_report(tmp_path))
    assert "no thumbnails: the folder of its images is not known; give --images FOLDER" in document["remarks"]
    assert [step["command"].split()[1] for step in document["next"]] == ["view"]


def test_a_runs_other_models_have_pages_of_their_own(tmp_path):
    out = write_run(tmp_path / "out", tmp_path / "photos", names=NAMES)
    (out / "sparse" / "1").mkdir()
    synthetic_model(NAMES[:3]).write_binary(out / "sparse" / "1")
    assert write_any_report(out) == out / "report.html"
    path = write_any_report(out, 1)
    assert path == out / "report_1.html"
    assert document_of(path)["images"]["names"] == list(NAMES[:3])
    assert len(document_of(path)["images"]["thumbnails"]) == 3
    assert len(document_of(out / "report.html")["images"]["names"]) == 5


def test_a_page_of_something_else_is_not_overwritten(colmap):
    (colmap / "report.html").write_text("<html>mine")
    with pytest.raises(BadFile, match=r"report.html: is a page of something else; move it away"):
        write_any_report(colmap)
    assert (colmap / "report.html").read_text() == "<html>mine"
