import hashlib
import os
import subprocess
import sys
import zlib
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sfm.errors import BadFile, BadImage, BadOption
from sfm.images import stage as images
from sfm.images.stage import read_grey, read_images_index, read_mask, read_rgb, run
from sfm.options import ImageOptions
from sfm.types import CameraPrior, ImageRecord
from tests.support.folders import ROOT, SHARED

W, H = 64, 48


def picture(seed: int = 0, size: tuple[int, int] = (W, H)) -> NDArray[np.uint8]:
    """(H, W, 3) uint8, smooth so that lossy formats keep it, and like none of its own turned versions."""
    corners = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(corners).resize(size, Image.Resampling.BILINEAR))


def save(path: Path, pixels: NDArray[np.uint8], **how: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **how)
    return path


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def index(folder: Path, **options: object) -> dict[str, ImageRecord]:
    records, _ = read_images_index(folder, ImageOptions(**options))  # type: ignore[arg-type]
    return {record.name: record for record in records}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two good photos, a.jpg and b.png."""
    save(tmp_path / "photos/a.jpg", picture(0))
    save(tmp_path / "photos/b.png", picture(1))
    return tmp_path / "photos"


# --- what is skipped


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
    for suffix, kind in (("jpg", "JPEG"), ("png", "PNG"), ("tif", "TIFF"), ("webp", "WebP")):
        assert reasons.pop(f"cut.{suffix}").startswith(f"{kind} cannot be decoded (")
    assert reasons == {
        "empty.jpg": "the file is empty",
        "text.jpg": "not a JPEG, PNG, TIFF or WebP image",
        "phone.heic": "HEIC is not supported: convert to JPEG",
        "renamed.jpg": "HEIC is not supported: convert to JPEG",
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
        assert isinstance(images._check(tmp_path, "cut.jpg", None, Lock()), str)


def test_content_counts_not_the_extension(folder: Path) -> None:
    save(folder / "really_png.jpg", picture(3), format="PNG")
    record = index(folder)["really_png.jpg"]
    np.testing.assert_array_equal(read_rgb(folder, record), picture(3))


def test_photo_over_the_limit_is_refused_before_it_is_decoded(folder: Path) -> None:
    whole = save(folder / "bomb.png", picture()).read_bytes()
    header = b"IHDR" + (30_000).to_bytes(4, "big") * 2 + whole[24:29]
    (folder / "bomb.png").write_bytes(whole[:12] + header + zlib.crc32(header).to_bytes(4, "big") + whole[33:])
    _, skipped = read_images_index(folder, ImageOptions())
    assert skipped == (("bomb.png", "30000x30000 is over 500 megapixels: reduce it"),)


def test_limit_in_pixels(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(folder / "large.png", picture(0, (W, H + 1)))
    monkeypatch.setattr(images, "MAX_PIXELS", W * H)
    records, skipped = read_images_index(folder, ImageOptions())
    assert len(records) == 2
    assert skipped == (("large.png", "64x49 is over 0 megapixels: reduce it"),)


def test_photo_above_pillows_own_limit_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(folder / "b.png")
    assert read_grey(folder, index(folder)["b.png"]).shape == (H, W)


@pytest.mark.parametrize("names", [[], ["a.jpg"]])
def test_fewer_than_two_usable_photos_is_an_error_of_one_line(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        save(tmp_path / name, picture())
    (tmp_path / "bad.jpg").touch()
    with pytest.raises(BadImage) as error:
        read_images_index(tmp_path, ImageOptions())
    message = str(error.value)
    assert f"{len(names)} usable photos of {len(names) + 1} (bad.jpg: the file is empty)" in message
    assert "\n" not in message


def test_folder_without_photos(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(BadFile, match="no photos in it"):
        read_images_index(tmp_path, ImageOptions())


# --- pixels


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_looks_the_same(folder: Path, suffix: str, orientation: int) -> None:
    """The stored pixels are turned back by numpy, so that reading must undo it."""
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a),  # counter-clockwise; shown turned clockwise
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
    np.testing.assert_array_equal(read_grey(folder, record), expected)
    np.testing.assert_array_equal(read_rgb(folder, record), np.repeat(expected[..., None], 3, 2))


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


def test_photo_that_is_gone_or_has_changed_since_it_was_indexed(folder: Path) -> None:
    records = index(folder)
    save(folder / "a.jpg", picture(0, (32, 32)))
    with pytest.raises(BadImage, match=r"a\.jpg: has changed"):
        read_grey(folder, records["a.jpg"])
    (folder / "b.png").unlink()
    with pytest.raises(BadImage, match=r"b\.png: no such file"):
        read_rgb(folder, records["b.png"])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_costs_the_photo_nothing(folder: Path) -> None:
    save(folder / "x.jpg", picture(), exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01garbage")
    assert (index(folder)["x.jpg"].width, index(folder)["x.jpg"].height) == (W, H)


# --- masks


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


def test_mask_belongs_to_the_photo_as_displayed(folder: Path, tmp_path: Path) -> None:
    save(folder / "turned.jpg", picture(), exif=oriented(6))
    mask = np.zeros((W, H), np.uint8)
    mask[:9] = 1  # anything but black is kept
    save(tmp_path / "masks/turned.jpg.png", mask)
    found = read_mask(tmp_path / "masks", index(folder, masks=tmp_path / "masks")["turned.jpg"])
    assert found is not None
    np.testing.assert_array_equal(found, mask > 0)


def test_mask_of_another_size_names_both_files(folder: Path, tmp_path: Path) -> None:
    save(tmp_path / "masks/a.jpg.png", np.zeros((W, H), np.uint8))
    with pytest.raises(BadImage, match=r"a\.jpg\.png: 48x64, but its photo a\.jpg is 64x48") as error:
        index(folder, masks=tmp_path / "masks")
    assert "\n" not in str(error.value)


def test_masks_that_cannot_be_meant(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no such folder of masks"):
        index(folder, masks=tmp_path / "absent")
    with pytest.raises(BadOption, match="folder of their own"):
        index(folder, masks=folder)
    save(tmp_path / "masks/other.png", np.zeros((H, W), np.uint8))
    with pytest.raises(BadFile, match=r"the mask of a\.jpg is a\.jpg\.png"):
        index(folder, masks=tmp_path / "masks")


def test_masks_below_the_photos_are_not_photos(folder: Path) -> None:
    save(folder / "masks/a.jpg.png", np.zeros((H, W), np.uint8))
    assert list(index(folder, masks=folder / "masks")) == ["a.jpg", "b.png"]


# --- the index


def test_digest_is_of_the_photo_and_its_mask(folder: Path, tmp_path: Path) -> None:
    photo = (folder / "a.jpg").read_bytes()
    assert index(folder)["a.jpg"].digest == hashlib.sha256(photo).hexdigest()
    mask = save(tmp_path / "masks/a.jpg.png", np.zeros((H, W), np.uint8)).read_bytes()
    masked = index(folder, masks=tmp_path / "masks")
    assert masked["a.jpg"].digest == hashlib.sha256(photo + mask).hexdigest()
    assert masked["b.png"].digest == index(folder)["b.png"].digest


def test_run_writes_the_records_and_counts(folder: Path) -> None:
    class Store:
        records: tuple[ImageRecord, ...] = ()

        def write_images(self, records: object) -> None:
            self.records = tuple(records)  # type: ignore[arg-type]

    (folder / "empty.jpg").touch()
    store = Store()
    summary = run(store, folder, ImageOptions())
    assert [record.name for record in store.records] == ["a.jpg", "b.png"]
    assert summary.counts == {"images": 2, "skipped": 1, "cameras": 1, "focal_priors": 0}
    assert summary.skipped == (("empty.jpg", "the file is empty"),)


def test_pillow_writes_png_after_pycolmap_was_loaded_through_us() -> None:
    """Needs zlib to be loaded before pycolmap, or the process aborts (see sfm/__init__.py)."""
    code = (
        "import sfm, pycolmap, io; from PIL import Image\n"
        "for _ in range(5): Image.effect_noise((64, 48), 50).save(io.BytesIO(), 'PNG')"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_real_photos_are_one_camera_or_ten() -> None:
    scenes = SHARED / "datasets"
    if not scenes.is_dir():
        pytest.skip(f"{scenes} is not there; set LOFTR_SFM_SHARED")
    for scene, photos, cameras in (("strecha_fountain_p11", 11, 1), ("sacre_coeur", 10, 10)):
        records = index(scenes / scene / "images").values()
        assert len(records) == photos
        assert len({record.camera.group for record in records}) == cameras


@pytest.mark.parametrize("orientation", range(1, 9))
def test_thumbnail_is_the_photo_as_displayed_but_small(tmp_path, orientation):
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((640, 480), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo.save(tmp_path / "a.jpg", quality=95, exif=exif)
    size = (640, 480) if orientation < 5 else (480, 640)
    small = images.read_thumbnail(tmp_path, "a.jpg", size, 160)
    record = ImageRecord("a.jpg", *size, CameraPrior("SIMPLE_PINHOLE", np.ones(3), False, "g"), "")
    expected = Image.fromarray(images.read_rgb(tmp_path, record)).resize(small.size, Image.Resampling.BOX)
    assert max(small.size) == 160
    assert np.abs(np.asarray(small, float) - np.asarray(expected, float)).mean() < 4
    with pytest.raises(BadImage, match="has changed"):
        images.read_thumbnail(tmp_path, "a.jpg", size[::-1], 160)


def test_copies_of_one_photo_count_once(folder: Path) -> None:
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


def test_copies_with_masks_of_their_own_are_two_photos(folder: Path, tmp_path: Path) -> None:
    (folder / "c.jpg").write_bytes((folder / "a.jpg").read_bytes())
    save(tmp_path / "masks/c.jpg.png", np.full((H, W), 255, np.uint8))
    assert list(index(folder, masks=tmp_path / "masks")) == ["a.jpg", "b.png", "c.jpg"]


def test_pipe_in_place_of_a_photo_is_not_waited_for(folder: Path) -> None:
    """Whoever asks: records and models name files that may have become something else since."""
    records = index(folder)
    (folder / "b.png").unlink()
    os.mkfifo(folder / "b.png")
    for read in (
        lambda: read_grey(folder, records["b.png"]),
        lambda: images.read_thumbnail(folder, "b.png", None, 32),
        lambda: images.check_photo(folder / "b.png"),
    ):
        with pytest.raises(BadImage, match=r"b\.png: not a regular file"):
            read()
