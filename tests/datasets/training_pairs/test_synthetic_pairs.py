from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from sfm.datasets.training_pairs.synthetic_pairs import (
    Difficulty,
    SyntheticPairs,
    anchor_xy,
    apply_homography,
    homography_warp,
    image_through,
)
from sfm.datasets.training_pairs.textures import Texture
from sfm.errors import BadFile, BadImage, BadOption
from tests.support.folders import SHARED

PLAIN = Difficulty(photometric=None)
KIND_SHARES = {"homography": (1, 0, 0), "relief": (0, 1, 0), "objects": (0, 0, 1)}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three smooth random images of different shapes."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number, shape in enumerate([(321, 481), (481, 321), (400, 400)]):
        noise = sum(ndimage.gaussian_filter(rng.normal(size=shape), s) * s for s in (3, 8, 20))
        grey = 128 + 45 * noise / np.std(noise)
        Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def _sampled(image: np.ndarray, xy: np.ndarray) -> np.ndarray:
    return ndimage.map_coordinates(image.astype(np.float64), [xy[:, 1] - 0.5, xy[:, 0] - 0.5], order=1, mode="nearest")


def test_anchors_are_centres_of_every_eighth_pixel() -> None:
    anchors = anchor_xy((16, 24))
    assert anchors.shape == (2, 3, 2)
    np.testing.assert_array_equal(anchors[1, 2], [16.5, 8.5])


@pytest.mark.parametrize("kind", KIND_SHARES)
def test_warped_grey_values_agree(images: Path, kind: str) -> None:
    pairs = SyntheticPairs(images, difficulty=replace(PLAIN, weights=KIND_SHARES[kind]), seed=5)
    agreeing, wrong = [], []
    for index in range(5):
        pair = pairs.pair(index)
        for image0, image1, warp in (
            (pair.image0, pair.image1, pair.warp01),
            (pair.image1, pair.image0, pair.warp10),
        ):
            ok = np.isfinite(warp[..., 0])
            here = image0[::8, ::8][ok].astype(np.float64)
            error = np.abs(_sampled(image1, warp[ok]) - here)
            agreeing.append(np.mean(error < 6))
            wrong.append(np.mean(np.abs(_sampled(image1, warp[ok][::-1]) - here) < 6))
    assert np.mean(agreeing) > 0.93  # the rest: hidden edges within a pixel, and images at another scale
    assert np.mean(wrong) < 0.6  # the test can tell


@pytest.mark.parametrize("kind", KIND_SHARES)
def test_there_and_back_is_identity(images: Path, kind: str) -> None:
    """Interpolated warps are inverse to each other wherever the surface is smooth over a cell."""
    pairs = SyntheticPairs(images, difficulty=replace(PLAIN, weights=KIND_SHARES[kind]), seed=1)
    errors = []
    for index in range(4):
        pair = pairs.pair(index)
        ok = np.isfinite(pair.warp01[..., 0])
        anchors, there = anchor_xy(pairs.size)[ok], pair.warp01[ok]
        cell = (there.T[::-1] - 0.5) / 8
        back = np.stack([ndimage.map_coordinates(pair.warp10[..., i], cell, order=1, cval=np.nan) for i in (0, 1)], 1)
        errors.append(np.linalg.norm(back - anchors, axis=1))
    joined = np.concatenate(errors)
    joined = joined[np.isfinite(joined)]
    assert len(joined) > 500
    assert np.median(joined) < 0.1
    assert np.mean(joined < 1.0) > 0.8


def test_homography_is_the_closed_form() -> None:
    image_from_0 = np.array([[1.2, 0.1, 20], [-0.1, 1.1, 40], [1e-4, 0, 1]])
    image_from_1 = np.array([[1.0, -0.3, 90], [0.3, 1.0, 10], [0, 2e-4, 1]])
    warp = homography_warp(image_from_0, image_from_1, size=(256, 320), image_size=(481, 321))
    expected = apply_homography(np.linalg.inv(image_from_1) @ image_from_0, anchor_xy((256, 320)))
    ok = np.isfinite(warp[..., 0])
    assert 0.3 < ok.mean() < 1
    np.testing.assert_allclose(warp[ok], expected[ok], atol=1e-3)


def test_identity_homography_returns_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 80), dtype=np.uint8)
    seen = image_through(Texture.of(image), np.eye(3), size=(64, 80), fill=0.0)
    np.testing.assert_allclose(seen, image, atol=1e-2)


@pytest.mark.parametrize("kind", KIND_SHARES)
def test_pair_depends_on_seed_and_index_alone(images: Path, kind: str) -> None:
    difficulty = Difficulty(weights=KIND_SHARES[kind])
    first, again = (SyntheticPairs(images, seed=3, difficulty=difficulty) for _ in range(2))
    other = SyntheticPairs(images, seed=4, difficulty=difficulty)
    again.pair(0)  # calls leave no trace
    a, b, c = first.pair(7), again.pair(7), other.pair(7)
    for field in ("image0", "image1", "warp01", "warp10"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    assert not np.array_equal(a.image0, c.image0)
    assert not np.array_equal(a.image0, first.pair(8).image0)


def test_shapes_kinds_and_visibility(images: Path) -> None:
    pairs = SyntheticPairs(images, size=(128, 160))
    kinds = [pairs.kind(i) for i in range(60)]
    assert {kinds.count(k) > 4 for k in KIND_SHARES} == {True}
    visible = []
    for index in range(12):
        pair = pairs.pair(index)
        assert pair.image0.shape == pair.image1.shape == (128, 160)
        assert pair.image0.dtype == np.uint8
        assert pair.warp01.shape == pair.warp10.shape == (16, 20, 2)
        assert pair.warp01.dtype == np.float32
        xy = pair.warp01[np.isfinite(pair.warp01[..., 0])]
        assert (xy > 0).all()
        assert (xy < (160, 128)).all()
        visible.append(np.isfinite(pair.warp01[..., 0]).mean())
    assert np.median(visible) > 0.3


def test_bad_input_names_the_remedy(tmp_path: Path, images: Path) -> None:
    with pytest.raises(BadFile, match="no such folder"):
        SyntheticPairs(tmp_path / "missing")
    with pytest.raises(BadFile, match="holds no images"):
        SyntheticPairs(tmp_path)
    with pytest.raises(BadOption, match="multiples of 8"):
        SyntheticPairs(images, size=(250, 320))
    with pytest.raises(BadOption, match="shares"):
        Difficulty(weights=(0, 0, 0))
    (tmp_path / "broken.jpg").write_bytes(b"not an image")
    with pytest.raises(BadImage, match=r"broken\.jpg"):
        SyntheticPairs(tmp_path).pair(0)


def test_real_images() -> None:
    folder = SHARED / "train_photos"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; set LOFTR_SFM_SHARED")
    pair = SyntheticPairs(folder, seed=11).pair(2)
    assert pair.image0.std() > 5
    assert np.isfinite(pair.warp01[..., 0]).mean() > 0.05
