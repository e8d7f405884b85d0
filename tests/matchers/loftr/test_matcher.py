"""LoFTR as a matcher of images: pixels, masks, sizes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sfm.matchers.base import Matcher, Resizable
from sfm.matchers.loftr.config import COMPACT
from sfm.matchers.loftr.matcher import LoFTRMatcher
from sfm.matchers.loftr.model import LoFTR

Image = NDArray[np.uint8]


class PatchBackbone(torch.nn.Module):
    """Features that need no training: the image's own patches around each cell's anchor, of zero mean and unit norm."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, H, W) → (B, 256, H/8, W/8), (B, 64, H/2, W/2)."""
        return patches(image, 16, 8), patches(image, 8, 2)


def patches(image: Tensor, side: int, stride: int) -> Tensor:
    unfolded = F.unfold(F.pad(image, (side // 2,) * 4, mode="replicate"), side, stride=stride)
    unfolded = F.normalize(unfolded - unfolded.mean(dim=1, keepdim=True), dim=1) * side
    h, w = image.shape[2] // stride, image.shape[3] // stride
    columns = image.shape[3] // stride + 1
    return unfolded.reshape(len(image), side * side, -1, columns)[:, :, :h, :w]


@pytest.fixture(scope="module")
def matcher() -> LoFTRMatcher:
    """The whole matcher, its learned parts replaced: patches as features, no transformer layer."""
    config = replace(
        COMPACT,
        d_coarse=256,
        d_fine=64,
        coarse_layers=(),
        fine_layers=(),
        temperature=0.05,
        position_gain=0.0,
        border=2,
    )
    model = LoFTR(config)
    model.backbone = PatchBackbone()
    with torch.no_grad():
        model.fine_preprocess.merge_feat.weight.copy_(torch.eye(64, 128) * 4)
        model.fine_preprocess.merge_feat.bias.zero_()
    return LoFTRMatcher(model, name="test", checksum="0" * 64, resize=0)


def picture(h: int = 224, w: int = 288, seed: int = 0) -> Image:
    noise = torch.rand(1, 1, h // 5, w // 5, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(noise, size=(h, w), mode="bicubic").clamp(0, 1)
    return (smooth[0, 0] * 255).byte().numpy()


def test_is_a_matcher(matcher: LoFTRMatcher) -> None:
    assert isinstance(matcher, Matcher)
    assert matcher.provenance["weights_sha256"] == "0" * 64
    assert matcher.provenance["threshold"] == "0.2"


def test_image_with_itself(matcher: LoFTRMatcher) -> None:
    features = matcher.encode([picture()])[0]
    found = matcher.match([(features, features)])[0]
    assert len(found) > 200
    assert (found.cells0 == found.cells1).mean() > 0.95
    assert np.all(np.diff(found.confidence[: len(found) // 2]) <= 0)


def test_shift_comes_back(matcher: LoFTRMatcher) -> None:
    """A shift by no whole number of cells: the fine stage, in both directions, finds the rest."""
    big = picture(288, 352)
    f0, f1 = matcher.encode([big[:256, :320], big[16:272, 10:330]])
    found = matcher.match([(f0, f1)])[0]
    assert len(found) > 60
    error = np.abs(found.points0 - found.points1 - [10, 16]).max(axis=1)
    for direction in (error[: len(error) // 2], error[len(error) // 2 :]):
        assert np.median(direction) < 0.5
        assert (direction < 1).mean() > 0.8


@pytest.mark.parametrize("resize", [0, 128, 160])
def test_points_are_image_pixels(matcher: LoFTRMatcher, resize: int) -> None:
    """Whatever the network sees, an image matched with itself gives its own pixels, and cells their anchors."""
    other = LoFTRMatcher(matcher.model, name="test", checksum="", resize=resize)
    image = picture(230, 310)
    features = other.encode([image])[0]
    found = other.match([(features, features)])[0]
    w, h = other.net_size(310, 230)
    assert w % 8 == h % 8 == 0
    assert max(w, h) == (resize or 312)
    half = len(found) // 2
    assert half > 30
    cell_w, cell_h, columns, _ = other.grid(310, 230)
    assert (cell_w, cell_h, columns) == (8 * 310 / w, 8 * 230 / h, w // 8)
    cells = np.stack([found.cells0[:half] % columns, found.cells0[:half] // columns], axis=1)
    anchors = (8 * cells + 0.5) * [310 / w, 230 / h]
    np.testing.assert_allclose(found.points0[:half], anchors, atol=1e-3)
    assert np.median(np.abs(found.points0 - found.points1)) < 4 * 310 / w


def test_masked_pixels_give_no_matches(matcher: LoFTRMatcher) -> None:
    image, mask = picture(), np.ones((224, 288), bool)
    mask[:, 100:150] = False
    plain, masked = matcher.encode([image, image], [None, mask])
    found = matcher.match([(plain, masked)])[0]
    assert len(found) > 100
    column, row = found.points1.astype(int).T
    assert mask[row.clip(0, 223), column.clip(0, 287)].all()
    assert masked.nbytes > plain.nbytes


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (17, 300)])
def test_no_matches(matcher: LoFTRMatcher, size: tuple[int, int]) -> None:
    f0, f1 = matcher.encode([np.zeros(size, np.uint8), picture()])
    found = matcher.match([(f0, f1)])[0]
    assert len(found) == 0
    assert matcher.match([]) == []


def test_batch_equals_one_by_one(matcher: LoFTRMatcher) -> None:
    images = [picture(seed=0), picture(seed=0), picture(192, 160, seed=1)]
    features = matcher.encode(images)
    alone = [matcher.encode([image])[0] for image in images]
    pairs = [(0, 1), (0, 2)]
    for found, (a, b) in zip(matcher.match([(features[a], features[b]) for a, b in pairs]), pairs, strict=True):
        expected = matcher.match([(alone[a], alone[b])])[0]
        assert np.array_equal(found.cells0, expected.cells0)
        np.testing.assert_allclose(found.points1, expected.points1, atol=1e-2)


def test_at_size_is_the_same_network_on_images_of_another_size(matcher):
    assert isinstance(matcher, Resizable)
    small = matcher.at_size(64)
    assert small.model is matcher.model
    assert small.net_size(640, 480) == (64, 48)
    assert small.provenance == matcher.provenance | {"resize": "64"}
    assert (small.size, small.at_size(640).size) == (64, 640)
    assert small.at_size(640).net_size(640, 480) == (640, 480)
