"""Whatever path a model is given by, its run and its images are found, and nothing is taken from another model."""

import json
import shutil
from pathlib import Path

import pytest

from sfm.cli.main import main
from sfm.colmap.model_reader import model_folder, model_folders, num_images
from sfm.errors import BadFile, BadOption
from sfm.results.console import print_warnings, warnings_text
from sfm.results.model_source import images_of, is_first, output_folder, record_of
from tests.support.finished_run import synthetic_model, write_run

NAMES = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")


@pytest.fixture
def run(tmp_path):
    """A run of two models whose first one is probably bad."""
    out = write_run(tmp_path / "out", tmp_path / "photos", names=NAMES)
    (out / "sparse" / "1").mkdir()
    synthetic_model(NAMES[:3]).write(str(out / "sparse" / "1"))
    record = json.loads((out / "run.json").read_text())
    record["warnings"] = [{"sign": "few images", "text": "few"}]
    (out / "run.json").write_text(json.dumps(record))
    return out


def written(model, folder, *, text=False):
    folder.mkdir(parents=True)
    model.write_text(folder) if text else model.write_binary(folder)
    return folder


@pytest.mark.parametrize("place", ["", "sparse", "sparse/0", "sparse/1"])
def test_a_runs_models_lead_to_the_run(run, tmp_path, monkeypatch, place):
    path = run / place
    assert output_folder(path) == run
    assert images_of(path) == tmp_path / "photos"
    assert is_first(path) == (place != "sparse/1")
    assert record_of(path)["stages"]
    assert ("warnings" in record_of(path)) == (place != "sparse/1")
    assert bool(warnings_text(path)) == (place != "sparse/1")
    monkeypatch.chdir(path)
    assert output_folder(Path()) == run


@pytest.mark.parametrize("error", [None, "no model: too few matches"])
def test_a_model_of_an_earlier_run_is_said_to_be_one(run, capsys, error):
    print_warnings(run)
    assert "the last run" not in capsys.readouterr().err
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"models": [], "warnings": [], "error": error}))
    for path in (run, run / "sparse", run / "sparse" / "1"):
        assert not warnings_text(path)
        print_warnings(path)
        printed = capsys.readouterr().err
        assert printed.startswith(f"{path}: the last run here made no model")
        assert ("too few matches" in printed) == (error is not None and path != run / "sparse" / "1")
    shutil.rmtree(run / "sparse")
    print_warnings(run)
    assert capsys.readouterr().err == ""


def test_other_models_belong_to_no_run(tmp_path):
    plain = written(synthetic_model(NAMES), tmp_path / "colmap" / "sparse" / "0")
    assert output_folder(plain) is None
    assert record_of(plain) == {}
    assert images_of(plain) is None
    (tmp_path / "colmap" / "images").mkdir()
    assert images_of(plain) == images_of(tmp_path / "colmap") == tmp_path / "colmap" / "images"


def test_refines_output_knows_its_images(tmp_path):
    model = written(synthetic_model(NAMES), tmp_path / "refined" / "sparse" / "0")
    (tmp_path / "refined" / "refine.json").write_text('{"images_folder": "/somewhere/photos"}')
    assert str(images_of(model)) == str(images_of(tmp_path / "refined")) == "/somewhere/photos"
    (tmp_path / "refined" / "refine.json").write_text("[")
    with pytest.raises(BadFile, match=r"refine.json: damaged; refine again, or give --images"):
        images_of(model)


def test_models_are_numbered_as_colmap_numbers_them(tmp_path):
    for number, num in (("0", 3), ("2", 4), ("10", 3)):
        written(synthetic_model(NAMES[:num]), tmp_path / "sparse" / number, text=number == "2")
    assert [folder.name for folder in model_folders(tmp_path)] == ["0", "2", "10"]
    assert [num_images(folder) for folder in model_folders(tmp_path)] == [3, 4, 3]
    assert model_folder(tmp_path).name == "2"
    assert model_folder(tmp_path, 10) == tmp_path / "sparse" / "10"
    with pytest.raises(BadOption, match=r"--model 7: .* has no model of this number; there are 0, 2, 10"):
        model_folder(tmp_path, 7)


def test_a_run_that_was_stopped_after_mapping_has_its_unrefined_models(tmp_path):
    folder = written(synthetic_model(NAMES), tmp_path / "unrefined" / "0")
    assert model_folders(tmp_path) == (folder,)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadFile, match="file: is a file; give a folder"):
        model_folders(tmp_path / "file")


@pytest.mark.parametrize("place", ["", "sparse/1", "sparse/0"])
def test_every_verb_takes_every_path(run, tmp_path, capsys, place):
    path, plain = str(run / place), written(synthetic_model(NAMES), tmp_path / "plain", text=True)
    evaluated = str(tmp_path / "evaluated")
    assert main(["export", path, "ply", str(tmp_path / "ply")]) == 0
    assert main(["view", path, "--screenshot", str(tmp_path / "picture.png"), "--size", "160x120"]) == 0
    assert main(["compare", path, str(plain), "--report", str(tmp_path / "compare.html")]) == 0
    assert main(["evaluate", "model", path, str(plain), "--out", evaluated]) == 0
    assert main(["report", path]) == 0
    page = capsys.readouterr().out.splitlines()[-1]
    assert page == str(run / ("report_1.html" if place == "sparse/1" else "report.html"))


def test_a_number_means_the_same_as_its_folder(run, tmp_path, capsys):
    for number, more in (("1", ["--model", "1"]), ("0", ["--model", "0"])):
        model = run / "sparse" / number
        printed = []
        for path, given in ((run, more), (model, [])):
            assert main(["export", str(path), "ply", *given]) == 0
            assert main(["report", str(path), *given]) == 0
            view = ["view", str(path), *given, "--screenshot", str(tmp_path / "p.png"), "--size", "160x120"]
            assert main(view) == 0
            printed.append(capsys.readouterr().out)
        assert printed[0] == printed[1]
        assert str(run / f"ply{'_1' if number == '1' else ''}" / "points3D.ply") in printed[0]


def test_known_poses_are_found_in_an_output_folder(run):
    from sfm.mapping.known_poses import read_known_model

    assert read_known_model(run).num_reg_images() == 4
    assert read_known_model(run / "sparse" / "1").num_reg_images() == 3
