"""Coarse-to-fine refinement (LoFTR section 3.4).

Around both cells of a match a window of the fine map is cut out, joined with the cells' coarse
features and passed through a small transformer; the expectation of the correlation between one
window's centre and the other window is the sub-pixel offset.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sfm.matchers.loftr.config import COARSE_STRIDE, FINE_STRIDE, LoFTRConfig
from sfm.matchers.loftr.products import full_precision, linear
from sfm.matchers.loftr.transformer import LayersInTurn

CELLS = COARSE_STRIDE // FINE_STRIDE  # fine cells per coarse cell


def padded_fine_map(fine: Tensor, window: int) -> Tensor:
    """(c, H/2, W/2) → (H/2 + window - 1, W/2 + window - 1, c), zero around, so that a window is rows of memory."""
    pad = window // 2
    padded = fine.new_zeros(fine.shape[1] + 2 * pad, fine.shape[2] + 2 * pad, fine.shape[0])
    padded[pad : pad + fine.shape[1], pad : pad + fine.shape[2]] = fine.permute(1, 2, 0)
    return padded


def windows_at(padded: Tensor, cells: Tensor, columns: int, window: int) -> Tensor:
    """Windows around coarse cells: (M,) i64 cells of a grid that is `columns` wide → (M, window², c)."""
    steps = torch.arange(window, device=cells.device)
    rows = torch.div(cells, columns, rounding_mode="floor")[:, None] * CELLS + steps  # (M, window)
    cols = (cells % columns)[:, None] * CELLS + steps
    index = rows[:, :, None] * padded.shape[1] + cols[:, None, :]  # (M, window, window)
    flat = padded.reshape(-1, padded.shape[2])
    return flat.index_select(0, index.reshape(-1)).reshape(len(cells), window * window, padded.shape[2])


class FinePreprocess(nn.Module):
    """Joins each fine window with the coarse feature of its cell; names as in the published checkpoints."""

    def __init__(self, config: LoFTRConfig) -> None:
        super().__init__()
        self.down_proj = nn.Linear(config.d_coarse, config.d_fine)
        self.merge_feat = nn.Linear(2 * config.d_fine, config.d_fine)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")

    def forward(self, windows: Tensor, coarse: Tensor) -> Tensor:
        """windows: (M, window², c), coarse: (M, C) → (M, window², c)."""
        # merge_feat of [window, coarse], the coarse part computed once a window
        weight_fine, weight_coarse = self.merge_feat.weight.chunk(2, dim=1)
        context = self.down_proj(coarse) @ weight_coarse.T + self.merge_feat.bias  # (M, c)
        joined: Tensor = linear(windows, weight_fine) + context[:, None]
        return joined


def expected_offset(centre: Tensor, windows: Tensor) -> tuple[Tensor, Tensor]:
    """Expectation and spread of the correlation of a centre with a window.

    centre: (M, c), windows: (M, window², c) → offset (M, 2) xy in [-1, 1] half windows, and (M,) the
    sum of the standard deviations in x and y, in the same unit. Both in fp32.
    """
    window = round(windows.shape[1] ** 0.5)
    axis = torch.linspace(-1, 1, window, device=windows.device)
    grid = torch.stack([axis.repeat(window), axis.repeat_interleave(window)], dim=1)  # (window², 2) xy
    with full_precision(windows):
        similarity = torch.einsum("mc,mkc->mk", centre.float(), windows.float()) / windows.shape[2] ** 0.5
        heat = similarity.softmax(dim=1)
        offset = heat @ grid
        variance = heat @ grid**2 - offset**2
    return offset, variance.clamp(min=1e-10).sqrt().sum(dim=1)


@dataclass(frozen=True, slots=True)
class FineOffsets:
    """Sub-pixel offsets of M matches. offset1: (M, 2) network px, where the anchor of cell 0 lies in image 1, from
    the anchor of cell 1; offset0: the other way. spread0, spread1: (M,) standard deviations, in half windows."""

    offset0: Tensor
    offset1: Tensor
    spread0: Tensor
    spread1: Tensor


def fine_offsets(windows0: Tensor, windows1: Tensor, transformer: LayersInTurn) -> FineOffsets:
    """The fine stage in both directions; windows0, windows1: (M, window², c) with their coarse context."""
    fine0, fine1 = transformer.after_encode(transformer.encode(windows0), transformer.encode(windows1))
    middle = windows0.shape[1] // 2
    reach = round(windows0.shape[1] ** 0.5) // 2 * FINE_STRIDE
    offset1, spread1 = expected_offset(fine0[:, middle], fine1)
    offset0, spread0 = expected_offset(fine1[:, middle], fine0)
    return FineOffsets(offset0 * reach, offset1 * reach, spread0, spread1)
