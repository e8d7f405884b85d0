"""match_folder: the verb `match` end to end on two demo images, and what it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfm.cli import main as cli
from sfm.geometry.epipolar import epipolar_line_distance
from sfm.two_view.output_folder import default_folder
from tests.support.folders import DEMO

IMAGES = DEMO / "images"
A, B = IMAGES / "view_03.jpg", IMAGES / "view_05.jpg"


def run(*argv):
    try:
        return cli.main(["match", *map(str, argv)])
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All that the verb can write, of images with odd names, B lying on its side."""
    images = tmp_path_factory.mktemp("photos")
    a, b = images / "a $x_1$ <b>'\" 寺.jpg", images / "b\n..;rm -rf.png"
    shutil.copy(A, a)
    Image.open(B).transpose(Image.Transpose.ROTATE_90).save(b)
    out = tmp_path_factory.mktemp("out") / "here"
    options = ["--weights", "compact", "--resize", "480", "--features", "--attention", "330,180", "--max-drawn", "100"]
    assert run(a, b, out, *options) == 0
    return out


def test_files_are_what_their_names_say(folder):
    names = {path.name for path in folder.iterdir()}
    pictures = {"matches.png", "epipolar.png", "features.png", "attention.png"}
    assert names == pictures | {"matches.pdf", "epipolar.pdf", "two_view.json", "matches.npz"}
    for name in pictures:
        with Image.open(folder / name) as picture:
            picture.load()
            assert picture.format == "PNG"
            assert picture.width >= 1600
            assert len(set(picture.convert("L").resize((64, 64)).tobytes())) > 20
    for name in ("matches.pdf", "epipolar.pdf"):
        assert (folder / name).read_bytes().startswith(b"%PDF")
        assert (folder / name).stat().st_size < 4_000_000


def test_numbers_and_arrays_agree(folder):
    numbers = json.loads((folder / "two_view.json").read_text())
    with np.load(folder / "matches.npz") as arrays:
        columns = dict(arrays)
    assert columns["points0"].shape == columns["points1"].shape == (numbers["matches"], 2)
    assert columns["inliers"].sum() == numbers["inliers"] > 200
    assert columns["confidence"].min() >= 0.4
    assert numbers["turned_deg"] == 270
    assert numbers["matcher"]["matcher"] == "loftr-compact"
    assert (columns["points1"] <= [480, 640]).all()
    assert columns["points1"][:, 1].max() > 480
    inlier = columns["inliers"]
    distance = epipolar_line_distance(columns["points0"][inlier], columns["points1"][inlier], np.array(numbers["F"]))
    assert distance.mean() == pytest.approx(numbers["epipolar_distance_mean_px"])
    assert distance.mean() < 2.0


def test_another_run_leaves_nothing_stale(folder, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(folder, out)
    (out / "notes.txt").write_text("mine")
    flat = []
    for i in range(2):
        flat.append(tmp_path / f"flat{i}.png")
        Image.new("L", (64, 64), 100 + i).save(flat[-1])
    assert run(*flat, out, "--matcher", "sift") == 0
    assert {p.name for p in out.iterdir()} == {
        "two_view.json",
        "matches.npz",
        "matches.png",
        "matches.pdf",
        "notes.txt",
    }
    told = capsys.readouterr().out
    assert "matches      0\n" in told
    assert "too few matches for a geometry" in told
    numbers = json.loads((out / "two_view.json").read_text())
    assert (numbers["F"], numbers["trusted"]) == (None, False)


@pytest.mark.slow
def test_sift_tells_what_it_found(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(A, B, "--matcher", "sift", "--draw", "points", "--colormap", "cividis") == 0
    told = capsys.readouterr().out
    for word in ("inliers", "rotation", "translation", "right", "parallax", "focal        A 518 px (EXIF)", "next: "):
        assert word in told
    assert "written to match_view_03_view_05: two_view.json, matches.npz, matches.png" in told
    assert (tmp_path / "match_view_03_view_05" / "epipolar.png").is_file()


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        ([A, A], "same file"),
        ([A, IMAGES / "absent.jpg"], "absent.jpg"),
        ([A, IMAGES.parent / "gt" / "images.txt"], "images.txt: not a JPEG"),
        ([A, B, "--attention", "640,20"], "outside"),
        ([A, B, "--attention", "-1,20"], "--attention"),
        ([A, B, "--attention=-1,20"], "outside"),
        ([A, B, "--attention", "20"], "two numbers"),
        ([A, B, "--attention", "nan,20"], "finite"),
        ([A, B, "--matcher", "sift", "--features"], "--matcher sift"),
        ([A, B, "--matcher", "efficient-loftr", "--features"], "LoFTR's inside: not with --matcher efficient-loftr"),
        ([A, B, "--matcher", "efficient-loftr", "--weights", "compact"], "give --matcher loftr as well"),
        ([A, B, "--weights", "eloftr-outdoor"], "give --matcher efficient-loftr as well"),
        ([A, B, "--max-drawn", "-3"], "--max-drawn"),
        ([A, B, "--confidence", "1.5"], "--confidence 1.5"),
        ([A, B, "--weights", "absent.ckpt"], "absent.ckpt"),
        ([A, B, A], "is a file"),
        ([A], "B"),
    ],
)
def test_users_errors_are_one_line_and_leave_nothing(argv, word, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("loftr-sfm: error: ")
    assert word in error
    assert error.count("\n") == 1
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("a", "b", "name"),
    [
        ("x/a.jpg", "y/b.png", "match_a_b"),
        ("../..", "c d;e.jpg", "match_.._c_d_e"),
        ("a/é寺.jpg", "\n.jpg", "match_é寺__"),
        ("l" * 300 + ".jpg", "b.jpg", f"match_{'l' * 40}_b"),
    ],
)
def test_default_folder_is_one_plain_name(a, b, name):
    found = default_folder(Path(a), Path(b))
    assert str(found) == name
    assert len(found.parts) == 1
