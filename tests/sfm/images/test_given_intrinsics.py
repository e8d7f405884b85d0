"""What `--intrinsics` may be: parameters that a camera can have, in the model's order, or a file of cameras."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sfm.errors import BadFile, BadOption
from sfm.images.camera_priors import ImageHeader, cameras_of
from sfm.images.exif import Exif
from sfm.images.given_intrinsics import cameras_from_file, fault_of, intrinsics_files
from sfm.options import ImageOptions
from sfm.types import CameraPrior

SIZE = (1024, 683)


def cameras(spec: object, *images: tuple[str, tuple[int, int]], model: str = "SIMPLE_RADIAL") -> dict[str, CameraPrior]:
    headers = [ImageHeader(name, size, Exif()) for name, size in images or [("1.jpg", SIZE)]]
    return cameras_of(headers, ImageOptions(camera_model=model, intrinsics=str(spec)))


# --- one camera in numbers


@pytest.mark.parametrize(
    ("model", "numbers", "fault", "suggested"),
    [
        ("SIMPLE_RADIAL", "919,918,512,336", "cx = 918 is far from the middle", "PINHOLE"),
        ("SIMPLE_RADIAL", "600,512,336,336", "k = 336 is no lens's distortion", "PINHOLE"),
        ("SIMPLE_RADIAL", "326,320,97,0", "cy = 97 is far from the middle of images of 1024x683", None),
        ("SIMPLE_RADIAL", "1e6,512,341,0", r"no lens has a focal length of 1e\+06 px", None),
        ("SIMPLE_RADIAL", "30,512,341,0", "no lens has a focal length of 30 px", None),
        ("PINHOLE", "919,512,341,0.1", "focal lengths of 919 and 512 px are of no camera", "SIMPLE_RADIAL"),
        ("SIMPLE_RADIAL", "919,918,512,336,-0.1,0.01,0,0", "8 numbers, but SIMPLE_RADIAL has 4", "OPENCV"),
        ("SIMPLE_RADIAL", "919,512,341", "3 numbers, but SIMPLE_RADIAL has 4", "SIMPLE_PINHOLE"),
    ],
)
def test_absurd_parameters_are_refused_with_the_order(
    model: str, numbers: str, fault: str, suggested: str | None
) -> None:
    with pytest.raises(BadOption, match=fault) as raised:
        cameras(numbers, model=model)
    message = str(raised.value)
    assert ("\n" not in message and "f" in message.partition(f"{model} is ")[2]) or f"{model} has" in message
    assert (f"--camera-model {suggested}" in message) if suggested else "--camera-model" not in message


def test_a_suggested_model_takes_the_numbers() -> None:
    with pytest.raises(BadOption, match="--camera-model PINHOLE"):
        cameras("919,918,512,336")
    np.testing.assert_array_equal(cameras("919,918,512,336", model="PINHOLE")["1.jpg"].params, [919, 918, 512, 336])


@pytest.mark.parametrize(
    ("model", "params", "size"),
    [
        ("SIMPLE_RADIAL", [2759.5, 1520.7, 1006.8, 0], (3072, 2048)),
        ("PINHOLE", [721.5, 721.5, 609.6, 172.9], (1242, 375)),
        ("OPENCV", [1000, 1000, 600, 500, -0.4, 0.25, 0.001, -0.001], (1280, 960)),
        ("OPENCV_FISHEYE", [190.9, 190.9, 254.9, 256.9, 0.003, 0.0007, -0.002, 0.0002], (512, 512)),
        ("SIMPLE_RADIAL", [12000, 500, 340, 3.0], SIZE),  # a long lens: the corner is moved by 1 % of its radius
        ("FOV", [500, 500, 500, 340, 0.9], SIZE),
        ("EQUIRECTANGULAR", [2048, 1024], (2048, 1024)),
    ],
)
def test_real_cameras_have_no_fault(model: str, params: list[float], size: tuple[int, int]) -> None:
    assert fault_of(model, np.array(params, float), size) is None


def test_single_with_two_sizes_does_not_blame_intrinsics() -> None:
    images = [ImageHeader("1.jpg", (64, 48), Exif()), ImageHeader("2.jpg", (48, 64), Exif())]
    with pytest.raises(BadOption) as raised:
        cameras_of(images, ImageOptions(camera="single"))
    assert "intrinsics" not in str(raised.value)
    assert str(raised.value).endswith("use --camera auto")


# --- files


def write(folder: Path, lines: str, images: str | None = None) -> Path:
    (folder / "cameras.txt").write_text(f"# Camera list\n{lines}\n")
    if images is not None:
        (folder / "images.txt").write_text(f"# Image list\n{images}\n")
    return folder / "cameras.txt"


TWO = "1 PINHOLE 1024 683 900 901 512 341\n2 OPENCV_FISHEYE 640 480 300 300 320 240 0.01 0 0 0"


def test_cameras_txt_by_images_txt(tmp_path: Path) -> None:
    spec = write(
        tmp_path,
        TWO.replace("640 480", "1024 683").replace("320 240", "512 341"),
        ("1 1 0 0 0 0 0 0 2 left/a b.jpg\n1.0 2.0 -1\n2 1 0 0 0 0 0 0 1 right/a.jpg\n\n3 1 0 0 0 0 0 0 2 c.jpg\n"),
    )
    found = cameras(spec, ("left/a b.jpg", SIZE), ("right/a.jpg", SIZE), ("c.jpg", SIZE))
    assert [found[n].model for n in found] == ["OPENCV_FISHEYE", "PINHOLE", "OPENCV_FISHEYE"]
    assert found["left/a b.jpg"].group == found["c.jpg"].group != found["right/a.jpg"].group
    assert intrinsics_files(str(spec)) == [spec, tmp_path / "images.txt"]


def test_cameras_txt_by_size(tmp_path: Path) -> None:
    found = cameras(write(tmp_path, TWO), ("a.jpg", (640, 480)), ("b.jpg", SIZE))
    assert (found["a.jpg"].model, found["b.jpg"].model) == ("OPENCV_FISHEYE", "PINHOLE")
    np.testing.assert_array_equal(found["a.jpg"].params, [300, 300, 320, 240, 0.01, 0, 0, 0])


@pytest.mark.parametrize("ids", [(1, 2), (3, 4)])
def test_cameras_txt_by_numbered_folders(tmp_path: Path, ids: tuple[int, int]) -> None:
    lines = "\n".join(f"{i} SIMPLE_PINHOLE 640 480 {500 + i} 320 240" for i in ids)
    first = ids[0] - 1 if ids == (1, 2) else ids[0]
    images = [(f"cam{n}/{k}.jpg", (640, 480)) for n in (first, first + 1) for k in range(2)]
    found = cameras(write(tmp_path, lines), *images)
    assert [found[name].params[0] for name, _ in images] == [500 + ids[0]] * 2 + [500 + ids[1]] * 2


def test_cameras_txt_that_says_not_which(tmp_path: Path) -> None:
    lines = "\n".join(f"{i} SIMPLE_PINHOLE 640 480 {500 + i} 320 240" for i in (1, 2))
    with pytest.raises(BadOption, match=r"put its images\.txt beside it, or give a JSON"):
        cameras(write(tmp_path, lines), ("a.jpg", (640, 480)), ("b.jpg", (640, 480)))


def test_one_camera_is_scaled_to_reduced_images(tmp_path: Path) -> None:
    spec = write(tmp_path, "1 PINHOLE 4000 3000 2300 2310 2000 1500")
    found = cameras(spec, ("a.jpg", (1000, 750)), ("b.jpg", (2000, 1500)))
    np.testing.assert_allclose(found["a.jpg"].params, [575, 577.5, 500, 375])
    np.testing.assert_allclose(found["b.jpg"].params, [1150, 1155, 1000, 750])
    with pytest.raises(BadOption, match=r"is for images of 4000x3000, but c\.jpg is 750x1000"):
        cameras(spec, ("c.jpg", (750, 1000)))


def test_json_by_name_folder_and_pattern(tmp_path: Path) -> None:
    spec = tmp_path / "cameras.json"
    camera = {"model": "pinhole", "params": [900, 900, 512, 341]}
    wide = {"model": "OPENCV_FISHEYE", "params": [300, 300, 512, 341, 0, 0, 0, 0], "width": 1024, "height": 683}
    other = {"model": "SIMPLE_RADIAL", "params": [700, 512, 341, 0.1]}
    spec.write_text(json.dumps({"*.jpg": camera, "wide/": wide, "wide/x.jpg": other}))
    names = ("a.jpg", "wide/b.jpg", "wide/x.jpg")
    found = cameras(spec, *((name, SIZE) for name in names))
    assert [found[name].model for name in names] == ["PINHOLE", "OPENCV_FISHEYE", "SIMPLE_RADIAL"]
    with pytest.raises(BadOption, match=r"has no camera for a\.png and 1 others"):
        cameras(spec, ("a.png", SIZE), ("b.png", SIZE), ("c.jpg", SIZE))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable as JSON"),
        ("[1]", "must be"),
        ('{"*": {"model": "PINHOLE"}}', "must have a model and params"),
        ('{"*": {"model": "PINHOLE", "params": [1, 2, 3]}}', "3 params, but PINHOLE is fx, fy, cx, cy"),
        ('{"*": {"model": "LENS", "params": [1]}}', "no camera model of COLMAP's"),
        ('{"*": {"model": "PINHOLE", "params": [900, 900, 512, "x"]}}', "must have a model and params"),
        ('{"*": {"model": "SIMPLE_RADIAL", "params": [919, 918, 512, 336]}}', "the model is PINHOLE"),
        ('{"*": {"model": "PINHOLE", "params": [900, 900, 512, 341], "width": 9, "height": 1e99}}', "whole numbers"),
    ],
)
def test_bad_json(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises((BadFile, BadOption), match=message):
        cameras(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 PINHOLE 1024", "is no camera"),
        ("x PINHOLE 1024 683 1 2 3 4", "is no camera; a line is CAMERA_ID MODEL"),
        ("", "no camera in it"),
        ("1 PINHOLE 0 683 900 900 512 341", "a size of 0x683"),
    ],
)
def test_bad_cameras_txt(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises((BadFile, BadOption), match=message):
        cameras(write(tmp_path, text))


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="cannot be read"):
        cameras(tmp_path / "cameras.txt")
    (tmp_path / "cameras.bin").write_bytes(b"x")
    with pytest.raises(BadOption, match="model_converter"):
        cameras_from_file(str(tmp_path / "cameras.bin"), [("a.jpg", SIZE)])
