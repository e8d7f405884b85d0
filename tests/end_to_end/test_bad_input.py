"""Bad input through the real command line: one line that names the file, the right exit code, nothing lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

QUICK = ("--weights", "compact", "--device", "cpu", "--offline", "--resize", 160)


@pytest.fixture
def images(tmp_path: Path, demo_images: Path) -> Path:
    """Three images of the demo."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for image in sorted(demo_images.iterdir())[:3]:
        shutil.copy(image, folder)
    return folder


def one_line(done, *words: str, code: int = 2) -> None:
    """The process ended with the code and, last of all, one line with the words; there is no traceback."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("loftr-sfm: error: ")]
    assert len(errors) == (code == 2), done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("loftr-sfm: ")
    for word in words:
        assert word in last


def test_missing_folder(loftr_sfm, tmp_path):
    one_line(loftr_sfm(tmp_path / "absent", tmp_path / "out"), str(tmp_path / "absent"), "no such folder")
    assert not (tmp_path / "out").exists()


def test_empty_folder(loftr_sfm, tmp_path):
    (tmp_path / "photos").mkdir()
    one_line(loftr_sfm(tmp_path / "photos", tmp_path / "out"), str(tmp_path / "photos"), "no images")


def test_one_image(loftr_sfm, images, tmp_path):
    for image in sorted(images.iterdir())[1:]:
        image.unlink()
    one_line(loftr_sfm(images, tmp_path / "out"), str(images), "at least two")


def test_all_images_corrupt(loftr_sfm, images, tmp_path):
    for image in images.iterdir():
        image.write_bytes(image.read_bytes()[:400])
    done = loftr_sfm(images, tmp_path / "out")
    one_line(done, str(images), "0 usable images of 3", "view_00.jpg", "at least two")


@pytest.mark.slow
def test_images_without_overlap(loftr_sfm, images, tmp_path):
    first, *rest = sorted(images.iterdir())
    for image in rest:
        image.unlink()
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC).save(images / "elsewhere.png")
    done = loftr_sfm(images, tmp_path / "out", *QUICK)
    one_line(done, "no pair was verified", code=3)
    for name in (first.name, "elsewhere.png"):
        assert f"  {name}: matched nothing" in done.stdout


@pytest.mark.slow
def test_output_that_cannot_be_written(loftr_sfm, images, tmp_path):
    (tmp_path / "file").write_text("precious")
    one_line(loftr_sfm(images, tmp_path / "file", *QUICK), str(tmp_path / "file"), "is a file")
    one_line(loftr_sfm(images, tmp_path / "file" / "below", *QUICK), "cannot be written")
    assert (tmp_path / "file").read_text() == "precious"


def test_unknown_option(loftr_sfm, images, tmp_path):
    one_line(loftr_sfm(images, tmp_path / "out", "--sharpness", "3"), "--sharpness", "--help")
    assert not (tmp_path / "out").exists()


def test_pairs_file_that_names_an_absent_image(loftr_sfm, images, tmp_path):
    names = sorted(image.name for image in images.iterdir())
    pairs = tmp_path / "pairs.txt"
    pairs.write_text(f"{names[0]} {names[1]}\n{names[0]} absent.jpg\n")
    one_line(loftr_sfm(images, tmp_path / "out", "--pairs", pairs, *QUICK), str(pairs), "absent.jpg")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text", "another network", "absent"])
def test_wrong_checkpoint(loftr_sfm, images, tmp_path, kind):
    checkpoint = tmp_path / "wrong.ckpt"
    if kind == "text":
        checkpoint.write_text("not weights")
    elif kind == "another network":
        torch.save({"state_dict": {"conv.weight": torch.zeros(3, 3)}}, checkpoint)
    done = loftr_sfm(images, tmp_path / "out", "--weights", checkpoint, "--device", "cpu", "--offline")
    one_line(done, str(checkpoint))


@pytest.mark.slow
def test_a_bad_option_loses_nothing_of_a_run(loftr_sfm, images, tmp_path):
    out = tmp_path / "out"
    assert loftr_sfm(images, out, *QUICK, "--stop-after", "matching").returncode == 0
    one_line(loftr_sfm(images, out, *QUICK, "--intrinsics", "500,abc"), "500,abc")
    again = loftr_sfm(images, out, *QUICK, "--stop-after", "matching")
    assert again.returncode == 0
    assert [line.split()[1] for line in again.stdout.splitlines() if line.startswith("matching")] == ["reused"]
