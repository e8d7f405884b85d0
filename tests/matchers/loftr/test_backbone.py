"""Shapes and alignment of the two backbones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sfm.matchers.loftr.backbone import CompactBackbone, ResNetFPN, build_backbone
from sfm.matchers.loftr.config import COMPACT, OUTDOOR, LoFTRConfig

SMALL = replace(OUTDOOR, initial_dim=8, block_dims=(8, 12, 32), d_coarse=32, d_fine=8)


@pytest.mark.parametrize("config", [SMALL, COMPACT], ids=["resnet_fpn", "compact"])
@pytest.mark.parametrize("hw", [(64, 96), (72, 40), (8, 8)])
@torch.no_grad()
def test_shapes(config: LoFTRConfig, hw: tuple[int, int]) -> None:
    coarse, fine = build_backbone(config).eval()(torch.rand(2, 1, *hw))
    assert coarse.shape == (2, config.d_coarse, hw[0] // 8, hw[1] // 8)
    assert fine.shape == (2, config.d_fine, hw[0] // 2, hw[1] // 2)


@pytest.mark.parametrize("config", [SMALL, COMPACT], ids=["resnet_fpn", "compact"])
@torch.no_grad()
def test_shift_by_the_largest_stride_shifts_the_maps(config: LoFTRConfig) -> None:
    """Cells sit at fixed pixels: moving the image by whole cells moves both maps by whole cells, off the borders."""
    torch.manual_seed(0)
    backbone = build_backbone(config).eval()
    period = 32
    tile = torch.rand(1, 1, period, period).repeat(1, 1, 13, 13)  # periodic, so that global statistics agree
    size = 12 * period
    coarse0, fine0 = backbone(tile[..., :size, :size])
    coarse1, fine1 = backbone(tile[..., 8 : 8 + size, 8 : 8 + size])
    coarse_error = (coarse0[..., 20:28, 20:28] - coarse1[..., 19:27, 19:27]).abs().max() / coarse0.std()
    fine_error = (fine0[..., 80:112, 80:112] - fine1[..., 76:108, 76:108]).abs().max() / fine0.std()
    if isinstance(backbone, ResNetFPN):  # its largest stride is 8
        assert coarse_error < 1e-3
    else:  # 1/32 is its coarsest level, so a shift of 8 px is seen by the coarse map, but not much
        assert coarse_error < 2.0
    assert fine_error < (0.05 if isinstance(backbone, ResNetFPN) else 2.0)


@torch.no_grad()
def test_folded_normalisation_equals_the_layers() -> None:
    torch.manual_seed(0)
    backbone = ResNetFPN(SMALL)
    image = torch.rand(1, 1, 64, 72)
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_()
    batch = backbone.train()(image)
    for module in backbone.modules():  # the batch's own variance, which evaluation takes as the running one
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0
    num = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    folded = backbone.eval()(image)
    # evaluation divides by the unbiased variance: equal up to a factor near one
    for found, expected in zip(folded, batch, strict=True):
        assert (found - expected).abs().max() < 0.1 * expected.std()
    assert all(torch.equal(buffer, num[name]) for name, buffer in backbone.named_buffers())


@torch.no_grad()
def test_compact_ignores_brightness_and_contrast() -> None:
    backbone, image = CompactBackbone(COMPACT).eval(), torch.rand(1, 1, 64, 64)
    for found, expected in zip(backbone(0.2 + 0.5 * image), backbone(image), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3)
