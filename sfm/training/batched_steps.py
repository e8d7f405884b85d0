"""Training on batches that torch makes on the spot, up to a time: one GPU, or a CPU for a try.

The coarse loss is focal (Lin et al., ICCV 2017) on the dual-softmax, with the best false claim of each cell that has
no partner, in both directions. Each pair counts by the root of its matches, so that few matches of a wide baseline
are not lost among the many of a narrow one. Cells of which nothing is certain are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sfm.datasets.batched_pairs.batch import PairBatch
from sfm.matchers.loftr.config import COARSE_STRIDE, FINE_STRIDE
from sfm.matchers.loftr.fine_matching import CELLS, FineOffsets, fine_offsets
from sfm.matchers.loftr.model import LoFTR
from sfm.matchers.loftr.products import full_precision
from sfm.matchers.loftr.training.supervision import Supervision, nearest_cells, supervise

FOCUS = 1.0  # gamma of the focal loss
NEGATIVE_WEIGHT = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """True matches: b_ids, i_ids, j_ids (M,) i64 and weight (M,) f32. dense: those with sub-pixel targets, K of them,
    target0, target1 as Supervision's. unmatched0: (B, L), unmatched1: (B, S) bool, certainly without a partner."""

    b_ids: Tensor
    i_ids: Tensor
    j_ids: Tensor
    weight: Tensor
    dense: Supervision


def truth_of(batch: PairBatch) -> Truth:
    """The matches that the network should find."""
    hw = (batch.warp01.shape[1], batch.warp01.shape[2])
    dense = supervise(batch.warp01, batch.warp10, batch.known0, batch.known1)
    num = len(batch.image0)
    i_ids, j_ids = nearest_cells(batch.points0, hw), nearest_cells(batch.points1, hw)
    off = torch.cat([batch.points0, batch.points1], dim=1) - 0.5
    off = (off - COARSE_STRIDE * torch.round(off / COARSE_STRIDE)).square().sum(dim=1)  # (M,) px²
    near = torch.exp(-off / 32) * ((i_ids >= 0) & (j_ids >= 0))
    b_ids = torch.cat([dense.b_ids, batch.b_ids])
    weight = torch.cat([torch.ones_like(dense.b_ids, dtype=torch.float32), near])
    total = torch.zeros(num, device=weight.device).index_add_(0, b_ids, weight)
    weight = weight / total.clamp(min=4.0).sqrt()[b_ids]
    ids0, ids1 = torch.cat([dense.i_ids, i_ids.clamp(min=0)]), torch.cat([dense.j_ids, j_ids.clamp(min=0)])
    return Truth(b_ids, ids0, ids1, weight, dense)


def coarse_terms(scaled0: Tensor, scaled1: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Similarities (B, L, S), their logsumexp over rows (B, L) and columns (B, S), and the largest log confidence of
    each cell, (B, L) and (B, S)."""
    similarity = torch.einsum("blc,bsc->bls", scaled0, scaled1)
    rows, columns = similarity.logsumexp(dim=2), similarity.logsumexp(dim=1)
    confidence = 2 * similarity - rows[:, :, None] - columns[:, None]
    return similarity, rows, columns, confidence.amax(dim=2), confidence.amax(dim=1)


def focal_loss(terms: tuple[Tensor, Tensor, Tensor, Tensor, Tensor], truth: Truth) -> tuple[Tensor, Tensor]:
    """The loss, and the mean log confidence of the true matches."""
    similarity, rows, columns, best0, best1 = terms
    b, i, j = truth.b_ids, truth.i_ids, truth.j_ids
    log_confidence = 2 * similarity[b, i, j] - rows[b, i] - columns[b, j]  # (M,)
    doubt = (1 - log_confidence.detach().clamp(max=0).exp()) ** FOCUS
    total = truth.weight.sum().clamp(min=1e-6)
    positive = -(truth.weight * doubt * log_confidence).sum() / total
    negative = similarity.new_zeros(())
    for best, unmatched in ((best0, truth.dense.unmatched0), (best1, truth.dense.unmatched1)):
        claim = best.clamp(max=-1e-3).exp()
        penalty = -torch.log1p(-claim.clamp(max=0.999)) * claim.detach() ** FOCUS
        negative = negative + (penalty * unmatched).sum()
    return positive + NEGATIVE_WEIGHT * negative / max(1, len(truth.dense.b_ids)), (
        truth.weight * log_confidence.detach()
    ).sum() / total


def windows_of_batch(maps: Tensor, b_ids: Tensor, cells: Tensor, columns: int, window: int) -> Tensor:
    """Windows of fine maps (B, c, H/2, W/2) around coarse cells (M,) of images b_ids (M,): (M, window², c)."""
    pad = window // 2
    padded = torch.nn.functional.pad(maps.permute(0, 2, 3, 1), (0, 0, pad, pad, pad, pad))  # (B, h, w, c)
    steps = torch.arange(window, device=cells.device)
    rows = torch.div(cells, columns, rounding_mode="floor")[:, None] * CELLS + steps
    cols = (cells % columns)[:, None] * CELLS + steps
    h, w = padded.shape[1:3]
    index = (b_ids[:, None, None] * h + rows[:, :, None]) * w + cols[:, None, :]
    flat = padded.reshape(-1, padded.shape[3])
    return flat.index_select(0, index.reshape(-1)).reshape(len(cells), window * window, padded.shape[3])


def fine_term(
    model: LoFTR, feats: tuple[Tensor, Tensor], fine: Tensor, dense: Supervision, chosen: Tensor, columns: int
) -> Tensor:
    """Squared error of the sub-pixel offsets in half windows, weighted by certainty, both directions."""
    if not len(chosen):
        return fine.sum().float() * 0
    window, num = model.config.fine_window, len(feats[0])
    b_ids, sides = dense.b_ids[chosen], []
    for feat, maps, cells in ((feats[0], fine[:num], dense.i_ids[chosen]), (feats[1], fine[num:], dense.j_ids[chosen])):
        windows = windows_of_batch(maps, b_ids, cells, columns, window)
        sides.append(model.fine_preprocess(windows, feat[b_ids, cells]))
    offsets: FineOffsets = fine_offsets(sides[0], sides[1], model.loftr_fine)
    reach = window // 2 * FINE_STRIDE
    loss = fine.new_zeros((), dtype=torch.float32)
    for offset, spread, target in (
        (offsets.offset0, offsets.spread0, dense.target0[chosen]),
        (offsets.offset1, offsets.spread1, dense.target1[chosen]),
    ):
        certainty = 1 / spread.detach().clamp(min=1e-2)
        error = ((offset - target) / reach).square().sum(dim=1)
        loss = loss + (certainty / certainty.mean().clamp(min=1e-6) * error).sum() / max(1, len(error))
    return loss


def losses(
    model: LoFTR, batch: PairBatch, truth: Truth, *, fine_matches: int = 48, terms: object = coarse_terms
) -> tuple[Tensor, Tensor, Tensor]:
    """Coarse loss, fine loss, and the mean log confidence of the true matches."""
    num = len(batch.image0)
    images = torch.cat([batch.image0, batch.image1]).contiguous(memory_format=torch.channels_last)
    coarse, fine = model.backbone(images)
    hw = (coarse.shape[2], coarse.shape[3])
    tokens = model.loftr_coarse.encode(model.tokens(coarse))
    feat0, feat1 = model.pair_tokens(tokens[:num], tokens[num:], hw, hw)
    with full_precision(feat0):
        scaled = model.coarse_matching.scaled(feat0, feat1)
        coarse_loss, confidence = focal_loss(terms(*scaled), truth)  # type: ignore[operator]
    found = len(truth.dense.b_ids)
    chosen = torch.randint(0, max(1, found), (fine_matches * num if found else 0,), device=fine.device)
    fine_loss = fine_term(model, (feat0, feat1), fine, truth.dense, chosen, hw[1])
    return coarse_loss, fine_loss, confidence


@dataclass(frozen=True, slots=True)
class Rates:
    """Peak learning rates: of the global stage, of the transformers and the fine stage, of the CNN. They warm up over
    `warmup` of the run's length and fall along a cosine to `last` of the peak."""

    context: float = 1.5e-3
    transformer: float = 8e-4
    backbone: float = 4e-4
    warmup: float = 0.02
    last: float = 0.01

    def factor(self, done: float) -> float:
        """Of the peak, when `done` of the run is over."""
        if done < self.warmup:
            return max(done / self.warmup, 0.01)
        part = min(1.0, (done - self.warmup) / (1 - self.warmup))
        return self.last + (1 - self.last) * 0.5 * (1 + math.cos(math.pi * part))

    def groups(self, model: LoFTR) -> list[dict[str, object]]:
        """AdamW's groups with their peaks in "rate"; gains, biases and norms do not decay."""
        split: dict[tuple[float, float], list[Tensor]] = {}
        for name, parameter in model.named_parameters():
            trunk = name.startswith("backbone.") and not name.startswith(
                ("backbone.coarse_out", "backbone.quarter", "backbone.half")
            )
            rate = self.context if name.startswith("global_context.") else self.backbone if trunk else self.transformer
            split.setdefault((rate, 0.01 if parameter.dim() > 1 else 0.0), []).append(parameter)
        return [{"params": p, "rate": rate, "weight_decay": decay} for (rate, decay), p in split.items()]
