from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sfm.errors import BadImage
from sfm.images.decoding import read_grey, read_mask, read_rgb, read_thumbnail
from sfm.images.files.value_range import is_stretched
from sfm.images.index import check_image
from sfm.types import CameraPrior, ImageRecord
from tests.support.pictures import H, W, index, oriented, picture, save


def test_image_above_pillows_own_limit_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(folder / "b.png")
    assert read_grey(folder, index(folder)["b.png"]).shape == (H, W)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_looks_the_same(folder: Path, suffix: str, orientation: int) -> None:
    """The stored pixels are rotated back by numpy, so that reading must undo it."""
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a),  # counter-clockwise; shown rotated clockwise
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    lossless = {} if suffix == "tif" else {"lossless": True} if suffix == "webp" else {"quality": 100, "subsampling": 0}
    stored = np.ascontiguousarray(undo(picture(4)))
    save(folder / f"turned.{suffix}", stored, exif=oriented(orientation), **lossless)
    record = index(folder)[f"turned.{suffix}"]
    assert (record.width, record.height) == (W, H)
    rgb = read_rgb(folder, record)
    assert rgb.dtype == np.uint8
    assert np.abs(rgb.astype(int) - picture(4)).max() <= (8 if suffix == "jpg" else 0)
    grey = read_grey(folder, record)
    assert grey.shape == (H, W)
    assert np.abs(grey - picture(4) @ [0.299, 0.587, 0.114]).max() <= (3 if suffix == "jpg" else 1)


def converted(mode: str) -> Image.Image:
    image = Image.fromarray(picture(5))
    if mode == "LA":
        return Image.merge("LA", (image.convert("L"), Image.new("L", (W, H), 7)))
    if mode == "RGBA":
        return Image.merge("RGBA", (*image.split(), Image.new("L", (W, H), 7)))
    return image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "suffix", "tolerance"),
    [
        *[("L", "png", 1), ("LA", "png", 1), ("RGBA", "png", 1), ("RGBA", "webp", 1), ("P", "png", 60)],
        *[("CMYK", "jpg", 6), ("CMYK", "tif", 1), ("L", "jpg", 3), ("YCbCr", "tif", 4)],
    ],
)
def test_colour_modes_give_the_same_grey(folder: Path, mode: str, suffix: str, tolerance: int) -> None:
    how = {"lossless": True} if suffix == "webp" else {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    converted(mode).save(folder / f"x.{suffix}", **how)
    record = index(folder)[f"x.{suffix}"]
    grey = read_grey(folder, record)
    assert np.abs(grey - picture(5) @ [0.299, 0.587, 0.114]).max() <= tolerance
    assert read_rgb(folder, record).shape == (H, W, 3)


def test_one_bit_becomes_black_and_white(folder: Path) -> None:
    bits = np.arange(H * W).reshape(H, W) % 3 == 0
    Image.fromarray(bits).save(folder / "bits.png")
    np.testing.assert_array_equal(read_grey(folder, index(folder)["bits.png"]), bits * np.uint8(255))


@pytest.mark.parametrize(
    ("values", "suffix"),
    [
        (np.arange(256, dtype=np.uint16) * 257, "png"),
        (np.arange(256, dtype=np.uint16) * 257, "tif"),
        (np.arange(256, dtype=np.int32) * 257, "tif"),
        (np.arange(256, dtype=np.int32) * 100_000 - 5_000_000, "tif"),
        (np.arange(256, dtype=np.float32) / 255, "tif"),
        (np.arange(256, dtype=np.float32) * 3 - 40, "tif"),
    ],
)
def test_deep_grey_is_scaled_to_eight_bits(folder: Path, values: NDArray[np.generic], suffix: str) -> None:
    ramp = np.tile(values, (32, 1))
    Image.fromarray(ramp).save(folder / f"deep.{suffix}", exif=oriented(3))
    record = index(folder)[f"deep.{suffix}"]
    expected = np.tile(np.arange(255, -1, -1, dtype=np.uint8), (32, 1))
    tolerance = 8 if record.value_range is not None and is_stretched(record.value_range) else 0  # the range is rounded
    assert np.abs(read_grey(folder, record).astype(int) - expected).max() <= tolerance
    np.testing.assert_array_equal(read_rgb(folder, record), np.repeat(read_grey(folder, record)[..., None], 3, 2))


@pytest.mark.parametrize("suffix", ["webp", "png", "tif"])
def test_first_frame_of_several(folder: Path, suffix: str) -> None:
    frames = [Image.fromarray(picture(seed)) for seed in (6, 7, 8)]
    how = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(folder / f"x.{suffix}", save_all=True, append_images=frames[1:], **how)
    np.testing.assert_array_equal(read_rgb(folder, index(folder)[f"x.{suffix}"]), picture(6))


def test_arrays_can_be_written_to(folder: Path) -> None:
    record = index(folder)["b.png"]
    assert read_grey(folder, record).flags.writeable
    assert read_rgb(folder, record).flags["C_CONTIGUOUS"]


def test_image_that_is_gone_or_has_changed_since_it_was_indexed(folder: Path) -> None:
    records = index(folder)
    save(folder / "a.jpg", picture(0, (32, 32)))
    with pytest.raises(BadImage, match=r"a\.jpg: has changed"):
        read_grey(folder, records["a.jpg"])
    (folder / "b.png").unlink()
    with pytest.raises(BadImage, match=r"b\.png: no such file"):
        read_rgb(folder, records["b.png"])


@pytest.mark.parametrize("mask_name", ["a.jpg.png", "a.png"])
def test_mask_is_false_where_black(folder: Path, tmp_path: Path, mask_name: str) -> None:
    mask = np.zeros((H, W), np.uint8)
    mask[10:20, 30:] = 255
    save(tmp_path / "masks" / mask_name, mask)
    records = index(folder, masks=tmp_path / "masks")
    found = read_mask(tmp_path / "masks", records["a.jpg"])
    assert found is not None
    np.testing.assert_array_equal(found, mask > 0)
    assert read_mask(tmp_path / "masks", records["b.png"]) is None


def test_colmaps_mask_name_wins_over_the_stem(folder: Path, tmp_path: Path) -> None:
    save(tmp_path / "masks/a.jpg.png", np.full((H, W), 255, np.uint8))
    save(tmp_path / "masks/a.png", np.zeros((H, W), np.uint8))
    found = read_mask(tmp_path / "masks", index(folder, masks=tmp_path / "masks")["a.jpg"])
    assert found is not None
    assert found.all()


def test_mask_belongs_to_the_image_as_displayed(folder: Path, tmp_path: Path) -> None:
    save(folder / "turned.jpg", picture(), exif=oriented(6))
    mask = np.zeros((W, H), np.uint8)
    mask[:9] = 1  # anything but black is kept
    save(tmp_path / "masks/turned.jpg.png", mask)
    found = read_mask(tmp_path / "masks", index(folder, masks=tmp_path / "masks")["turned.jpg"])
    assert found is not None
    np.testing.assert_array_equal(found, mask > 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_thumbnail_is_the_image_as_displayed_but_small(tmp_path, orientation):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((640, 480), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.jpg", quality=95, exif=exif)
    size = (640, 480) if orientation < 5 else (480, 640)
    small = read_thumbnail(tmp_path, "a.jpg", size, 160)
    record = ImageRecord("a.jpg", *size, CameraPrior("SIMPLE_PINHOLE", np.ones(3), False, "g"), "")
    expected = Image.fromarray(read_rgb(tmp_path, record)).resize(small.size, Image.Resampling.BOX)
    assert max(small.size) == 160
    assert np.abs(np.asarray(small, float) - np.asarray(expected, float)).mean() < 4
    with pytest.raises(BadImage, match="has changed"):
        read_thumbnail(tmp_path, "a.jpg", size[::-1], 160)


def test_pipe_in_place_of_an_image_is_not_waited_for(folder: Path) -> None:
    """Whoever asks: records and models name files that may have become something else since."""
    records = index(folder)
    (folder / "b.png").unlink()
    os.mkfifo(folder / "b.png")
    for read in (
        lambda: read_grey(folder, records["b.png"]),
        lambda: read_thumbnail(folder, "b.png", None, 32),
        lambda: check_image(folder / "b.png"),
    ):
        with pytest.raises(BadImage, match=r"b\.png: not a regular file"):
            read()
