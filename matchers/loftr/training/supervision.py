"""From exact warps to the matches that the network should find (LoFTR section 3.5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sfm.matchers.loftr.config import COARSE_STRIDE
from sfm.matchers.loftr.model import anchors


@dataclass(frozen=True, slots=True)
class Supervision:
    """True matches of a batch. b_ids, i_ids, j_ids: (M,) i64. target1: (M, 2) f32, network px, where the
    anchor of i lies in image 1, from the anchor of j; target0: the other way. unmatched0: (B, L),
    unmatched1: (B, S) bool, cells that see nothing of the other image."""

    b_ids: Tensor
    i_ids: Tensor
    j_ids: Tensor
    target0: Tensor
    target1: Tensor
    unmatched0: Tensor
    unmatched1: Tensor


def nearest_cells(points: Tensor, hw: tuple[int, int]) -> Tensor:
    """(..., 2) f32 network px → (...) i64 cell with the nearest anchor; -1 outside the grid or where NaN."""
    column_row = torch.round((points - 0.5) / COARSE_STRIDE)
    size = torch.tensor([hw[1], hw[0]], device=points.device)
    inside = ((column_row >= 0) & (column_row < size)).all(dim=-1)  # False where NaN
    column_row = torch.where(inside[..., None], column_row, 0).long()
    return torch.where(inside, column_row[..., 1] * hw[1] + column_row[..., 0], -1)


def supervise(
    warp01: Tensor, warp10: Tensor, known0: Tensor | None = None, known1: Tensor | None = None
) -> Supervision:
    """Mutually nearest cells under the true warps.

    warp01: (B, h0, w0, 2) f32, where each anchor of image 0 lies in image 1, NaN where unseen; warp10: (B, h1, w1, 2).
    known0, known1: (B, h, w) bool; a cell about which nothing is certain is not one without a partner.
    """
    hw0, hw1 = warp01.shape[1:3], warp10.shape[1:3]
    flat01, flat10 = warp01.flatten(1, 2), warp10.flatten(1, 2)  # (B, L, 2), (B, S, 2)
    to1 = nearest_cells(flat01, (hw1[0], hw1[1]))  # (B, L)
    to0 = nearest_cells(flat10, (hw0[0], hw0[1]))  # (B, S)
    back = torch.gather(to0, 1, to1.clamp(min=0))
    mutual = (to1 >= 0) & (back == torch.arange(to1.shape[1], device=to1.device))
    b_ids, i_ids = torch.where(mutual)
    j_ids = to1[b_ids, i_ids]
    return Supervision(
        b_ids,
        i_ids,
        j_ids,
        flat10[b_ids, j_ids] - anchors(i_ids, hw0[1]),
        flat01[b_ids, i_ids] - anchors(j_ids, hw1[1]),
        to1 < 0 if known0 is None else (to1 < 0) & known0.flatten(1),
        to0 < 0 if known1 is None else (to0 < 0) & known1.flatten(1),
    )
