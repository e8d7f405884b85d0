"""What other programs are handed: every odd image that a model can hold arrives upright and with its pixels."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from PIL import Image, ImageOps

from sfm.export.registry import export
from sfm.export.source import ExportSource
from tests.support import odd_images
from tests.support.odd_images import USED

HEIGHT, WIDTH = 48, 64
KINDS = [kind for kind in USED if kind.what not in ("20,000x20", "orientation of two values")]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, np.ndarray]]:
    """A folder with model/ and photos/, and what image of the model (by its id) shows what."""
    folder = tmp_path_factory.mktemp("scene")
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 1, 1, len(KINDS)
    options.num_points3D, options.num_points2D_without_point3D = 20, 0
    options.camera_width, options.camera_height = WIDTH, HEIGHT
    options.camera_model_id = pycolmap.CameraModelId.PINHOLE
    options.camera_params = [60.0, 60.0, WIDTH / 2, HEIGHT / 2]
    pycolmap.set_random_seed(7)
    model = pycolmap.synthesize_dataset(options)
    coarse = np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    shown = {}
    for i, (image_id, kind) in enumerate(zip(sorted(model.images), KINDS, strict=True)):
        (folder / "photos" / str(i)).mkdir(parents=True)
        model.images[image_id].name = f"{i}/{odd_images.write(folder / 'photos' / str(i), kind, picture)}"
        shown[image_id] = kind.seen(picture)
    (folder / "model").mkdir()
    model.write(str(folder / "model"))
    return folder, shown


def names(model: Path) -> dict[int, str]:
    """Image names by id."""
    return {image_id: image.name for image_id, image in pycolmap.Reconstruction(str(model)).images.items()}


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Mean difference in grey levels, of what must be of one size."""
    assert found.shape == expected.shape
    return float(np.abs(found.astype(int) - expected).mean())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_nerfstudio_gets_upright_images(scene, tmp_path: Path) -> None:
    folder, shown = scene
    export(ExportSource(folder / "model", folder / "photos"), tmp_path / "out", "nerfstudio")
    frames = json.loads((tmp_path / "out" / "transforms.json").read_text())["frames"]
    paths = {frame["colmap_im_id"]: frame["file_path"] for frame in frames}
    for (image_id, path), kind in zip(sorted(paths.items()), KINDS, strict=True):
        with Image.open(tmp_path / "out" / path) as image:
            assert image.format in ("JPEG", "PNG", "TIFF", "WEBP", "MPO"), kind.what
            assert image.size == ImageOps.exif_transpose(image).size == (WIDTH, HEIGHT), kind.what
            assert image.mode not in ("I;16", "I", "F"), kind.what
            assert difference(np.asarray(image.convert("RGB")), shown[image_id]) <= kind.tolerance + 1, kind.what


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_undistorted_images_are_plain_and_show_the_same(scene, tmp_path: Path) -> None:
    """Read by OpenCV as splat trainers do: grey or colour, upright, by the names of the written model."""
    folder, shown = scene
    export(ExportSource(folder / "model", folder / "photos"), tmp_path / "out", "undistorted")
    for (image_id, name), kind in zip(sorted(names(tmp_path / "out" / "sparse").items()), KINDS, strict=True):
        data = np.fromfile(tmp_path / "out" / "images" / name, np.uint8)
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        assert pixels is not None, kind.what
        if kind.what.startswith("16-bit colour"):  # stays so
            pixels = (pixels / 257).astype(np.uint8)
        assert pixels.dtype == np.uint8, kind.what
        rgb = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB if pixels.ndim == 2 else cv2.COLOR_BGR2RGB)
        assert difference(rgb, shown[image_id]) <= kind.tolerance + 4, kind.what
