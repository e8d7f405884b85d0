"""EfficientLoFTR as a matcher of images: pixels, cells, masks, sizes; and a run through the registry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from sfm.matchers.base import Matcher, Resizable
from sfm.matchers.efficient_loftr import checkpoint
from sfm.matchers.efficient_loftr.matcher import EfficientLoFTRMatcher
from tests.support.efficient_loftr import matching_state, patch_matcher, save_checkpoint, speckle


@pytest.fixture(scope="module")
def matcher() -> EfficientLoFTRMatcher:
    return patch_matcher()


def match(matcher: EfficientLoFTRMatcher, image0, image1, masks=None):
    return matcher.match([tuple(matcher.encode([image0, image1], masks))])[0]


def scene() -> np.ndarray:
    """(256, 320) u8 with details of more than some pixels, which cells still tell when they are moved by two."""
    rng = np.random.default_rng(5)
    image = sum(sigma * gaussian_filter(rng.standard_normal((256, 320)), sigma) for sigma in (2.5, 4))
    return ((image - image.min()) / np.ptp(image) * 255).astype(np.uint8)


SCENE = scene()


def test_is_a_matcher(matcher):
    assert isinstance(matcher, Matcher)
    assert isinstance(matcher, Resizable)
    assert matcher.anchor == 1 / 16
    assert matcher.traits.dense
    assert matcher.provenance["weights_sha256"] == "0" * 64
    assert all(isinstance(value, str) for value in matcher.provenance.values())


@pytest.mark.parametrize("shift", [(0, 0), (8, 16), (6, 0), (2, -2), (-10, 14)])
def test_what_moved_is_found_where_it_went(matcher, shift):
    """The same scene seen `shift` (x, y) px further: even numbers, which the features at a half see exactly."""
    dx, dy = shift
    image0, image1 = SCENE[40:200, 40:264], SCENE[40 + dy : 200 + dy, 40 + dx : 264 + dx]
    found = match(matcher, image0, image1)
    assert len(found) >= 100
    error = np.abs(found.points1 - found.points0 + (dx, dy)).max(axis=1)
    assert np.median(error) < 0.1
    assert (error < 1).mean() > 0.9


def test_a_point_lies_around_its_cells_anchor(matcher):
    """One cell, one keypoint: within half a cell of where LoFTR has it in image 0, and a pixel more in image 1."""
    image0, image1 = SCENE[40:200, 40:264], SCENE[44:204, 42:266]
    found = match(matcher, image0, image1)
    grid = matcher.grid(224, 160)
    assert (grid.cell_width, grid.cell_height, grid.columns) == (8, 8, 28)
    for points, cells, reach in ((found.points0, found.cells0, 3.5), (found.points1, found.cells1, 4.5)):
        anchors = (np.stack([cells % 28, cells // 28], axis=1) + matcher.anchor) * 8
        assert np.abs(points - anchors).max() <= reach + 1e-4
    assert len(np.unique(found.cells0)) == len(found)
    assert (np.diff(found.confidence) <= 0).all()


def test_sides_are_multiples_of_32_and_pixels_those_of_the_image(matcher):
    assert matcher.net_size(224, 160) == (224, 160)
    assert matcher.net_size(223, 150) == (224, 160)
    assert matcher.net_size(10, 3) == (32, 32)
    reduced = matcher.at_size(160)
    assert reduced.net_size(640, 480) == (160, 128)
    assert reduced.provenance["resize"] == "160"
    image = np.asarray(Image.fromarray(SCENE).resize((300, 250)))
    found = match(matcher, image, image)
    assert len(found) >= 150
    assert np.median(np.abs(found.points0 - found.points1)) < 0.1
    assert found.points0[:, 0].max() > 260
    assert (found.points1 <= (300, 250)).all()


def test_batch_is_one_by_one(matcher):
    images = [SCENE[:160, :224], SCENE[8:168, 8:232], SCENE[:128, :160]]
    features = matcher.encode(images)
    pairs = [(features[0], features[1]), (features[2], features[0]), (features[1], features[0])]
    for together, pair in zip(matcher.match(pairs), pairs, strict=True):
        alone = matcher.match([pair])[0]
        assert (together.points1 == alone.points1).all()
        assert (together.cells0 == alone.cells0).all()
    assert matcher.match([]) == []
    assert matcher.encode([]) == []


def test_masked_pixels_match_nothing(matcher):
    image = SCENE[:160, :224]
    left = np.zeros(image.shape, bool)
    left[:, :112] = True
    found = match(matcher, image, image, [left, None])
    assert len(found) >= 50
    assert found.points0[:, 0].max() <= 112
    assert len(match(matcher, image, image, [None, np.zeros(image.shape, bool)])) == 0


def test_blank_and_tiny_images_match_nothing(matcher):
    blank = np.full((160, 224), 128, np.uint8)
    assert len(match(matcher, blank, SCENE)) == 0
    assert len(match(matcher, np.zeros((3, 40), np.uint8), SCENE)) == 0


def test_random_weights_of_a_file_match_what_is_moved_by_whole_windows_of_attention(tmp_path: Path):
    path = save_checkpoint(tmp_path / "tiny.ckpt", matching_state())
    matcher = checkpoint.load(str(path), resize=0)
    assert matcher.name == "efficient-loftr-tiny"
    image = speckle(192, 288)
    found = match(matcher, image, image)
    assert len(found) >= 100
    assert np.median(np.abs(found.points1 - found.points0)) < 0.1
