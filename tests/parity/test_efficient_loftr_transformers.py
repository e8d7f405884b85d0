"""Our network against that of `transformers` under the same random weights: parity means that published weights work.

Up to the fine features, and again in the second stage, the two are compared as they are. In between the library (5.24)
does not do what the authors' code and the paper do: it takes the softmax of the first stage over the matches of an
image instead of the pixels of a window, and gives every match the same pixel of its window. What is compared there is
the first stage written out here on whole matrices, from the library's own windows.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from sfm.matchers.efficient_loftr.config import WINDOW, EfficientLoFTRConfig
from sfm.matchers.efficient_loftr.fine_matching import first_stage, padded_map, patches_at, second_stage
from sfm.matchers.efficient_loftr.model import EfficientLoFTR, PairMatches
from sfm.matchers.efficient_loftr.naming import as_published, reparameterised
from sfm.matchers.loftr.model import anchors

transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra: test)")

SMALL = EfficientLoFTRConfig(dims=(16, 24, 64), blocks=(2, 2, 3), layers=("self", "cross") * 2, threshold=0.0)
FULL = EfficientLoFTRConfig(threshold=0.0)
SIZES = [(160, 160), (128, 224)]


def build_theirs(config: EfficientLoFTRConfig) -> Any:
    """The library's network of this size."""
    (d1, d2, d3), (b1, b2, b3) = config.dims, config.blocks
    theirs = transformers.EfficientLoFTRConfig(
        stage_num_blocks=[1, b1, b2, b3],
        out_features=[d1, d1, d2, d3],
        hidden_size=d3,
        num_attention_heads=config.num_heads,
        num_attention_layers=len(config.layers) // 2,
        coarse_matching_threshold=config.threshold,
        coarse_matching_temperature=config.temperature,
    )
    return transformers.EfficientLoFTRForKeypointMatching(theirs)


@torch.no_grad()
def twins(config: EfficientLoFTRConfig) -> tuple[Any, EfficientLoFTR]:
    """The library's network and ours with equal random weights, made so that cells can be told apart.

    The normalisation layers have seen images, and have gains and offsets of their own.
    """
    torch.manual_seed(3)
    theirs = build_theirs(config)
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(std=0.1)
        elif isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            fan = module.weight[0].numel()
            module.weight.normal_(std=fan**-0.5)
    for layer in theirs.efficientloftr.local_feature_transformer.layers:
        for attention in (layer.self_attention, layer.cross_attention):
            attention.mlp.layer_norm.weight.fill_(0.2)  # each cell keeps more of its own than the transformer adds
    theirs.train()
    theirs(torch.stack(images((160, 160)), dim=1))
    ours = EfficientLoFTR(config).eval()
    ours.load_state_dict(reparameterised(as_published(theirs.state_dict())), strict=True)
    return theirs.eval(), ours


@cache
def small_twins() -> tuple[Any, EfficientLoFTR]:
    return twins(SMALL)


def images(hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(1, 1, H, W) each: smoothed noise, and the same seen 16 pixels further and 8 down."""
    noise = torch.rand(1, 1, 320, 320, generator=torch.Generator().manual_seed(7))
    smooth = torch.nn.functional.avg_pool2d(noise, 5, stride=1)
    smooth = (smooth - smooth.amin()) / (smooth.amax() - smooth.amin())
    return smooth[..., : hw[0], : hw[1]], smooth[..., 8 : 8 + hw[0], 16 : 16 + hw[1]]


def close(found: Tensor, expected: Tensor, scale: float | None = None) -> None:
    """Equal to 1e-4 of the size of the expected."""
    size = float(expected.abs().max()) if scale is None else scale
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * size)


@pytest.mark.parametrize("hw", SIZES)
@torch.no_grad()
def test_backbone_of_branches_is_that_of_one_convolution(hw: tuple[int, int]) -> None:
    theirs, ours = small_twins()
    for image in images(hw):
        for found, expected in zip(ours.backbone(image), theirs.efficientloftr.backbone(image), strict=True):
            close(found, expected)


@pytest.mark.parametrize("hw", SIZES)
@torch.no_grad()
def test_attention_layer_by_layer(hw: tuple[int, int]) -> None:
    theirs, ours = small_twins()
    feat0, feat1 = (ours.backbone(image)[2] for image in images(hw))
    cos, sin = theirs.efficientloftr.rotary_emb(feat0)
    rotary = cos.flatten(1, 2), sin.flatten(1, 2)
    layers = theirs.efficientloftr.local_feature_transformer.layers
    expected = layers[0].self_attention(feat0, position_embeddings=rotary)
    own, other = (feat.permute(0, 2, 3, 1) for feat in (feat0, feat1))
    close(ours.loftr_coarse.encode(own).permute(0, 3, 1, 2), expected)
    close(ours.loftr_coarse.layers[1](own, other).permute(0, 3, 1, 2), layers[0].cross_attention(feat0, feat1))


def matched_cells(theirs: Any, coarse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cells and scores of the library's matches; coarse: (1, 2, C, h, w). Its second row: of each cell of image 0."""
    _, scores, indices = theirs._coarse_matching(coarse, 8.0)  # noqa: SLF001
    i_ids = torch.nonzero(indices[0, 1] >= 0)[:, 0]
    return i_ids, indices[0, 1, i_ids], scores[0, 1, i_ids]


def windows(theirs: Any, features: tuple[Tensor, ...], i_ids: Tensor, j_ids: Tensor) -> tuple[Tensor, Tensor]:
    """The library's fine windows of matches: (M, 64, c), (M, 100, c)."""
    coarse = features[0] / features[0].shape[2] ** 0.5
    fine0, fine1 = theirs.refinement_layer(coarse, features[1:])
    return fine0[0, i_ids], fine1[0, j_ids]


def written_out(window0: Tensor, window1: Tensor, config: EfficientLoFTRConfig) -> tuple[Tensor, Tensor]:
    """The first stage as the paper has it: pixels (M,), (M,) of the best pair, image 1's without the rim around it."""
    a, b = (window[..., : -config.d_regress].double() for window in (window0, window1))
    similarity = torch.einsum("mlc,mrc->mlr", a, b) / window0.shape[2]
    confidence = similarity.softmax(dim=1) * similarity.softmax(dim=2)
    best = confidence.reshape(-1, 64, 10, 10)[:, :, 1:-1, 1:-1].flatten(1).argmax(dim=1)
    return best // 64, best % 64


def their_second_stage(
    theirs: Any, window0: Tensor, window1: Tensor, pixel0: Tensor, pixel1: Tensor, config: EfficientLoFTRConfig
) -> Tensor:
    """The library's steps in image 1 from pixels of the first stage: (M, 2)."""
    a, b = window0[..., -config.d_regress :], window1[..., -config.d_regress :] / config.d_regress**0.5
    indices = torch.stack([pixel0, pixel1])[None, :, :, None]  # (1, 2, M, 1)
    start = torch.zeros(1, 2, len(pixel0), 2)
    confidence = (a @ b.transpose(1, 2))[None]
    moved = theirs._get_second_stage_fine_matching(indices, start, confidence, 64, 1.0)  # noqa: SLF001
    assert (moved[0, 0] == 0).all()
    return moved[0, 1]


@torch.no_grad()
def assert_equal(theirs: Any, ours: EfficientLoFTR, hw: tuple[int, int], least: int) -> PairMatches:
    """Transformer, matches, fine windows, and points of a pair; at least so many matches."""
    image0, image1 = images(hw)
    features = theirs.efficientloftr(torch.stack([image0, image1], dim=1)).feature_maps
    f0, f1 = ours.encode(image0)[0], ours.encode(image1)[0]
    feat0, feat1 = ours.pair_features([(f0, f1)])
    for found, expected in zip((feat0, feat1), features[0][0], strict=True):
        close(found[0].permute(2, 0, 1), expected)
    (pair,) = ours.match([(f0, f1)])
    i_ids, j_ids, scores = matched_cells(theirs, features[0])
    assert len(i_ids) >= least
    assert torch.equal(pair.i_ids, i_ids)
    assert torch.equal(pair.j_ids, j_ids)
    close(pair.confidence, scores, 1.0)
    window0, window1 = windows(theirs, features, i_ids, j_ids)
    pixel0, pixel1 = written_out(window0, window1, ours.config)
    step = their_second_stage(theirs, window0, window1, pixel0, pixel1, ours.config)
    columns = f0.hw[1]
    middle = (WINDOW - 1) / 2
    at0, at1 = (torch.stack([pixel % WINDOW, pixel // WINDOW], dim=1) - middle for pixel in (pixel0, pixel1))
    close(pair.points0, anchors(i_ids, columns) + at0, 1.0)
    close(pair.points1, anchors(j_ids, columns) + at1 + step, 1.0)
    assert pixel0.unique().numel() > 5
    assert step.abs().max() > 0.01
    return pair


@pytest.mark.parametrize("hw", SIZES)
def test_transformer_matches_and_points(hw: tuple[int, int]) -> None:
    assert_equal(*small_twins(), hw, 40)


def test_thresholds() -> None:
    """Above 0.02, coarse matching goes another way: candidates in one sweep."""
    pair = assert_equal(*twins(replace(SMALL, temperature=0.01, threshold=0.2)), (160, 160), 20)
    assert pair.confidence.min() > 0.2


@pytest.mark.slow
def test_published_size() -> None:
    assert_equal(*twins(FULL), (160, 192), 40)


@torch.no_grad()
def test_windows_are_those_of_the_map_at_full_size() -> None:
    theirs, ours = small_twins()
    image0, image1 = images((128, 160))
    features = theirs.efficientloftr(torch.stack([image0, image1], dim=1)).feature_maps
    cells = torch.tensor([0, 19, 300, 25, 160])
    inner = torch.tensor([45, 150])  # the library's windows of cells at the rim have zeros beyond it
    window0, _ = windows(theirs, features, cells, cells)
    _, window1 = windows(theirs, features, inner, inner)
    coarse = features[0][0]
    maps = [
        padded_map(ours.fine_preprocess(coarse[k][None], features[2][k][None], features[1][k][None])[0]) for k in (0, 1)
    ]
    wide = _interpolation()
    close(wide[1:-1, 1:-1].reshape(64, 36) @ patches_at(maps[0], cells, 20), window0)
    close(wide.reshape(100, 36) @ patches_at(maps[1], inner, 20), window1)


def _interpolation() -> Tensor:
    """(10, 10, 36): what each pixel of a window with a rim takes of 6 x 6 of a map at half its size."""
    unit = torch.eye(36).reshape(36, 1, 6, 6)
    full = torch.nn.functional.interpolate(unit, scale_factor=2.0, mode="bilinear", align_corners=False)
    return full[:, 0, 1:-1, 1:-1].permute(1, 2, 0)


def test_stages_alone() -> None:
    """Where a match lies at the rim of a window, too."""
    theirs, ours = small_twins()
    generator = torch.Generator().manual_seed(5)
    patches0, patches1 = (torch.randn(200, 36, 16, generator=generator) * 3 for _ in range(2))
    wide = _interpolation()
    window0, window1 = wide[1:-1, 1:-1].reshape(64, 36) @ patches0, wide.reshape(100, 36) @ patches1
    split = -ours.config.d_regress
    pixel0, pixel1 = first_stage(patches0[..., :split], patches1[..., :split], ours.config)
    expected0, expected1 = written_out(window0, window1, ours.config)
    assert torch.equal(pixel0, expected0)
    assert torch.equal(pixel1, expected1)
    assert (pixel1 % 8 == 0).any()
    assert (pixel1 < 8).any()
    step = second_stage(patches0[..., split:], patches1[..., split:], pixel0, pixel1, ours.config)
    close(step, their_second_stage(theirs, window0, window1, pixel0, pixel1, ours.config), 1.0)
