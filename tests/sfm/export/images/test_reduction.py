"""Exported images that were changed show the scene where their cameras say: every pixel against the original's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
from numpy.typing import NDArray
from PIL import Image

from sfm.errors import BadFile, BadOption
from sfm.export.images.reduction import reduced_camera, reduced_size
from sfm.export.registry import export
from sfm.export.source import ExportSource

WIDTH, HEIGHT = 640, 480
LENS = [600.0, 620.0, 310.0, 250.0, 0.05, -0.02, 0.001, -0.002]
STEP = (0.375, 0.5)  # grey levels a px, across and down


def gradient(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2) red and green of the images at px (N, 2): what they show is where it is."""
    return xy * STEP


@pytest.fixture
def source(tmp_path: Path) -> ExportSource:
    """Three images of gradients by two lenses, of other sizes too, with a mask of the second."""
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 1, 1, 3
    options.num_points3D, options.num_points2D_without_point3D = 60, 0
    options.camera_width, options.camera_height = WIDTH, HEIGHT
    options.camera_model_id, options.camera_params = pycolmap.CameraModelId.OPENCV, LENS
    pycolmap.set_random_seed(7)
    model = pycolmap.synthesize_dataset(options)
    columns, rows = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    dither = np.random.default_rng(0).uniform(size=(HEIGHT, WIDTH, 2))  # so that rounding to levels has no bias
    pixels[..., :2] = np.floor(gradient(np.stack([columns, rows], axis=-1)) + dither)
    (tmp_path / "photos").mkdir()
    (tmp_path / "masks").mkdir()
    for image in model.images.values():
        image.name = f"{image.image_id}.png"
        Image.fromarray(pixels).save(tmp_path / "photos" / image.name)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, WIDTH // 2 :] = 255
    Image.fromarray(mask).save(tmp_path / "masks" / "2.png.png")
    (tmp_path / "model").mkdir()
    model.write(str(tmp_path / "model"))
    return ExportSource(tmp_path / "model", tmp_path / "photos")


def largest_shift_px(path: Path, camera: pycolmap.Camera, original: pycolmap.Camera) -> float:
    """How far what an exported image shows is from where its camera sees it, px of the original, on average.

    Half a px of a wrong pixel centre would be 0.5 px here, or more; an eighth of a grey level is a quarter of a px.
    """
    with Image.open(path) as image:
        assert image.size == (camera.width, camera.height)
        shown = np.asarray(image.convert("RGB"), np.float64)
    columns, rows = np.meshgrid(np.arange(3, camera.width - 3, 3), np.arange(3, camera.height - 3, 3))
    xy = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1)
    rays = np.column_stack([camera.cam_from_img(xy), np.ones(len(xy))])
    expected = original.img_from_cam(rays)
    found = shown[rows.ravel(), columns.ravel(), :2] / STEP
    inside = ((expected > 4) & (expected < [WIDTH - 4, HEIGHT - 4])).all(axis=1)
    assert inside.mean() > 0.9
    return float(np.abs(np.mean(found[inside] - expected[inside], axis=0)).max())


@pytest.mark.parametrize("max_size", [None, 320, 413])
def test_undistorted_images_and_cameras_belong_together(source: ExportSource, tmp_path: Path, max_size: int) -> None:
    out = export(replace(source, max_size=max_size), tmp_path / "out", "undistorted")
    model = pycolmap.Reconstruction(out / "sparse" / "0")
    original = pycolmap.Reconstruction(source.model_dir).cameras[1]
    for image in model.images.values():
        assert max_size is None or max(image.camera.width, image.camera.height) == max_size
        assert largest_shift_px(out / "images" / image.name, image.camera, original) < 0.25
        for point in image.points2D:
            if point.has_point3D():
                np.testing.assert_allclose(
                    image.project_point(model.points3D[point.point3D_id].xyz), point.xy, atol=0.1
                )


def camera_of_json(document: dict[str, Any]) -> pycolmap.Camera:
    names = ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2")
    size = {"width": document["w"], "height": document["h"]}
    return pycolmap.Camera(model="OPENCV", params=[document[name] for name in names], **size)


@pytest.mark.parametrize("max_size", [None, 320, 413])
def test_nerfstudios_images_masks_and_cameras_belong_together(
    source: ExportSource, tmp_path: Path, max_size: int
) -> None:
    given = replace(source, max_size=max_size, masks=tmp_path / "masks")
    path = export(given, tmp_path / "out", "nerfstudio")
    document = json.loads(path.read_text())
    camera, original = camera_of_json(document), pycolmap.Reconstruction(source.model_dir).cameras[1]
    assert max_size is None or (camera.width, camera.height) == (max_size, round(HEIGHT * max_size / WIDTH))
    for frame in document["frames"]:
        assert largest_shift_px(path.parent / frame["file_path"], camera, original) < 0.25
        usable = np.asarray(Image.open(path.parent / frame["mask_path"]))
        assert usable.shape == (camera.height, camera.width)
        expected = np.full(usable.shape, 255)
        if frame["file_path"] == "images/2.png":
            expected[:, : round(camera.width / 2)] = 0
        assert (usable != expected).mean() < 0.005
        assert set(np.unique(usable)) <= {0, 255}
    assert [frame["mask_path"] for frame in document["frames"]] == [f"masks/{i}.png.png" for i in (1, 2, 3)]


@pytest.mark.parametrize("format", ["nerfstudio", "undistorted"])
def test_without_a_mask_of_any_image_none_are_written_or_left(
    source: ExportSource, tmp_path: Path, format: str
) -> None:
    given, out = replace(source, masks=tmp_path / "masks"), tmp_path / "out"
    export(given, out, format)
    assert len(list((out / "masks").iterdir())) == 3
    (tmp_path / "masks" / "2.png.png").unlink()
    path = export(given, out, format)
    assert format == "undistorted" or "mask_path" not in path.read_text()
    assert list((out / "masks").iterdir()) == []
    with pytest.raises(BadFile, match="no such folder of masks"):
        export(replace(source, masks=tmp_path / "nosuch"), tmp_path / "out", "nerfstudio")


def test_masks_are_undistorted_as_their_images(source: ExportSource, tmp_path: Path) -> None:
    given = replace(source, max_size=320, masks=tmp_path / "masks")
    out = export(given, tmp_path / "out", "undistorted")
    model = pycolmap.Reconstruction(out / "sparse")
    original = pycolmap.Reconstruction(source.model_dir).cameras[1]
    camera = model.cameras[1]
    columns, rows = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    rays = camera.cam_from_img(np.stack([columns.ravel(), rows.ravel()], axis=1))
    x = original.img_from_cam(np.column_stack([rays, np.ones(len(rays))]))[:, 0].reshape(columns.shape)
    usable = np.asarray(Image.open(out / "masks" / "2.png.png"))
    assert (usable > 0)[x > WIDTH / 2 + 2].all()
    assert not (usable > 0)[x < WIDTH / 2 - 2].any()
    assert (np.asarray(Image.open(out / "masks" / "1.png.png")) == 255).all()


@pytest.mark.parametrize("max_size", [None, 413])
def test_nvm_and_bundler_undistort_to_one_focal_length_and_a_centred_principal_point(
    source: ExportSource, tmp_path: Path, max_size: int
) -> None:
    """Their readers take the image's middle for the principal point."""
    given = replace(source, max_size=max_size)
    original = pycolmap.Reconstruction(source.model_dir).cameras[1]
    nvm = export(given, tmp_path / "nvm", "nvm").read_text().splitlines()
    bundler = export(given, tmp_path / "bundler", "bundler").read_text().splitlines()
    assert (tmp_path / "bundler" / "list.txt").read_text().splitlines() == [f"images/{i}.png" for i in (1, 2, 3)]
    for i in range(3):
        name, focal, *_, k1, _ = nvm[3 + i].split()
        assert (name, float(k1)) == (f"images/{i + 1}.png", 0.0)
        assert [float(v) for v in bundler[2 + 5 * i].split()] == [float(focal), 0.0, 0.0]
        for folder in ("nvm", "bundler"):
            width, height = Image.open(tmp_path / folder / name).size
            assert 0.8 * (max_size or WIDTH) < width <= (max_size or WIDTH)
            params = [float(focal), width / 2, height / 2]
            camera = pycolmap.Camera(model="SIMPLE_PINHOLE", width=width, height=height, params=params)
            assert largest_shift_px(tmp_path / folder / name, camera, original) < 0.25
    points = [np.array(line.split(), float) for line in nvm[8 : 8 + int(nvm[7])]]
    assert len(points) > 30
    for point in points:
        for row, _, x, y in point[7:].reshape(-1, 4):
            focal, w, qx, qy, qz, *rest = map(float, nvm[3 + int(row)].split()[1:])
            local = pycolmap.Rotation3d(np.array([qx, qy, qz, w])).matrix() @ (point[:3] - np.array(rest[:3]))
            np.testing.assert_allclose((x, y), focal * local[:2] / local[2], atol=0.1)
    assert not list((tmp_path / "nvm").glob(".pinhole*"))


def test_sizes() -> None:
    assert [reduced_size(*s) for s in ((640, 480, None), (640, 480, 800), (640, 480, 320), (479, 1001, 500))] == [
        (640, 480),
        (640, 480),
        (320, 240),
        (239, 500),
    ]
    camera = pycolmap.Camera(model="OPENCV", width=479, height=1001, params=LENS)
    reduced = reduced_camera(camera, 500)
    np.testing.assert_allclose(reduced.params[:4], np.array(LENS[:4]) * np.tile([239 / 479, 500 / 1001], 2))
    np.testing.assert_array_equal(reduced.params[4:], LENS[4:])
    with pytest.raises(BadOption, match="--max-size 3: must be at least 16 px"):
        ExportSource(Path("model"), max_size=3)
