"""From a batch's truth to the matches that the network should find (LoFTR section 3.5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sfm.datasets.batched_pairs.batch import PairBatch
from sfm.matchers.loftr.config import COARSE_STRIDE
from sfm.matchers.loftr.model import anchors

SPREAD_PX2 = 32.0  # px² by which the weight of a point falls with its distances from the anchors of its two cells
LEAST_MATCHES = 4.0  # that a pair counts as having, so that a single one does not outweigh many


@dataclass(frozen=True, slots=True, eq=False)
class Supervision:
    """True matches of a batch of B pairs, L cells an image. b_ids, i_ids, j_ids: (M,) i64; weight: (M,) f32. The first
    K are of the dense warps and have targets: target1 (K, 2) f32, network px, where the anchor of i lies in image 1,
    from the anchor of j; target0 the other way. unmatched0, unmatched1: (B, L) bool, cells that certainly see nothing
    of the other image."""

    b_ids: Tensor
    i_ids: Tensor
    j_ids: Tensor
    weight: Tensor
    target0: Tensor
    target1: Tensor
    unmatched0: Tensor
    unmatched1: Tensor

    @property
    def num_dense(self) -> int:
        """K."""
        return len(self.target0)


def nearest_cells(points: Tensor, hw: tuple[int, int]) -> Tensor:
    """(..., 2) f32 network px → (...) i64 cell with the nearest anchor; -1 outside the grid or where NaN."""
    column_row = torch.round((points - 0.5) / COARSE_STRIDE)
    size = torch.tensor([hw[1], hw[0]], device=points.device)
    inside = ((column_row >= 0) & (column_row < size)).all(dim=-1)  # False where NaN
    column_row = torch.where(inside[..., None], column_row, 0).long()
    return torch.where(inside, column_row[..., 1] * hw[1] + column_row[..., 0], -1)


def supervise(batch: PairBatch) -> Supervision:
    """Mutually nearest cells under the true warps, and the cells of true points.

    A point counts the less the further it is from the anchors of its cells. The matches of a pair together count as
    the root of their number, so that few of a wide baseline are not lost among the many of a narrow one.
    """
    hw = (batch.warp01.shape[1], batch.warp01.shape[2])
    flat01, flat10 = batch.warp01.flatten(1, 2), batch.warp10.flatten(1, 2)  # (B, L, 2)
    to1, to0 = nearest_cells(flat01, hw), nearest_cells(flat10, hw)  # (B, L)
    back = torch.gather(to0, 1, to1.clamp(min=0))
    mutual = (to1 >= 0) & (back == torch.arange(to1.shape[1], device=to1.device))
    b_dense, i_dense = torch.where(mutual)  # (K,)
    j_dense = to1[b_dense, i_dense]
    i_points, j_points = nearest_cells(batch.points0, hw), nearest_cells(batch.points1, hw)
    inside = (i_points >= 0) & (j_points >= 0)
    off = torch.cat([batch.points0, batch.points1], dim=1)[inside] - 0.5
    off = (off - COARSE_STRIDE * torch.round(off / COARSE_STRIDE)).square().sum(dim=1)  # px²
    b_ids = torch.cat([b_dense, batch.b_ids[inside]])
    weight = torch.cat([torch.ones_like(b_dense, dtype=torch.float32), torch.exp(-off / SPREAD_PX2)])
    total = torch.zeros(len(batch.image0), device=weight.device).index_add_(0, b_ids, weight)
    return Supervision(
        b_ids,
        torch.cat([i_dense, i_points[inside]]),
        torch.cat([j_dense, j_points[inside]]),
        weight / total.clamp(min=LEAST_MATCHES).sqrt()[b_ids],
        flat10[b_dense, j_dense] - anchors(i_dense, hw[1]),
        flat01[b_dense, i_dense] - anchors(j_dense, hw[1]),
        (to1 < 0) & batch.known0.flatten(1),
        (to0 < 0) & batch.known1.flatten(1),
    )
