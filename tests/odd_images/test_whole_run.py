"""Odd and broken images among good ones: the good ones' model, and what is wrong with each of the rest."""

from __future__ import annotations

import io
import json
import os
import shutil
from contextlib import redirect_stdout
from itertools import combinations
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from sfm.cli.main import main
from sfm.geometry.poses import relative_pose, rotation_angle_deg
from sfm.storage.database import FeatureDatabase
from sfm.types import ImagePair
from tests.support import odd_images
from tests.support.odd_images import BROKEN, USED, encoded, rotated, saved

QUICK = ("--weights", "compact", "--device", "cpu", "--offline", "--resize", "240", "--no-refine", "--no-report")
QUICK += ("--threads", "1")  # of the mapper, which then repeats itself bit for bit
DONE = (0, 4)  # whatever is thought of a model this small
GOOD = {  # a good image's number -> as what it comes
    0: ("0 in the  old town.png", saved("PNG", "RGBA")),
    1: ('1 it\'s "$x_{<b>".tif', rotated(6, "TIFF")),
    2: ("2 cafe\u0301.webp", rotated(5, "WEBP", lossless=True)),
    3: ("3 caf\u00e9.jpg", rotated(7, "PNG")),
    4: ("4 -rf %s{0}.TIFF", saved("TIFF", big_tiff=True)),
    5: ("5" + "\u6f22" * 82 + ".webp", saved("WEBP")),
}
ALIEN = [kind for kind in USED if kind.what in ("black", "noise", "20,000x20")]


@pytest.fixture(scope="module")
def plain(pictures, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The good images as they should be, and the results of a run over them."""
    root = tmp_path_factory.mktemp("plain")
    (root / "photos").mkdir()
    for i, picture in enumerate(pictures):
        (root / "photos" / f"{i}.png").write_bytes(encoded(picture, "PNG"))
    assert main([str(root / "photos"), str(root / "out"), *QUICK]) in DONE
    return root / "photos", root / "out"


@pytest.fixture(scope="module")
def odd(pictures, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """The good images as odd files among all that is broken or shows nothing, the results, and what was printed."""
    root = tmp_path_factory.mktemp("odd")
    images = root / "photos"
    images.mkdir()
    for i, (name, write) in GOOD.items():
        write(images / name, pictures[i])
    for kind in BROKEN:
        odd_images.write(images, kind, np.ascontiguousarray(pictures[0][::8, ::8]))  # quickly made
    for kind in ALIEN:
        odd_images.write(images, kind, pictures[0])
    (images / "copy.png").write_bytes((images / GOOD[0][0]).read_bytes())
    (images / "loop").symlink_to(images, target_is_directory=True)
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert main([str(images), str(root / "out"), *QUICK]) in DONE
    return images, root / "out", printed.getvalue()


def poses(out: Path) -> dict[str, np.ndarray]:
    """cam_from_world, (3, 4), by the first letter of the name."""
    model = pycolmap.Reconstruction(out / "sparse" / "0")
    images = (image for image in model.images.values() if image.name != "copy.png")
    return {image.name[0]: image.cam_from_world().matrix() for image in images}


def test_the_good_images_give_the_same_model(plain, odd) -> None:
    without, among = poses(plain[1]), poses(odd[1])
    assert set(without) == set(among) == set("012345")
    for a, b in combinations(without, 2):
        expected, found = relative_pose(without[a], without[b]), relative_pose(among[a], among[b])
        assert rotation_angle_deg(expected[:, :3].T @ found[:, :3]) < 0.01
        cosine = expected[:, 3] @ found[:, 3] / np.linalg.norm(expected[:, 3]) / np.linalg.norm(found[:, 3])
        assert np.degrees(np.arccos(min(cosine, 1))) < 0.05


@pytest.mark.slow
def test_their_matches_are_the_same_bit_for_bit(plain, odd) -> None:
    """However the image is stored, whatever lies beside it."""
    with (
        FeatureDatabase.open(plain[1] / "features.h5", "r") as without,
        FeatureDatabase.open(odd[1] / "features.h5", "r") as among,
    ):
        for i, j in combinations(range(6), 2):
            expected = without.read_matches(ImagePair(f"{i}.png", f"{j}.png"))
            found = among.read_matches(ImagePair(GOOD[i][0], GOOD[j][0]))
            for column in ("points0", "points1", "confidence"):
                np.testing.assert_array_equal(getattr(found, column), getattr(expected, column))


@pytest.mark.slow
def test_a_image_saved_again_stands_where_the_first_does(plain, tmp_path: Path) -> None:
    """The same image twice has no baseline, which must not bend the model."""
    images = tmp_path / "photos"
    shutil.copytree(plain[0], images)
    with Image.open(images / "2.png") as image:
        image.save(images / "saved again.jpg", quality=60)
    assert main([str(images), str(tmp_path / "out"), *QUICK, "--turns", "off"]) in DONE
    found, alone = poses(tmp_path / "out"), poses(plain[1])
    assert set(found) - {"s"} == set(alone)
    if "s" in found:
        nearest = min(np.linalg.norm(centre(found[i]) - centre(found["2"])) for i in "13")
        assert np.linalg.norm(centre(found["s"]) - centre(found["2"])) < 0.05 * nearest
    for i, j in combinations(alone, 2):
        rotation = relative_pose(alone[i], alone[j])[:, :3].T @ relative_pose(found[i], found[j])[:, :3]
        assert rotation_angle_deg(rotation) < 0.5


def centre(pose: np.ndarray) -> np.ndarray:
    """Of a camera, (3,)."""
    return -pose[:, :3].T @ pose[:, 3]


@pytest.mark.slow
def test_every_other_image_is_named_with_its_reason(odd) -> None:
    _, out, printed = odd
    run = json.loads((out / "run.json").read_text())
    reasons = {one["image"]: one["reason"] for one in run["unregistered"]}
    for kind in BROKEN:
        name = os.fsencode(kind.name).decode("utf-8", "backslashreplace")
        name = name.replace("\n", "\\n").replace("\x1b", "\\x1b")
        assert kind.reason in reasons[name], kind.what
        assert f"  {name}: {reasons[name]}\n" in printed
    for kind in ALIEN:
        assert "matched nothing" in reasons[str(kind.name)], kind.what
        assert f"  {kind.name}: matched nothing" in printed
    assert len(reasons) == len(BROKEN) + len(ALIEN)
    assert "copy.png" in {image.name for image in pycolmap.Reconstruction(out / "sparse" / "0").images.values()}
    assert all(line.isprintable() for line in printed.splitlines())


@pytest.mark.slow
def test_the_report_names_them_and_runs_no_name_as_html(odd) -> None:
    _, out, _ = odd
    assert main(["report", str(out)]) == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "$x_{\\u003cb>" in page
    assert "$x_{<b>" not in page
    assert "endless.jpg" in page


@pytest.mark.slow
def test_terminal_that_cannot_show_a_name(odd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(odd[1], tmp_path / "caf\u00e9")
    printed = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(printed, encoding="ascii", write_through=True))
    assert main(["report", str(tmp_path / "caf\u00e9")]) == 0
    assert printed.getvalue().endswith(b"caf\\xe9/report.html\n")


@pytest.mark.slow
def test_view_draws_them(odd, tmp_path: Path) -> None:
    _, out, _ = odd
    for name in (GOOD[1][0], GOOD[4][0]):
        assert main(["view", str(out), "--screenshot", str(tmp_path / "a.png"), "--view", name, "--size", "96x64"]) == 0
        with Image.open(tmp_path / "a.png") as drawn:
            assert drawn.size == (96, 64)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["nerfstudio", "undistorted", "ply"])
def test_exports_that_can_hold_such_names(odd, tmp_path: Path, format: str) -> None:
    _, out, _ = odd
    assert main(["export", str(out), format, str(tmp_path / "to")]) == 0
    if format == "nerfstudio":
        frames = json.loads((tmp_path / "to" / "transforms.json").read_text())["frames"]
        files = [tmp_path / "to" / frame["file_path"] for frame in frames]
    else:
        model = pycolmap.Reconstruction(tmp_path / "to" / "sparse") if format == "undistorted" else None
        files = [tmp_path / "to" / "images" / image.name for image in model.images.values()] if model else []
    assert all(Image.open(path).size[0] > Image.open(path).size[1] for path in files)  # upright
    assert len(files) in (0, 7)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["text", "nvm", "bundler", "hloc"])
def test_exports_that_cannot_say_so_in_one_line(
    odd, tmp_path: Path, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = odd
    assert main(["export", str(out), format, str(tmp_path / "to")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "space" in line
    assert "rename" in line
