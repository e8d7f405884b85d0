from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfm.errors import BadImage
from sfm.images.decoding import read_grey, read_rgb, read_thumbnail
from sfm.images.files import formats
from sfm.images.files.formats import opened
from sfm.images.index import check_image
from tests.support.phone_images import FOCAL_35MM, FOCAL_MM, MAKE, MODEL, save_phone_image
from tests.support.pictures import H, W, index, picture


@pytest.mark.parametrize("suffix", ["heic", "HEIF", "avif", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_of_phones_are_rotated_once(folder: Path, suffix: str, orientation: int) -> None:
    """Their pixels are stored rotated; EXIF says so, and in HEIC and AVIF the file itself."""
    save_phone_image(folder / f"x.{suffix}", picture(4), orientation)
    record = index(folder)[f"x.{suffix}"]
    assert (record.width, record.height) == (W, H)
    assert np.abs(read_rgb(folder, record).astype(int) - picture(4)).mean() < 2
    assert np.abs(read_grey(folder, record) - picture(4) @ [0.299, 0.587, 0.114]).mean() < 2
    small = np.asarray(read_thumbnail(folder, record.name, (W, H), 32))
    assert np.abs(small.astype(int) - np.asarray(Image.fromarray(picture(4)).resize((32, 24)))).mean() < 8


@pytest.mark.parametrize("suffix", ["heic", "avif"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_focal_lengths_and_device_are_read(folder: Path, suffix: str, orientation: int) -> None:
    header, _ = check_image(save_phone_image(folder / f"x.{suffix}", picture(4), orientation))
    found = header.exif
    assert (found.make, found.model) == (MAKE, MODEL)
    assert (found.focal_mm, found.focal_35mm) == (FOCAL_MM, FOCAL_35MM)
    assert found.gps is not None
    assert (found.gps.latitude, found.gps.longitude) == (pytest.approx(47.5), pytest.approx(8.5))
    camera = index(folder)[f"x.{suffix}"].camera
    assert camera.has_focal_prior
    assert camera.params[0] == pytest.approx(FOCAL_35MM / 43.27 * np.hypot(W, H), rel=1e-6)
    assert camera.group == f"{MAKE} {MODEL}, 5.1 mm, 64x48"


@pytest.mark.parametrize(("own", "named"), [("heic", "jpg"), ("avif", "png"), ("jpg", "heic")])
def test_content_counts_not_the_extension(folder: Path, own: str, named: str) -> None:
    save_phone_image(folder / f"x.{own}", picture(4), 6).rename(folder / f"y.{named}")
    assert np.abs(read_rgb(folder, index(folder)[f"y.{named}"]).astype(int) - picture(4)).mean() < 2


@pytest.mark.parametrize("suffix", ["heic", "avif"])
def test_a_large_image_is_refused_before_it_is_decoded(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_phone_image(tmp_path / f"x.{suffix}", picture(4))
    monkeypatch.setattr(formats, "MAX_PIXELS", W * H - 1)
    with pytest.raises(BadImage, match=r"64x48 is over 0 megapixels"), opened(path):
        pass
    monkeypatch.setattr(formats, "MAX_WHOLE", 100)
    with pytest.raises(BadImage, match="too large for"), opened(path):
        pass


@pytest.mark.parametrize("suffix", ["heic", "avif"])
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, suffix: str) -> None:
    data = save_phone_image(tmp_path / f"x.{suffix}", picture(4)).read_bytes()
    for length in np.linspace(20, len(data) - 100, 20).astype(int):
        (tmp_path / f"x.{suffix}").write_bytes(data[:length])
        with pytest.raises(BadImage, match=rf"x\.{suffix}: (HEIC|AVIF) cannot be decoded \("):
            check_image(tmp_path / f"x.{suffix}")


def test_a_file_of_one_brand_that_is_compatible_with_another_is_read_by_that(tmp_path: Path) -> None:
    """Files of the general brand "mif1" hold HEVC or AV1: what they are compatible with says which."""
    data = save_phone_image(tmp_path / "x.avif", picture(4)).read_bytes()
    (tmp_path / "x.avif").write_bytes(data[:8] + b"mif1" + data[12:])
    assert check_image(tmp_path / "x.avif")[0].size == (W, H)


def test_a_video_that_bears_an_images_name(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"\0\0\0\x18ftypqt  " + bytes(99))
    with pytest.raises(BadImage, match="a video, no image"):
        check_image(tmp_path / "x.jpg")
