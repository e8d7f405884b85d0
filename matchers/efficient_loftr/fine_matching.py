"""Fine features and the two stages of refinement (EfficientLoFTR sections 3.3 and 3.4).

A match of two cells is a match of two windows of 8 x 8 px, the cells' own. First stage: of all pairs of their pixels
the one of greatest confidence, by a dual-softmax. Second: the expectation over 3 x 3 px of image 1, to sub-pixel.

The fine features at full size are the map at 1/2 interpolated bilinearly. They are never made: a window needs 6 x 6 of
the map, and as interpolation is linear, so is the correlation of interpolated features: it is interpolated itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfm.matchers.efficient_loftr.config import WINDOW, EfficientLoFTRConfig
from sfm.matchers.loftr.fine_matching import windows_at
from sfm.matchers.loftr.products import full_precision

PATCH = WINDOW // 2 + 2  # cells of the map at 1/2 along a side, for a window with a pixel around it
WIDE = WINDOW + 2  # px along a side of a window with a pixel around it


class FineFeatures(nn.Module):
    """Matched cells and the backbone's maps joined from coarse to fine; names as in the published checkpoints, with the
    batch normalisation in the convolution before it."""

    def __init__(self, config: EfficientLoFTRConfig) -> None:
        super().__init__()
        d1, d2, d3 = config.dims
        self.layer3_outconv = nn.Conv2d(d3, d3, 1, bias=False)
        self.layer2_outconv = nn.Conv2d(d2, d3, 1, bias=False)
        self.layer2_outconv2 = _joining(d3, d2)
        self.layer1_outconv = nn.Conv2d(d1, d2, 1, bias=False)
        self.layer1_outconv2 = _joining(d2, d1)

    def forward(self, coarse: Tensor, quarter: Tensor, half: Tensor) -> Tensor:
        """(B, d3, H/8, W/8) as matched, (B, d2, H/4, W/4), (B, d1, H/2, W/2) → fine map (B, d1, H/2, W/2)."""
        coarse = self.layer3_outconv(coarse / coarse.shape[1] ** 0.5)  # smaller, so that half precision holds it
        joined = self.layer2_outconv2(self.layer2_outconv(quarter) + _doubled(coarse))
        fine: Tensor = self.layer1_outconv2(self.layer1_outconv(half) + _doubled(joined))
        return fine


def _joining(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, padding=1),
        nn.Identity(),  # the normalisation's place
        nn.LeakyReLU(inplace=True),
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
    )


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def padded_map(fine: Tensor) -> Tensor:
    """(c, H/2, W/2) → (H/2 + 2, W/2 + 2, c), its rim repeated once, as interpolation does."""
    return F.pad(fine[None], (1, 1, 1, 1), mode="replicate")[0].permute(1, 2, 0).contiguous()


def patches_at(padded: Tensor, cells: Tensor, columns: int) -> Tensor:
    """(M, 36, c): what the windows of (M,) i64 cells of a grid `columns` wide are interpolated from."""
    return windows_at(padded, cells, columns, PATCH)


@cache
def _weights() -> Tensor:
    """(10, 10, 36): of each pixel of a window with a pixel around it, the weights of its patch."""
    with torch.inference_mode(False):  # it is kept
        place = (torch.arange(-1, WINDOW + 1) + 0.5) / 2 + 0.5  # along a patch, whose first cell lies before the window
        axis = (1 - (place[:, None] - torch.arange(PATCH)).abs()).clamp(min=0)  # (10, 6)
        return torch.einsum("yr,xs->yxrs", axis, axis).reshape(WIDE, WIDE, PATCH * PATCH)


@dataclass(frozen=True, slots=True)
class Refined:
    """Where M matches lie from the anchors of their cells, network px: offset0, offset1 (M, 2) xy f32."""

    offset0: Tensor
    offset1: Tensor


def refine(patches0: Tensor, patches1: Tensor, config: EfficientLoFTRConfig) -> Refined:
    """Both stages, in full precision. patches0, patches1: (M, 36, c)."""
    with full_precision(patches0):
        patches0, patches1 = patches0.float(), patches1.float()
        pixel0, pixel1 = first_stage(patches0[..., : -config.d_regress], patches1[..., : -config.d_regress], config)
        regress0, regress1 = patches0[..., -config.d_regress :], patches1[..., -config.d_regress :]
        step = second_stage(regress0, regress1, pixel0, pixel1, config)
    middle = (WINDOW - 1) / 2
    at0, at1 = (torch.stack([pixel % WINDOW, pixel // WINDOW], dim=1) - middle for pixel in (pixel0, pixel1))
    return Refined(at0, at1 + step)


def first_stage(patches0: Tensor, patches1: Tensor, config: EfficientLoFTRConfig) -> tuple[Tensor, Tensor]:
    """The pixels of two windows that match best: (M, 36, c) → (M,), (M,) i64, row by row of each window.

    As published, image 1's window is taken with a pixel around it, which may win the softmax but not the match.
    """
    wide = _weights().to(patches0.device)
    narrow = wide[1:-1, 1:-1].reshape(WINDOW * WINDOW, -1)  # (64, 36)
    similarity = torch.bmm(patches0, patches1.transpose(1, 2)) / config.dims[0]  # (M, 36, 36)
    similarity = narrow @ (similarity @ wide.reshape(WIDE * WIDE, -1).T)  # (M, 64, 100)
    confidence = 2 * similarity - similarity.logsumexp(dim=1, keepdim=True) - similarity.logsumexp(dim=2, keepdim=True)
    inside = torch.unflatten(confidence, 2, (WIDE, WIDE))[:, :, 1:-1, 1:-1].flatten(1)  # (M, 64 * 64)
    best = inside.argmax(dim=1)
    return best // WINDOW**2, best % WINDOW**2


def second_stage(
    patches0: Tensor, patches1: Tensor, pixel0: Tensor, pixel1: Tensor, config: EfficientLoFTRConfig
) -> Tensor:
    """Expected step (M, 2) xy px in image 1 from the pixels of the first stage. patches: (M, 36, d_regress).

    The published network counts the 3 x 3 px from the rim of the window with a pixel around it, so that they lie a
    pixel up and to the left, and round the rim at its first row and column; its weights were trained so.
    """
    wide = _weights().to(patches0.device)
    row0, column0, row1, column1 = pixel0 // WINDOW, pixel0 % WINDOW, pixel1 // WINDOW, pixel1 % WINDOW
    steps = torch.arange(-1, 2, device=patches0.device)
    rows, columns = (row1[:, None] + steps) % WIDE, (column1[:, None] + steps) % WIDE  # (M, 3)
    own = torch.bmm(wide[row0 + 1, column0 + 1][:, None], patches0)  # (M, 1, d)
    around = torch.bmm(wide[rows[:, :, None], columns[:, None]].flatten(1, 2), patches1)  # (M, 9, d)
    similarity = (around * own).sum(dim=2) / (config.d_regress**0.5 * config.regress_temperature)
    heat = torch.unflatten(similarity.softmax(dim=1), 1, (3, 3))  # (M, row, column)
    axis = steps.float()
    return torch.stack([heat.sum(dim=1) @ axis, heat.sum(dim=2) @ axis], dim=1)
