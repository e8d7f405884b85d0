"""The verb from its command line to its files, without a display."""

from __future__ import annotations

import json
import shutil
import sys
from argparse import Namespace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from sfm.cli import main as cli
from sfm.drawing.scene import read_scene
from sfm.viewer.image_files import ImageFiles, camera_image
from sfm.viewer.run import Request, memory_path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs' folders of the same six images, the second with a part of the points, rotated."""
    root = tmp_path_factory.mktemp("runs")
    pycolmap.set_random_seed(6)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 6, 1, 1
    options.num_points3D = 120
    model = pycolmap.synthesize_dataset(options)
    rng = np.random.default_rng(0)
    for point_id in model.point3D_ids():
        model.points3D[point_id].color = rng.integers(0, 255, 3).astype(np.uint8)
    (root / "photos").mkdir()
    for image in model.images.values():
        path = root / "photos" / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), (200, 40, 40)).save(path, "PNG")
    for name in ("a", "b"):
        (root / name / "sparse" / "0").mkdir(parents=True)
        if name == "b":
            for point_id in sorted(model.point3D_ids())[::2]:
                model.delete_point3D(point_id)
            rotation = pycolmap.Rotation3d(np.array([0.1, 0.2, 0.3]))
            model.transform(pycolmap.Sim3d(2.0, rotation, np.array([1.0, 2.0, 3.0])))
        model.write(root / name / "sparse" / "0")
        (root / name / "run.json").write_text(
            json.dumps({"images_folder": str(root / "photos"), "stages": [], "matcher": {"matcher": "loftr-compact"}})
        )
    return root / "a", root / "b"


@pytest.fixture(autouse=True)
def _no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


def run(*words: str | Path) -> int:
    return cli.main(["view", *map(str, words)])


def colours(path: Path) -> int:
    return len(np.unique(np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3), axis=0))


@pytest.mark.parametrize("view", ["overview", "top", "front", "side"])
def test_a_screenshot(runs: tuple[Path, Path], tmp_path: Path, view: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "shot.png"
    assert run(runs[0], "--screenshot", out, "--view", view, "--size", "320x240") == 0
    assert capsys.readouterr().out == f"{out}\n"
    with Image.open(out) as picture:
        assert (picture.format, picture.size) == ("PNG", (320, 240))
    assert colours(out) > 100


def test_two_models_beside_and_over_each_other(runs: tuple[Path, Path], tmp_path: Path) -> None:
    both = ["--size", "400x200", "--screenshot"]
    assert run(*runs, *both, tmp_path / "beside.png") == 0
    assert run(*runs, *both, tmp_path / "over.png", "--over") == 0
    beside, over = (np.asarray(Image.open(tmp_path / f"{n}.png")).astype(int) for n in ("beside", "over"))
    assert beside.shape == over.shape == (200, 400, 3)
    halves = np.abs(beside[:120, :200] - beside[:120, 200:]).max(axis=2) > 60
    assert 0 < halves.mean() < 0.5  # one view of two aligned models: alike, not the same
    assert np.abs(beside - over).max() > 60


def test_a_turntable(runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfm.viewer.stills.turntable.__defaults__", (9,))
    assert run(runs[0], "--turntable", tmp_path / "turn.gif", "--size", "160x120") == 0
    with Image.open(tmp_path / "turn.gif") as picture:
        assert (picture.format, picture.size, picture.n_frames) == ("GIF", (160, 120), 9)
        assert picture.info["loop"] == 0
        frames = []
        for k in range(picture.n_frames):
            picture.seek(k)
            frames.append(np.asarray(picture.convert("RGB")).astype(int))
    assert all(np.abs(a - b).max() > 60 for a, b in pairwise(frames))


def test_filters_and_colours_change_the_picture(runs: tuple[Path, Path], tmp_path: Path) -> None:
    wanted = {
        "plain": [],
        "few": ["--min-track", "7"],
        "error": ["--color", "error"],
        "light": ["--background", "light"],
    }
    pictures = {}
    for name, words in wanted.items():
        assert run(runs[0], "--screenshot", tmp_path / f"{name}.png", "--size", "160x120", *words) == 0
        pictures[name] = (tmp_path / f"{name}.png").read_bytes()
    assert len(set(pictures.values())) == len(wanted)
    assert np.asarray(Image.open(tmp_path / "light.png"))[2, 2].tolist() == [250, 250, 248]


def test_named_views_in_other_letters(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("Top", "top"):
        assert run(runs[0], "--screenshot", tmp_path / f"{name}_.png", "--view", name, "--size", "160x120") == 0
    assert (tmp_path / "Top_.png").read_bytes() == (tmp_path / "top_.png").read_bytes()
    assert run(runs[0], "--screenshot", tmp_path / "x.png", "--view", "Topp") == 2
    assert "; did you mean top?" in capsys.readouterr().err


def test_from_a_camera_and_an_unknown_one(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = read_scene(runs[0]).cameras.names[2]
    assert run(runs[0], "--screenshot", tmp_path / "c.png", "--view", name, "--size", "160x120") == 0
    capsys.readouterr()
    assert run(runs[0], "--screenshot", tmp_path / "d.png", "--view", name[:-2]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert name in said
    assert not (tmp_path / "d.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--screenshot", "x.bmp"], "x.bmp"),
        (["--turntable", "x.png"], ".gif"),
        (["--screenshot", "x.png", "--size", "big"], "--size big"),
        (["--screenshot", "x.png", "--max-error", "-1"], "--max-error"),
        (["--screenshot", "x.png", "--images", "nowhere"], "nowhere"),
    ],
)
def test_wrong_words_are_one_line(
    runs: tuple[Path, Path], words: list[str], said: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(runs[0], *words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_no_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--screenshot", tmp_path / "x.png") == 2
    assert "holds no COLMAP model" in capsys.readouterr().err


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems always have a display")
@pytest.mark.parametrize("display", [None, ":4711"])
def test_without_a_display_one_line_says_what_to_do(
    runs: tuple[Path, Path], display: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if display is not None:
        monkeypatch.setenv("DISPLAY", display)
    assert run(runs[0]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--screenshot FILE.png" in said


def test_a_model_folder_without_images_is_drawn(runs: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0] / "sparse" / "0", tmp_path / "model")
    assert run(tmp_path / "model", "--screenshot", tmp_path / "m.jpg", "--size", "160x120") == 0
    assert Image.open(tmp_path / "m.jpg").size == (160, 120)


def test_models_that_cannot_be_aligned_are_drawn_and_it_is_said(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = pycolmap.Reconstruction(runs[1] / "sparse" / "0")
    for image in other.images.values():
        image.name = "other " + image.name
    (tmp_path / "other").mkdir()
    other.write(tmp_path / "other")
    assert run(runs[0], tmp_path / "other", "--screenshot", tmp_path / "u.png", "--size", "320x120") == 0
    assert "not aligned" in capsys.readouterr().err
    assert colours(tmp_path / "u.png") > 100


def test_an_empty_model_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    pycolmap.Reconstruction().write(tmp_path / "empty")
    assert run(tmp_path / "empty", "--screenshot", tmp_path / "e.png", "--size", "160x120") == 0
    assert Image.open(tmp_path / "e.png").size == (160, 120)


def test_images_are_read_from_their_folder_only(runs: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (400, 200), (9, 90, 190)).save(tmp_path / "in" / "p.png")
    Image.new("RGB", (40, 20)).save(tmp_path / "out.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"no image")
    images = ImageFiles(tmp_path / "in")
    found = images("p.png", 100)
    assert found is not None
    assert found.shape == (50, 100, 3)
    assert found[0, 0].tolist() == [9, 90, 190]
    for name in ("../out.png", str(tmp_path / "out.png"), "bad.png", "absent.png", "."):
        assert images(name, 100) is None
    assert ImageFiles()("p.png", 100) is None


def test_keypoints_lie_where_they_were_seen(runs: tuple[Path, Path]) -> None:
    scene = read_scene(runs[0])
    picture = camera_image(scene, 0, ImageFiles(), 512)
    scale = 512 / scene.cameras.size[0].max()
    for x, y in (scene.observations.xy[scene.observations.of_camera(0)] * scale).astype(int).tolist():
        assert picture[min(y, picture.shape[0] - 1), min(x, picture.shape[1] - 1)].tolist() != [70, 74, 80]


def test_what_is_remembered_depends_on_the_models(tmp_path: Path) -> None:
    assert memory_path([tmp_path / "a"]) == memory_path([tmp_path / "b" / ".." / "a"])
    assert len({memory_path([tmp_path / n for n in names]) for names in ("a", "b", "ab", "ba")}) == 4


def test_a_request_holds_what_was_given() -> None:
    words = {"out": Path("o"), "other": None, "images": None, "screenshot": None, "turntable": None, "view": None}
    plain = {"size": None, "max_error": None, "min_track": 3, "point_size": None, "background": None, "colour": "error"}
    request = Request.of(Namespace(**words, **plain, over=True))
    assert request.models == (Path("o"),)
    assert dict(request.options) == {"min_track": 3, "colour": "error", "layout": "over"}
