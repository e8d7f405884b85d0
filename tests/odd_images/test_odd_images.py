"""Every kind of odd image: skipped with its reason, or used with the right pixels."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from PIL import Image

from sfm.images.decoding import read_grey, read_rgb
from sfm.images.index import read_images_index
from sfm.options import ImageOptions
from tests.support import odd_images
from tests.support.odd_images import BROKEN, KINDS, USED


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Something with edges and gradients, (96, 128, 3) u8."""
    coarse = np.random.default_rng(3).integers(0, 256, (12, 16, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((128, 96), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory, picture: np.ndarray):
    """The folder of all kinds (each in a folder of its own, as many are copies of one picture), records, reasons."""
    folder = tmp_path_factory.mktemp("odd")
    names = {}
    for i, kind in enumerate(KINDS):
        marked = picture.copy()
        marked[0, 0] = i  # so that no two are copies
        (folder / str(i)).mkdir()
        names[kind.what] = (f"{i}/{odd_images.write(folder / str(i), kind, marked)}", marked)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        records, skipped = read_images_index(folder, ImageOptions())
    return folder, names, {record.name: record for record in records}, dict(skipped)


def test_every_kind_is_there_once(indexed) -> None:
    _, names, records, skipped = indexed
    assert len(names) == len(KINDS)
    assert len(records) == len(USED)
    assert len(skipped) == len(BROKEN)


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.what)
def test_broken_image_is_skipped_with_its_reason(indexed, kind) -> None:
    _, names, records, skipped = indexed
    name, _ = names[kind.what]
    assert name not in records
    (reason,) = (why for other, why in skipped.items() if other.split("/")[0] == name.split("/")[0])
    assert reason.startswith(kind.reason)
    assert "\n" not in reason
    assert len(reason) < 200


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", USED, ids=lambda kind: kind.what)
def test_odd_image_is_used_with_the_right_pixels(indexed, kind) -> None:
    folder, names, records, skipped = indexed
    name, marked = names[kind.what]
    assert name in records, skipped.get(name)
    expected = kind.seen(marked)
    rgb, luma = read_rgb(folder, records[name]), read_grey(folder, records[name])
    assert rgb.shape == expected.shape
    assert np.abs(rgb.astype(int) - expected).mean() <= kind.tolerance
    assert np.abs(luma - expected @ [0.299, 0.587, 0.114]).mean() <= kind.tolerance + 0.6


@pytest.mark.parametrize("kind", [kind for kind in USED if kind.what.startswith("focal")], ids=lambda kind: kind.what)
def test_absurd_focal_length_is_no_prior(indexed, kind) -> None:
    _, names, records, _ = indexed
    camera = records[names[kind.what][0]].camera
    assert not camera.has_focal_prior
    assert camera.params[0] == pytest.approx(1.2 * 128)
