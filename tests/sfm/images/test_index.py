from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfm.errors import BadFile, BadImage, BadOption
from sfm.images.decoding import read_rgb
from sfm.images.files import formats
from sfm.images.index import check_image, read_images_index
from sfm.options import ImageOptions
from tests.support.folders import SHARED
from tests.support.pictures import H, W, index, picture, save


def test_unusable_files_are_skipped_with_their_reasons(folder: Path) -> None:
    save(folder / "whole.jpg", picture(9))
    whole = {suffix: save(folder / f"x.{suffix}", picture(2, (256, 256))) for suffix in ("jpg", "png", "tif", "webp")}
    for suffix, path in whole.items():
        data = path.read_bytes()
        path.unlink()
        (folder / f"cut.{suffix}").write_bytes(data[: len(data) * 2 // 3])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("hello")
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "renamed.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    (folder / "old.bmp").write_bytes(b"BM")
    save(folder / "icon.png", picture(0, (8, 8)))
    Image.new("LAB", (W, H)).save(folder / "lab.tif")
    records, skipped = read_images_index(folder, ImageOptions())
    assert [record.name for record in records] == ["a.jpg", "b.png", "whole.jpg"]
    reasons = dict(skipped)
    assert list(reasons) == sorted(reasons)
    for name in ("phone.heic", "renamed.jpg"):
        assert reasons.pop(name).startswith("HEIC cannot be decoded (")
    for suffix, kind in (("jpg", "JPEG"), ("png", "PNG"), ("tif", "TIFF"), ("webp", "WebP")):
        assert reasons.pop(f"cut.{suffix}").startswith(f"{kind} cannot be decoded (")
    assert reasons == {
        "empty.jpg": "the file is empty",
        "text.jpg": "not a JPEG, PNG, TIFF, WebP, HEIC, AVIF or RAW image",
        "old.bmp": "BMP is not supported: convert to JPEG",
        "icon.png": "8x8 is too small, at least 16 px a side are needed",
        "lab.tif": "colour mode LAB is not supported: convert to RGB",
    }


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"subsampling": 0}])
def test_check_of_a_jpeg_finds_every_cut_that_a_full_decode_finds(tmp_path: Path, how: dict[str, object]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    data = save(tmp_path / "x.jpg", noise, **how).read_bytes()
    for length in np.linspace(len(data) // 10, len(data) - 3, 40).astype(int):
        path = tmp_path / "cut.jpg"
        path.write_bytes(data[:length])
        with pytest.raises(Exception):  # noqa: B017, PT011 (whatever Pillow says)
            Image.open(path).convert("RGB")
        with pytest.raises(BadImage, match=r"cut\.jpg: "):
            check_image(path)


def test_content_counts_not_the_extension(folder: Path) -> None:
    save(folder / "really_png.jpg", picture(3), format="PNG")
    record = index(folder)["really_png.jpg"]
    np.testing.assert_array_equal(read_rgb(folder, record), picture(3))


def test_image_over_the_limit_is_refused_before_it_is_decoded(folder: Path) -> None:
    whole = save(folder / "bomb.png", picture()).read_bytes()
    header = b"IHDR" + (30_000).to_bytes(4, "big") * 2 + whole[24:29]
    (folder / "bomb.png").write_bytes(whole[:12] + header + zlib.crc32(header).to_bytes(4, "big") + whole[33:])
    _, skipped = read_images_index(folder, ImageOptions())
    assert skipped == (("bomb.png", "30000x30000 is over 500 megapixels: reduce it"),)


def test_limit_in_pixels(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(folder / "large.png", picture(0, (W, H + 1)))
    monkeypatch.setattr(formats, "MAX_PIXELS", W * H)
    records, skipped = read_images_index(folder, ImageOptions())
    assert len(records) == 2
    assert skipped == (("large.png", "64x49 is over 0 megapixels: reduce it"),)


@pytest.mark.parametrize("names", [[], ["a.jpg"]])
def test_fewer_than_two_usable_images_is_an_error_of_one_line(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        save(tmp_path / name, picture())
    (tmp_path / "bad.jpg").touch()
    with pytest.raises(BadImage) as error:
        read_images_index(tmp_path, ImageOptions())
    message = str(error.value)
    assert f"{len(names)} usable images of {len(names) + 1} (bad.jpg: the file is empty)" in message
    assert "\n" not in message


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(BadFile, match="no images in it"):
        read_images_index(tmp_path, ImageOptions())


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_costs_the_image_nothing(folder: Path) -> None:
    save(folder / "x.jpg", picture(), exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01garbage")
    assert (index(folder)["x.jpg"].width, index(folder)["x.jpg"].height) == (W, H)


def test_mask_of_another_size_names_both_files(folder: Path, tmp_path: Path) -> None:
    save(tmp_path / "masks/a.jpg.png", np.zeros((W, H), np.uint8))
    with pytest.raises(BadImage, match=r"a\.jpg\.png: 48x64, but its image a\.jpg is 64x48") as error:
        index(folder, masks=tmp_path / "masks")
    assert "\n" not in str(error.value)


def test_masks_that_cannot_be_meant(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"--masks .*absent: no such folder; give the folder of masks"):
        index(folder, masks=tmp_path / "absent")
    with pytest.raises(BadOption, match="folder of their own"):
        index(folder, masks=folder)
    save(tmp_path / "masks/other.png", np.zeros((H, W), np.uint8))
    with pytest.raises(BadFile, match=r"the mask of a\.jpg is a\.jpg\.png"):
        index(folder, masks=tmp_path / "masks")


def test_masks_below_the_images_are_not_images(folder: Path) -> None:
    save(folder / "masks/a.jpg.png", np.zeros((H, W), np.uint8))
    assert list(index(folder, masks=folder / "masks")) == ["a.jpg", "b.png"]


def test_digest_is_of_the_image_and_its_mask(folder: Path, tmp_path: Path) -> None:
    image = (folder / "a.jpg").read_bytes()
    assert index(folder)["a.jpg"].digest == hashlib.sha256(image).hexdigest()
    mask = save(tmp_path / "masks/a.jpg.png", np.zeros((H, W), np.uint8)).read_bytes()
    masked = index(folder, masks=tmp_path / "masks")
    assert masked["a.jpg"].digest == hashlib.sha256(image + mask).hexdigest()
    assert masked["b.png"].digest == index(folder)["b.png"].digest


def test_real_images_are_one_camera_or_ten() -> None:
    scenes = SHARED / "datasets"
    if not scenes.is_dir():
        pytest.skip(f"{scenes} is not there; set LOFTR_SFM_SHARED")
    for scene, images, cameras in (("strecha_fountain_p11", 11, 1), ("sacre_coeur", 10, 10)):
        records = index(scenes / scene / "images").values()
        assert len(records) == images
        assert len({record.camera.group for record in records}) == cameras


def test_copies_of_one_image_count_once(folder: Path) -> None:
    data = (folder / "a.jpg").read_bytes()
    (folder / "sub").mkdir()
    for name in ("c.jpg", "sub/d.png"):
        (folder / name).write_bytes(data)
    (folder / "link.jpg").symlink_to("a.jpg")
    records, skipped = read_images_index(folder, ImageOptions())
    assert [record.name for record in records] == ["a.jpg", "b.png"]
    assert skipped == tuple((name, "a copy of a.jpg") for name in ("c.jpg", "link.jpg", "sub/d.png"))
    records, skipped = read_images_index(folder, ImageOptions(), keep_copies=True)
    assert (len(records), skipped) == (5, ())


def test_copies_with_masks_of_their_own_are_two_images(folder: Path, tmp_path: Path) -> None:
    (folder / "c.jpg").write_bytes((folder / "a.jpg").read_bytes())
    save(tmp_path / "masks/c.jpg.png", np.full((H, W), 255, np.uint8))
    assert list(index(folder, masks=tmp_path / "masks")) == ["a.jpg", "b.png", "c.jpg"]
