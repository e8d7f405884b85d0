from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfm.cluster.shipping import PackedMatches, ShippedReader, ship
from sfm.errors import BadImage
from sfm.images.index import read_images_index
from sfm.matching.prefetch import ImageReader
from sfm.matching.rotations import RotatedPair
from sfm.options import ImageOptions
from sfm.types import ImagePair, Matches
from tests.support.pictures import picture


@pytest.fixture
def images(tmp_path):
    """A folder of a JPEG, a deep PNG and a rotated JPEG in a folder of its own, their records, and masks of two."""
    folder, masks = tmp_path / "images", tmp_path / "masks"
    (folder / "deep").mkdir(parents=True)
    masks.mkdir()
    Image.fromarray(picture(0, (160, 120))).save(folder / "a.jpg")
    rotated = Image.Exif()
    rotated[0x0112] = 6
    Image.fromarray(picture(1, (160, 120))).save(folder / "deep" / "b.jpg", exif=rotated)
    noise = np.random.default_rng(0).integers(0, 40_000, (90, 120)).astype(np.uint16)
    Image.fromarray(noise).save(folder / "c.png")
    Image.fromarray(np.pad(np.zeros((50, 60), np.uint8), ((70, 0), (100, 0)), constant_values=255)).save(
        masks / "a.jpg.png"
    )
    records, _ = read_images_index(folder, ImageOptions(masks=masks))
    return folder, {record.name: record for record in records}, masks


def test_a_worker_sees_the_pixels_and_masks_that_the_driver_sees(images):
    folder, records, masks = images
    shipped = [pickle.loads(pickle.dumps(ship(folder, record, masks))) for record in records.values()]
    with ImageReader(folder, records, masks) as here, ShippedReader(shipped) as there:
        for name in records:
            there.announce(name)
            (own, own_mask), (other, other_mask) = here.take(name), there.take(name)
            assert np.array_equal(own, other)
            assert (own_mask is None) == (other_mask is None) == (name != "a.jpg")
            assert own_mask is None or np.array_equal(own_mask, other_mask)


def test_what_is_moved_is_the_smaller_of_file_and_pixels(images):
    folder, records, masks = images
    jpeg, deep = ship(folder, records["a.jpg"], masks), ship(folder, records["c.png"], masks)
    mask = (masks / "a.jpg.png").stat().st_size
    assert jpeg.nbytes == (folder / "a.jpg").stat().st_size + mask < 120 * 160
    assert deep.file is None
    assert deep.nbytes == 90 * 120 < (folder / "c.png").stat().st_size


def test_faults_are_said_as_a_local_run_says_them(images):
    folder, records, masks = images
    (folder / "a.jpg").write_bytes((folder / "a.jpg").read_bytes() + b"more")
    (folder / "c.png").unlink()
    damaged = replace(records["deep/b.jpg"], width=77)
    records["deep/b.jpg"] = damaged
    with (
        ImageReader(folder, records, masks) as here,
        ShippedReader([ship(folder, record, masks) for record in records.values()]) as there,
    ):
        for name in records:
            with pytest.raises(BadImage) as found:
                there.take(name)
            with pytest.raises(BadImage) as expected:
                here.take(name)
            assert str(found.value) == str(expected.value)
            assert str(folder / name) in str(found.value)


def test_matches_are_the_same_after_they_were_columns():
    rng = np.random.default_rng(0)
    results = [
        (
            RotatedPair(ImagePair("a", f"b{num}"), num % 4),
            Matches(
                *rng.uniform(0, 9, (2, num, 2)).astype(np.float32),
                rng.uniform(0, 1, num).astype(np.float32),
                *rng.integers(-1, 99, (2, num)),
            ),
        )
        for num in (3, 0, 5)
    ]
    packed = pickle.loads(pickle.dumps(PackedMatches.of(results)))
    for (task, before), (same, after) in zip(results, packed.unpacked(), strict=True):
        assert task == same
        for field in ("points0", "points1", "confidence", "cells0", "cells1"):
            assert np.array_equal(getattr(before, field), getattr(after, field))
    assert packed.nbytes == 4 * 8 + 8 * (16 + 4 + 8)
    assert PackedMatches.of([]).unpacked() == []


def test_a_cell_number_that_does_not_fit_is_refused():
    far = Matches(*np.zeros((2, 1, 2)), np.zeros(1), np.full(1, 2**31), np.zeros(1))
    with pytest.raises(ValueError, match="31 bits"):
        PackedMatches.of([(RotatedPair(ImagePair("a", "b"), 0), far)])


def test_nothing_stays_on_the_node(images, monkeypatch, tmp_path):
    folder, records, masks = images
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with ShippedReader([ship(folder, record, masks) for record in records.values()]) as reader:
        for name in records:
            reader.take(name)
            assert not [path for path in Path(scratch).rglob("*") if path.is_file()]
    assert not list(scratch.iterdir())
