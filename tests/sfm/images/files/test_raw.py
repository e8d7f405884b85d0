from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from sfm.errors import BadImage
from sfm.images.decoding import read_rgb
from sfm.images.files import formats
from sfm.images.index import check_image
from tests.support.odd_images import stored_for
from tests.support.phone_images import FOCAL_35MM, MAKE, MODEL, dng
from tests.support.pictures import index, picture

pytest.importorskip("rawpy", reason="the extra `raw` is not installed")
SIZE = (128, 96)


def corners(pixels: np.ndarray) -> np.ndarray:
    """Mean colours of the four corners: what a developed image must agree in with what its sensor saw."""
    h, w = pixels.shape[0] // 4, pixels.shape[1] // 4
    return np.array([pixels[a, b].mean((0, 1)) for a in (np.s_[:h], np.s_[-h:]) for b in (np.s_[:w], np.s_[-w:])])


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_an_embedded_jpeg_of_full_size_is_taken_upright(folder: Path, orientation: int) -> None:
    stored = stored_for(orientation, picture(4, SIZE))
    dark = np.zeros_like(stored)
    (folder / "x.dng").write_bytes(dng(dark, preview=stored, orientation=orientation))
    record = index(folder)["x.dng"]
    assert (record.width, record.height) == SIZE
    assert np.abs(read_rgb(folder, record).astype(int) - picture(4, SIZE)).mean() < 2


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("has_preview", [False, True])
def test_without_one_the_image_is_developed_upright(folder: Path, orientation: int, has_preview: bool) -> None:
    stored = stored_for(orientation, picture(4, SIZE))
    white = np.full((24, 32, 3), 255, np.uint8)
    (folder / "x.dng").write_bytes(dng(stored, preview=white if has_preview else None, orientation=orientation))
    record = index(folder)["x.dng"]
    assert (record.width, record.height) == SIZE
    found, expected = corners(read_rgb(folder, record).astype(float)), corners(picture(4, SIZE).astype(float))
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9


def test_the_cameras_exif_is_read(folder: Path) -> None:
    (folder / "x.dng").write_bytes(dng(picture(4, SIZE)))
    header, _ = check_image(folder / "x.dng")
    assert (header.exif.make, header.exif.model) == (MAKE, MODEL)
    assert (header.exif.focal_mm, header.exif.focal_35mm) == (pytest.approx(5.1), FOCAL_35MM)
    assert header.exif.orientation == 1
    assert header.exif.gps is not None
    assert (header.exif.gps.latitude, header.exif.gps.longitude) == (pytest.approx(47.5), pytest.approx(8.5))


def test_without_the_extra_it_is_said_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "x.dng").write_bytes(dng(picture(4, SIZE)))
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(BadImage, match=r"x\.dng: RAW images need pip install 'loftr-sfm\[raw\]'"):
        check_image(folder / "x.dng")


def test_a_large_or_damaged_one_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dng(picture(4, SIZE))
    (folder / "cut.dng").write_bytes(data[: len(data) // 2])
    with pytest.raises(BadImage, match=r"cut\.dng: RAW cannot be decoded"):
        check_image(folder / "cut.dng")
    (folder / "x.dng").write_bytes(data)
    monkeypatch.setattr(formats, "MAX_PIXELS", 100)
    with pytest.raises(BadImage, match="128x96 is over 0 megapixels"):
        check_image(folder / "x.dng")


def test_a_preview_that_is_no_jpeg_is_passed_over(folder: Path) -> None:
    whole = dng(picture(4, SIZE), preview=picture(5, SIZE))
    at = whole.index(b"\xff\xd8\xff")
    (folder / "x.dng").write_bytes(whole[:at] + bytes(600) + whole[at + 600 :])
    assert check_image(folder / "x.dng")[0].size == SIZE
