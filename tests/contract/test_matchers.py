"""One suite for everything that is a Matcher."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom

from sfm.errors import BadImage, BadOption
from sfm.matchers.base import Matcher
from sfm.types import MatcherTraits
from tests.support.folders import ROOT


def _sift() -> Matcher:
    from sfm.matchers.sift import SiftMatcher

    return SiftMatcher()


def _loftr_compact() -> Matcher:
    from sfm import weights

    if not (ROOT / "weights" / "loftr_compact.safetensors").is_file():
        pytest.skip("weights/loftr_compact.safetensors is not in this checkout")
    return weights.load("compact", device="cpu", offline=True)


def _efficient_loftr() -> Matcher:
    from tests.support.efficient_loftr import patch_matcher

    return patch_matcher()


def _vismatch() -> Matcher:
    from sfm.matchers.vismatch import VismatchMatcher
    from tests.support.vismatch_model import SiftInVismatch

    return VismatchMatcher(SiftInVismatch(), "sift", version="0", resize=0, threshold=None)


def _keypoint_network(name: str) -> Matcher:
    from sfm.matchers.registry import make_matcher
    from sfm.options import MatchingOptions

    try:
        return make_matcher(MatchingOptions(matcher=name, device="cpu"))
    except BadOption as error:
        pytest.skip(str(error))


MATCHERS = {
    "sift": _sift,
    "loftr-compact": _loftr_compact,
    "efficient-loftr": _efficient_loftr,
    "vismatch": _vismatch,
    "xfeat": lambda: _keypoint_network("xfeat"),
    "aliked-lightglue": lambda: _keypoint_network("aliked-lightglue"),
}


@cache
def _matcher(name: str) -> Matcher:
    return MATCHERS[name]()


@pytest.fixture(params=MATCHERS)
def matcher(request) -> Matcher:
    return _matcher(request.param)


def textured(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blobs of many sizes: texture for detectors and networks alike."""
    rng = np.random.default_rng(seed)
    image = sum(sigma * gaussian_filter(rng.standard_normal((height, width)), sigma) for sigma in (1, 2, 4, 8, 16))
    low, high = np.percentile(image, (1, 99))
    return np.clip((image - low) / (high - low) * 255, 0, 255).astype(np.uint8)


def match(matcher: Matcher, image0, image1, mask0=None, mask1=None):
    return matcher.match([tuple(matcher.encode([image0, image1], [mask0, mask1]))])[0]


IMAGE = textured(168, 224)


def test_is_a_matcher(matcher):
    assert isinstance(matcher, Matcher)
    assert matcher.batch_size >= 1
    assert all(isinstance(k, str) and isinstance(v, str) for k, v in matcher.provenance.items())
    assert matcher.provenance["matcher"]
    assert isinstance(matcher.traits, MatcherTraits)
    assert matcher.traits.dense == (matcher.grid(224, 168) is not None)
    assert all(features.nbytes > 0 for features in matcher.encode([IMAGE]))


def test_image_matches_itself(matcher):
    matches = match(matcher, IMAGE, IMAGE)
    assert len(matches) >= 100
    distance = np.linalg.norm(matches.points0 - matches.points1, axis=1)
    assert np.mean(distance < 2.0) > 0.9
    assert ((matches.confidence >= 0) & (matches.confidence <= 1)).all()
    assert matches.confidence.max() > 0.3


def test_shift_is_found(matcher):
    big = textured(192, 272)
    matches = match(matcher, big[:168, :224], big[24:, 48:])
    assert len(matches) >= 50
    shift = np.median(matches.points0 - matches.points1, axis=0)
    np.testing.assert_allclose(shift, (48, 24), atol=0.5)


def test_two_sizes(matcher):
    if matcher.name == "efficient-loftr-patches":
        pytest.skip("patches of pixels are of one scale")
    big = zoom(IMAGE, 1.5, order=1)[:, :280]  # 252 x 280, which shows the left 187 px
    matches = match(matcher, IMAGE, big)
    assert len(matches) >= 50
    error = np.linalg.norm(matches.points0 * 1.5 - matches.points1, axis=1)
    assert np.median(error) < 3.0
    backwards = match(matcher, big, IMAGE)
    assert np.median(np.linalg.norm(backwards.points0 - backwards.points1 * 1.5, axis=1)) < 3.0


def test_points_are_inside(matcher):
    image0, image1 = textured(139, 203, 1), textured(168, 224, 1)
    image1[:139, :203] = image0
    matches = match(matcher, image0, image1)
    for points, (height, width) in ((matches.points0, image0.shape), (matches.points1, image1.shape)):
        assert ((points >= 0) & (points <= (width, height))).all()


@pytest.mark.slow
def test_batch_equals_one_by_one(matcher):
    images = [IMAGE, np.roll(IMAGE, 16, axis=1), textured(120, 160, 2)]
    features = matcher.encode(images)
    pairs = [(features[0], features[1]), (features[0], features[2]), (features[1], features[0])]
    for together, (f0, f1) in zip(matcher.match(pairs), pairs, strict=True):
        alone = matcher.match([(f0, f1)])[0]
        assert abs(len(together) - len(alone)) <= 0.01 * len(alone)
        common = set(zip(together.cells0.tolist(), together.cells1.tolist(), strict=True)) & set(
            zip(alone.cells0.tolist(), alone.cells1.tolist(), strict=True)
        )
        assert len(common) >= 0.99 * len(set(zip(alone.cells0.tolist(), alone.cells1.tolist(), strict=True)))
    assert matcher.match([]) == []
    assert matcher.encode([]) == []


@pytest.mark.parametrize("value", [0, 128, 255])
def test_blank_images_match_nothing(matcher, value):
    blank = np.full(IMAGE.shape, value, np.uint8)
    assert len(match(matcher, blank, blank)) == 0
    assert len(match(matcher, IMAGE, blank)) == 0
    assert len(match(matcher, blank, IMAGE)) == 0


def test_tiny_image_is_no_error(matcher):
    for shape in ((1, 1), (3, 40), (9, 9)):
        tiny = np.full(shape, 100, np.uint8)
        assert len(match(matcher, tiny, IMAGE)) == 0


def test_masked_pixels_match_nothing(matcher):
    left = np.zeros(IMAGE.shape, np.bool_)
    left[:, :112] = True
    slack = 16.0  # a coarse cell may straddle the border of the mask
    matches = match(matcher, IMAGE, IMAGE, left, None)
    assert len(matches) >= 50
    assert (matches.points0[:, 0] <= 112 + slack).all()
    matches = match(matcher, IMAGE, IMAGE, None, left)
    assert len(matches) >= 50
    assert (matches.points1[:, 0] <= 112 + slack).all()
    assert len(match(matcher, IMAGE, IMAGE, np.zeros(IMAGE.shape, np.bool_), None)) == 0


@pytest.mark.parametrize(
    ("image", "what"),
    [
        (IMAGE / np.float32(255), r"float32 of shape \(168, 224\)"),
        (np.repeat(IMAGE[..., None], 3, axis=2), r"uint8 of shape \(168, 224, 3\)"),
        (IMAGE.astype(np.uint16), r"uint16 of shape \(168, 224\)"),
        (IMAGE[:0], r"uint8 of shape \(0, 224\)"),
        (IMAGE.tolist(), "list"),
        ("a.jpg", "str"),
    ],
)
def test_anything_but_8_bit_grey_is_refused_in_one_line(matcher, image, what):
    with pytest.raises(BadImage, match=rf"image 1 of encode is {what}; give 8-bit grey ones: \(H, W\) uint8 arrays$"):
        matcher.encode([IMAGE, image])


@pytest.mark.parametrize(
    ("masks", "what"),
    [
        ([np.ones((168, 225), bool)], r"mask 0 of encode is bool of shape \(168, 225\); give a bool array of its"),
        ([np.ones((168, 224), np.uint8)], r"mask 0 of encode is uint8 of shape \(168, 224\)"),
        ([None, None], "2 masks for 1 images"),
    ],
)
def test_masks_that_do_not_fit_are_refused(matcher, masks, what):
    with pytest.raises(BadImage, match=what):
        matcher.encode([IMAGE], masks)


def test_cells_are_keypoints(matcher):
    """One cell id, one keypoint: its place is fixed by the grid, or by the detector."""
    matches = match(matcher, IMAGE, np.roll(IMAGE, 8, axis=0))
    grid = matcher.grid(224, 168)
    assert min(matches.cells0.min(), matches.cells1.min()) >= 0
    for points, cells in ((matches.points0, matches.cells0), (matches.points1, matches.cells1)):
        if grid is None:
            place = {cell: tuple(point) for cell, point in zip(cells.tolist(), points.tolist(), strict=True)}
            assert all(place[c] == tuple(p) for c, p in zip(cells.tolist(), points.tolist(), strict=True))
        else:
            width, height, columns = grid[:3]
            centre = np.stack([(cells % columns + 0.5) * width, (cells // columns + 0.5) * height], axis=1)
            assert (np.abs(points - centre) <= 2 * np.array([width, height])).all()


def test_images_are_left_alone(matcher):
    image = IMAGE.copy()
    image.flags.writeable = False
    match(matcher, image, image)
    assert (image == IMAGE).all()
