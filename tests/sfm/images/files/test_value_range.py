from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sfm.images.decoding import read_grey
from sfm.images.files.value_range import eight_bit, is_stretched, sketch, used_ranges
from sfm.images.index import check_images, check_unchanged, index_images
from sfm.options import ImageOptions
from sfm.types import ImageRecord
from tests.support.folders import SHARED


def thermal(seed: int, low: int = 28_904, high: int = 29_920, size: tuple[int, int] = (96, 128)) -> NDArray[np.uint16]:
    """A scene of heat: all values between two, evenly."""
    return np.random.default_rng(seed).integers(low, high, size, np.uint16, endpoint=True)


def write(folder: Path, **images: NDArray[np.generic]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, values in images.items():
        Image.fromarray(values).save(folder / f"{name}.{'tif' if values.dtype == np.float32 else 'png'}")
    return folder


def indexed(folder: Path) -> tuple[dict[str, ImageRecord], tuple[str, ...]]:
    found = index_images(folder, ImageOptions())
    return {record.name: record for record in found.records}, found.notes


def test_a_narrow_range_is_stretched_alike_in_all_images_and_said(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", a=thermal(0), b=thermal(1), cold=thermal(2, 28_904, 29_100))
    records, (note,) = indexed(folder)
    (low, high) = records["a.png"].value_range
    assert 28_800 <= low <= 28_904
    assert 29_920 <= high <= 30_050
    assert {record.value_range for record in records.values()} == {(low, high)}
    assert note == (
        f"3 images of more than 8 bits: the values {low:,.0f} to {high:,.0f}, which they use, are stretched to black "
        "to white, the same for all of them"
    )
    grey = read_grey(folder, records["a.png"])
    assert len(np.unique(grey)) > 230  # dividing by 257 leaves five
    expected = (thermal(0) - low) * 255 / (high - low)
    assert np.abs(grey - expected).max() <= 0.51
    assert read_grey(folder, records["cold.png"]).max() < 70  # as dark as it is beside the others


@pytest.mark.parametrize(("low", "high"), [(0, 65535), (3000, 60_000), (0, 40_000)])
def test_images_of_most_of_the_range_stay_as_they_are(tmp_path: Path, low: int, high: int) -> None:
    folder = write(tmp_path / "x", a=thermal(0, low, high), b=thermal(1, low, high), dark=thermal(2, 0, 900))
    records, notes = indexed(folder)
    assert notes == ()
    for name, values in (("a.png", thermal(0, low, high)), ("dark.png", thermal(2, 0, 900))):
        np.testing.assert_array_equal(read_grey(folder, records[name]), np.rint(values / 257))


def test_floats_and_integers_have_ranges_of_their_own(tmp_path: Path) -> None:
    celsius = (thermal(3) / 100 - 273.15).astype(np.float32)
    celsius[0, :2] = np.nan, np.inf
    folder = write(tmp_path / "x", a=thermal(0), c=celsius)
    records, notes = indexed(folder)
    low, high = records["c.tif"].value_range
    assert low == pytest.approx(celsius[1:].min(), abs=0.6)
    assert high == pytest.approx(celsius[1:].max(), abs=0.6)
    assert len(notes) == 2
    assert read_grey(folder, records["c.tif"])[0, 0] == 0


@pytest.mark.parametrize("fill", [-9999.0, -32767.0, 0.0, 65535.0])
def test_pixels_without_a_value_do_not_count(fill: float) -> None:
    values = np.linspace(20, 30, 10_000, dtype=np.float32).reshape(100, 100)
    values[:20] = fill
    low, high = used_ranges([sketch(Image.fromarray(values))])["floats"]
    assert 21.5 <= low <= 22.1
    assert 30 <= high <= 30.5


def test_an_image_of_two_values_keeps_both() -> None:
    values = np.full((100, 100), 28_900, np.uint16)
    values[:50] = 29_920
    low, high = np.unique(np.asarray(eight_bit(Image.fromarray(values), "L"))).tolist()
    assert low < 9
    assert high > 246


def test_few_defective_pixels_do_not_count() -> None:
    values = thermal(0, size=(300, 300))
    values[0, :40], values[1, :40] = 0, 65535
    low, high = used_ranges([sketch(Image.fromarray(values))])["integers"]
    assert low > 28_800
    assert high < 30_050


def test_the_order_of_the_images_does_not_count() -> None:
    sketches = [sketch(Image.fromarray(thermal(seed, 28_904, 29_000 + 100 * seed))) for seed in range(5)]
    assert used_ranges(sketches) == used_ranges(sketches[::-1])


def test_one_value_everywhere_becomes_black() -> None:
    image = Image.fromarray(np.full((20, 20), 700, np.uint16))
    assert np.asarray(eight_bit(image, "L")).max() == 0
    nothing = Image.fromarray(np.full((20, 20), np.nan, np.float32))
    assert np.asarray(eight_bit(nothing, "L")).max() == 0


def test_images_like_the_others_leave_the_range_and_what_was_matched(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", a=thermal(0), b=thermal(1))
    before, _ = indexed(folder)
    write(folder, c=thermal(2))
    after, _ = indexed(folder)
    assert after["a.png"].digest == before["a.png"].digest
    write(folder, hot=thermal(4, 40_000, 60_000))
    wider, _ = indexed(folder)
    assert wider["a.png"].digest != before["a.png"].digest  # it is seen differently: to be matched again
    check_unchanged(folder, wider["a.png"], None)


def test_single_images_share_a_range(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", a=thermal(0), cold=thermal(2, 28_904, 29_100))
    (*_, range0), (*_, range1) = check_images([folder / "a.png", folder / "cold.png"])
    assert range0 == range1
    assert is_stretched(range0)


def test_a_sketch_is_small(tmp_path: Path) -> None:
    found = sketch(Image.fromarray(thermal(0, size=(2000, 3000))))
    assert found is not None
    assert found.values.nbytes <= 8000
    assert sketch(Image.new("RGB", (20, 20))) is None


def test_thermal_images_of_sixteen_bits(tmp_path: Path) -> None:
    case = SHARED / "cases/thermal16/images"
    if not case.is_dir():
        pytest.skip("needs ../shared/cases/thermal16")
    files = sorted(path for path in case.iterdir() if path.stem in ("ck0", "ck1"))
    (*_, own), _ = check_images(files)
    assert own is not None
    assert 28_904 <= own[0] <= 29_153  # what 0.1 % of the pixels are below, and above
    assert 29_868 <= own[1] <= 29_920
    with Image.open(files[0]) as image:
        assert len(np.unique(np.asarray(eight_bit(image, "L", own)))) > 100
