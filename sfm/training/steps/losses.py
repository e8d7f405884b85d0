"""Training losses of LoFTR (section 3.5) on batches with dense and sparse truth.

The coarse loss is focal (Lin et al., ICCV 2017) on the dual-softmax, with the best false claim of each cell that has
no partner, in both directions; cells of which nothing is certain are left out. The fine loss is LoFTR's equation 6.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sfm.datasets.batched_pairs.batch import PairBatch
from sfm.datasets.batched_pairs.scenes.scene_parts import Draws
from sfm.matchers.loftr.config import FINE_STRIDE
from sfm.matchers.loftr.fine_matching import CELLS, FineOffsets, fine_offsets
from sfm.matchers.loftr.model import LoFTR
from sfm.matchers.loftr.products import full_precision
from sfm.training.steps.supervision import Supervision, supervise

FOCUS = 1.0  # gamma of the focal loss
NEGATIVE_WEIGHT = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Losses:
    """Of a batch, each a scalar f32: the coarse and the fine loss, and the mean log confidence of the true matches."""

    coarse: Tensor
    fine: Tensor
    log_confidence: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class CoarseTerms:
    """What the coarse loss needs of the dual-softmax. similarity: (B, L, S), and its logsumexp along rows (B, L) and
    columns (B, S). best0: (B, L), best1: (B, S), the largest log confidence of each cell."""

    similarity: Tensor
    rows: Tensor
    columns: Tensor
    best0: Tensor
    best1: Tensor


def batch_losses(model: LoFTR, batch: PairBatch, draws: Draws, *, fine_matches: int) -> Losses:
    """The losses of a batch. fine_matches: true matches of a pair, on average, that are refined; `draws` chooses them.
    The fine loss is zero where the truth is sparse alone."""
    truth, num = supervise(batch), len(batch.image0)
    coarse, fine = model.backbone(torch.cat([batch.image0, batch.image1]))
    hw = (coarse.shape[2], coarse.shape[3])
    tokens = model.loftr_coarse.encode(model.tokens(coarse))
    feat0, feat1 = model.pair_tokens(tokens[:num], tokens[num:], hw, hw)
    with full_precision(feat0):
        terms = coarse_terms(*model.coarse_matching.scaled(feat0, feat1))
        coarse_loss, log_confidence = focal_loss(terms, truth)
    order = torch.randperm(truth.num_dense, generator=draws.generator, device=fine.device)
    fine_loss = fine_term(model, (feat0, feat1), fine, truth, order[: fine_matches * num])
    return Losses(coarse_loss, fine_loss, log_confidence)


def coarse_terms(scaled0: Tensor, scaled1: Tensor) -> CoarseTerms:
    """Of features (B, L, C) and (B, S, C) f32 whose dot products are the similarities."""
    similarity = torch.einsum("blc,bsc->bls", scaled0, scaled1)
    rows, columns = similarity.logsumexp(dim=2), similarity.logsumexp(dim=1)
    confidence = 2 * similarity - rows[:, :, None] - columns[:, None]
    return CoarseTerms(similarity, rows, columns, confidence.amax(dim=2), confidence.amax(dim=1))


def focal_loss(terms: CoarseTerms, truth: Supervision) -> tuple[Tensor, Tensor]:
    """The loss, and the mean log confidence of the true matches."""
    b, i, j = truth.b_ids, truth.i_ids, truth.j_ids
    log_confidence = 2 * terms.similarity[b, i, j] - terms.rows[b, i] - terms.columns[b, j]  # (M,)
    doubt = (1 - log_confidence.detach().clamp(max=0).exp()) ** FOCUS
    total = truth.weight.sum().clamp(min=1e-6)
    positive = -(truth.weight * doubt * log_confidence).sum() / total
    negative = torch.zeros_like(positive)
    for best, unmatched in ((terms.best0, truth.unmatched0), (terms.best1, truth.unmatched1)):
        claim = best.clamp(max=-1e-3).exp()
        penalty = -torch.log1p(-claim.clamp(max=0.999)) * claim.detach() ** FOCUS
        negative = negative + (penalty * unmatched).sum()
    loss = positive + NEGATIVE_WEIGHT * negative / max(1, truth.num_dense)
    return loss, (truth.weight * log_confidence.detach()).sum() / total


def windows_of_batch(maps: Tensor, b_ids: Tensor, cells: Tensor, columns: int, window: int) -> Tensor:
    """`windows_at` of many images: windows of fine maps (B, c, H/2, W/2) around coarse cells (M,) of images b_ids (M,)
    in grids `columns` wide: (M, window², c)."""
    pad = window // 2
    padded = F.pad(maps.permute(0, 2, 3, 1), (0, 0, pad, pad, pad, pad))  # (B, h, w, c)
    steps = torch.arange(window, device=cells.device)
    rows = torch.div(cells, columns, rounding_mode="floor")[:, None] * CELLS + steps
    cols = (cells % columns)[:, None] * CELLS + steps
    h, w = padded.shape[1:3]
    index = (b_ids[:, None, None] * h + rows[:, :, None]) * w + cols[:, None, :]
    flat = padded.reshape(-1, padded.shape[3])
    return flat.index_select(0, index.reshape(-1)).reshape(len(cells), window * window, padded.shape[3])


def fine_term(model: LoFTR, feats: tuple[Tensor, Tensor], fine: Tensor, truth: Supervision, chosen: Tensor) -> Tensor:
    """The fine stage on some of the dense matches: its loss. feats: tokens (B, L, C) of either side. fine: maps of both
    sides, (2 B, c, H/2, W/2). chosen: (N,) i64 below truth.num_dense."""
    if not len(chosen):
        return fine.new_zeros((), dtype=torch.float32)
    window, num, columns = model.config.fine_window, len(feats[0]), fine.shape[3] // CELLS
    b_ids, sides = truth.b_ids[chosen], []
    for feat, maps, cells in ((feats[0], fine[:num], truth.i_ids[chosen]), (feats[1], fine[num:], truth.j_ids[chosen])):
        windows = windows_of_batch(maps, b_ids, cells, columns, window)
        sides.append(model.fine_preprocess(windows, feat[b_ids, cells]))
    offsets = fine_offsets(sides[0], sides[1], model.loftr_fine)
    return offsets_loss(offsets, truth.target0[chosen], truth.target1[chosen], window // 2 * FINE_STRIDE)


def offsets_loss(offsets: FineOffsets, target0: Tensor, target1: Tensor, reach: float) -> Tensor:
    """Squared error of the offsets in half windows, weighted by certainty (LoFTR equation 6), in both directions.

    target0, target1: (N, 2) f32 px, N at least 1. reach: half a window in network px.
    """
    return _direction(offsets.offset0, offsets.spread0, target0, reach) + _direction(
        offsets.offset1, offsets.spread1, target1, reach
    )


def _direction(offset: Tensor, spread: Tensor, target: Tensor, reach: float) -> Tensor:
    certainty = 1 / spread.detach().clamp(min=1e-2)
    return (certainty / certainty.mean() * ((offset - target) / reach).square().sum(dim=1)).mean()
