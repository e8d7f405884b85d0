"""Training losses of LoFTR (section 3.5), for dense exact supervision and for sparse tracks."""

from __future__ import annotations

import torch
from torch import Tensor

from sfm.matchers.loftr.fine_matching import FineOffsets
from sfm.matchers.loftr.training.supervision import Supervision


def coarse_loss(log_confidence: Tensor, ground_truth: Supervision, *, negative_weight: float = 0.5) -> Tensor:
    """Negative log-likelihood of the true matches, plus what cells without a partner still claim to match.

    log_confidence: (B, L, S) of the dual-softmax.
    """
    positive = -log_confidence[ground_truth.b_ids, ground_truth.i_ids, ground_truth.j_ids]
    lost0 = log_confidence[ground_truth.unmatched0]  # (U, S)
    claimed = lost0.exp()
    lost1 = log_confidence.transpose(1, 2)[ground_truth.unmatched1].exp()
    negative = -torch.log1p(-claimed.clamp(max=0.999)).sum() - torch.log1p(-lost1.clamp(max=0.999)).sum()
    return (positive.sum() + negative_weight * negative) / max(1, len(positive))


def sparse_coarse_loss(log_confidence: Tensor, ids: tuple[Tensor, Tensor, Tensor], weight: Tensor) -> Tensor:
    """Weighted negative log-likelihood of sparse true matches. ids: b, i, j (M,); weight: (M,) f32."""
    return -(log_confidence[ids] * weight).sum() / weight.sum().clamp(min=1e-6)


def fine_loss(offsets: FineOffsets, ground_truth: Supervision, chosen: Tensor, reach: float) -> Tensor:
    """Squared error of the offsets in half windows, weighted by certainty (LoFTR equation 6), in both directions.

    chosen: (K,) the true matches that the offsets belong to. reach: half a window in network px.
    """
    return _direction(offsets.offset1, offsets.spread1, ground_truth.target1[chosen], reach) + _direction(
        offsets.offset0, offsets.spread0, ground_truth.target0[chosen], reach
    )


def _direction(offset: Tensor, spread: Tensor, target: Tensor, reach: float) -> Tensor:
    if not len(offset):
        return offset.sum()
    certainty = 1 / spread.detach().clamp(min=1e-2)
    certainty = certainty / certainty.mean()
    return (certainty * ((offset - target) / reach).square().sum(dim=1)).mean()
