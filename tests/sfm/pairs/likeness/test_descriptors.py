from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sfm.matchers import local_descriptors
from sfm.pairs.base import ImageSet
from sfm.pairs.likeness.descriptors import descriptors_of
from tests.support.clips import pan
from tests.support.pictures import index, save


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    for i, pixels in enumerate(pan([0, 40, 900])):
        save(tmp_path / "images" / f"{i}.png", pixels)
    records = tuple(index(tmp_path / "images").values())
    return ImageSet(records, tmp_path / "images", cache=tmp_path / "descriptors.npz")


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of images of each call to the network."""
    calls: list[int] = []
    of = local_descriptors.LocalDescriptors.of

    def counted(self: local_descriptors.LocalDescriptors, images: list[NDArray[np.uint8]], masks: object) -> object:
        calls.append(len(images))
        return of(self, images, masks)  # type: ignore[arg-type]

    monkeypatch.setattr(local_descriptors.LocalDescriptors, "of", counted)
    return calls


def test_what_is_known_is_not_computed_again(images: ImageSet, encoded: list[int]) -> None:
    two = replace(images, records=images.records[:2])
    first = descriptors_of(two)
    assert {name: own.shape for name, own in first.items()} == dict.fromkeys(("0.png", "1.png"), (20 * 12, 96))
    every = descriptors_of(images)
    again = descriptors_of(images)
    assert encoded == [2, 1]
    assert all(np.array_equal(every[name], again[name]) for name in every)
    assert all(np.array_equal(every[name], first[name]) for name in first)
    assert every["0.png"].dtype == np.float16


@pytest.mark.parametrize("content", [b"", b"PK", b"not an archive" * 99])
def test_a_damaged_cache_is_made_anew(content: bytes, images: ImageSet, encoded: list[int]) -> None:
    assert images.cache is not None
    images.cache.write_bytes(content)
    descriptors_of(images)
    descriptors_of(images)
    assert encoded == [3]


def test_an_image_that_is_gone_has_none(images: ImageSet) -> None:
    (images.folder / "1.png").unlink()
    found = descriptors_of(replace(images, cache=None))
    assert [len(found[f"{i}.png"]) for i in range(3)] == [240, 0, 240]


def test_masked_out_places_have_none(images: ImageSet, tmp_path: Path) -> None:
    mask = np.zeros((192, 320, 3), np.uint8)
    mask[:, :160] = 255
    save(tmp_path / "masks" / "0.png.png", mask)
    found = descriptors_of(replace(images, masks=tmp_path / "masks", cache=None))
    assert [len(found[f"{i}.png"]) for i in range(3)] == [120, 240, 240]
