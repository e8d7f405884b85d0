"""Coarse matching (LoFTR section 3.3) in memory linear in the number of cells.

The confidence of cells i and j needs a normaliser for each row and for each column of the
similarity matrix, and a match needs the largest confidence of each row and of each column. All of
these are reductions, so the matrix is formed tile by tile (a tile is some rows by all columns of
one pair, at most TILE elements) and never held: one sweep a normaliser, one for the maxima. The
plain form is `confidence_matrix`; tests hold both together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from sfm.matchers.loftr.config import LoFTRConfig
from torch import Tensor, nn

TILE = 1 << 21  # elements of the similarity matrix held at once: 8 MB in fp32


@dataclass(frozen=True, slots=True)
class CoarseMatches:
    """Mutual nearest neighbours of one pair: i_ids, j_ids (M,) i64 cells; confidence (M,) f32, descending i."""

    i_ids: Tensor
    j_ids: Tensor
    confidence: Tensor


@dataclass(frozen=True, slots=True)
class _Maxima:
    """Row maxima of the confidence, where they are, and where the maximum of each column is."""

    row_max: Tensor  # (L,) log confidence
    row_argmax: Tensor  # (L,)
    col_argmax: Tensor  # (S,)


class CoarseMatching(nn.Module):
    """Dual-softmax or optimal transport, then mutual nearest neighbours above a threshold, off the border."""

    def __init__(self, config: LoFTRConfig) -> None:
        super().__init__()
        self.config = config
        if config.match_type == "sinkhorn":
            self.bin_score = nn.Parameter(torch.tensor(1.0))
        if config.learned_temperature:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(config.temperature)))

    def _scaled(self, feat0: Tensor, feat1: Tensor) -> tuple[Tensor, Tensor]:
        """Features in fp32 whose dot products are the similarities."""
        scale = 1.0 / feat0.shape[-1]
        if self.config.match_type == "dual_softmax":
            if self.config.learned_temperature:
                return feat0.float() * (scale * torch.exp(-self.log_temperature)), feat1.float()
            scale /= self.config.temperature
        return feat0.float() * scale, feat1.float()

    def log_confidence_matrix(self, feat0: Tensor, feat1: Tensor) -> Tensor:
        """The plain dual-softmax: (B, L, C), (B, S, C) → (B, L, S) log confidence. For training and tests."""
        feat0, feat1 = self._scaled(feat0, feat1)
        similarity = torch.einsum("blc,bsc->bls", feat0, feat1)
        return torch.log_softmax(similarity, dim=1) + torch.log_softmax(similarity, dim=2)

    @torch.no_grad()
    def forward(
        self,
        feat0: Tensor,
        feat1: Tensor,
        hw0: tuple[int, int],
        hw1: tuple[int, int],
        valid0: Tensor | None = None,
        valid1: Tensor | None = None,
    ) -> CoarseMatches:
        """Matches of one pair. feat0: (L, C), feat1: (S, C), cells row by row of grids hw0, hw1.

        valid0: (L,), valid1: (S,) bool or None: cells that take part.
        """
        keep0, keep1 = _kept(hw0, self.config.border, valid0), _kept(hw1, self.config.border, valid1)
        feat0, feat1 = self._scaled(feat0, feat1)
        ids0, ids1 = _ids(valid0), _ids(valid1)
        feat0 = feat0 if ids0 is None else feat0[ids0]
        feat1 = feat1 if ids1 is None else feat1[ids1]
        if not len(feat0) or not len(feat1):
            none = torch.zeros(0, dtype=torch.long, device=feat0.device)
            return CoarseMatches(none, none, none.float())
        if self.config.match_type == "sinkhorn":
            maxima = _sinkhorn_maxima(feat0, feat1, self.bin_score.float(), self.config)
        else:
            maxima = _dual_softmax_maxima(feat0, feat1)
        return _mutual(maxima, self.config.threshold, (keep0, keep1), (ids0, ids1))


def _ids(valid: Tensor | None) -> Tensor | None:
    return None if valid is None or bool(valid.all()) else torch.nonzero(valid)[:, 0]


def _kept(hw: tuple[int, int], border: int, valid: Tensor | None) -> Tensor | None:
    """(h * w,) bool: cells off the border. None where there is no border."""
    if border == 0:
        return None
    keep = torch.zeros(hw, dtype=torch.bool, device=None if valid is None else valid.device)
    keep[border : hw[0] - border, border : hw[1] - border] = True
    return keep.reshape(-1)


def _mutual(
    maxima: _Maxima,
    threshold: float,
    keep: tuple[Tensor | None, Tensor | None],
    ids: tuple[Tensor | None, Tensor | None],
) -> CoarseMatches:
    j_ids = maxima.row_argmax
    i_ids = torch.arange(len(j_ids), device=j_ids.device)
    confidence = maxima.row_max.exp()
    chosen = (confidence > threshold) & (maxima.col_argmax[j_ids] == i_ids)
    i_ids, j_ids, confidence = i_ids[chosen], j_ids[chosen], confidence[chosen]
    i_ids = i_ids if ids[0] is None else ids[0][i_ids]
    j_ids = j_ids if ids[1] is None else ids[1][j_ids]
    if keep[0] is not None and keep[1] is not None:
        inside = keep[0].to(i_ids.device)[i_ids] & keep[1].to(i_ids.device)[j_ids]
        i_ids, j_ids, confidence = i_ids[inside], j_ids[inside], confidence[inside]
    return CoarseMatches(i_ids, j_ids, confidence)


def _tiles(feat0: Tensor, feat1: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Row slices and their similarities (rows, S), at most TILE elements at a time."""
    rows = max(1, TILE // len(feat1))
    transposed = feat1.T.contiguous()
    for start in range(0, len(feat0), rows):
        part = slice(start, min(start + rows, len(feat0)))
        yield part, feat0[part] @ transposed


class _ColumnLogSumExp:
    """Log of the sum of exponentials down the columns, fed tile by tile."""

    def __init__(self, num: int, like: Tensor) -> None:
        self.top = torch.full((num,), -math.inf, device=like.device)
        self.sum = torch.zeros(num, device=like.device)

    def add(self, tile: Tensor) -> None:
        top = torch.maximum(self.top, tile.amax(dim=0))
        self.sum = self.sum * torch.exp(self.top - top) + torch.exp(tile - top).sum(dim=0)
        self.top = top

    def result(self) -> Tensor:
        return self.top + self.sum.log()


class _MaximaOf:
    """Row and column maxima of similarity * scale + row term + column term, fed tile by tile."""

    def __init__(self, feat0: Tensor, feat1: Tensor) -> None:
        self.row_max = feat0.new_empty(len(feat0))
        self.row_argmax = torch.empty(len(feat0), dtype=torch.long, device=feat0.device)
        self.col_max = feat0.new_full((len(feat1),), -math.inf)
        self.col_argmax = torch.zeros(len(feat1), dtype=torch.long, device=feat0.device)

    def add(self, part: slice, tile: Tensor) -> None:
        self.row_max[part], self.row_argmax[part] = tile.max(dim=1)
        top, where = tile.max(dim=0)
        better = top > self.col_max
        self.col_max = torch.where(better, top, self.col_max)
        self.col_argmax = torch.where(better, where + part.start, self.col_argmax)


def _dual_softmax_maxima(feat0: Tensor, feat1: Tensor) -> _Maxima:
    """log confidence = 2 s_ij - logsumexp_j s_ij - logsumexp_i s_ij."""
    rows = feat0.new_empty(len(feat0))
    columns = _ColumnLogSumExp(len(feat1), feat0)
    for part, tile in _tiles(feat0, feat1):
        rows[part] = tile.logsumexp(dim=1)
        columns.add(tile)
    column_terms = columns.result()
    maxima = _MaximaOf(feat0, feat1)
    for part, tile in _tiles(2 * feat0, feat1):
        maxima.add(part, tile.sub_(rows[part, None]).sub_(column_terms))
    return _Maxima(maxima.row_max, maxima.row_argmax, maxima.col_argmax)


def _sinkhorn_maxima(feat0: Tensor, feat1: Tensor, bin_score: Tensor, config: LoFTRConfig) -> _Maxima:
    """Optimal transport with dustbins in the log domain (Sarlin et al., CVPR 2020, section 3.2), tile by tile.

    log_mu is -log(L + S) a cell, with log(S) - log(L + S) for the dustbin row, and so for columns.
    """
    num0, num1 = len(feat0), len(feat1)
    norm = -math.log(num0 + num1)
    u, u_bin = feat0.new_zeros(num0), feat0.new_zeros(())
    v, v_bin = feat0.new_zeros(num1), feat0.new_zeros(())
    for _ in range(config.sinkhorn_iterations):
        for part, tile in _tiles(feat0, feat1):
            lse = (tile + v).logsumexp(dim=1)
            u[part] = norm - torch.logaddexp(lse, bin_score + v_bin)
        u_bin = norm + math.log(num1) - torch.logaddexp((bin_score + v).logsumexp(dim=0), bin_score + v_bin)
        columns = _ColumnLogSumExp(num1, feat0)
        for part, tile in _tiles(feat0, feat1):
            columns.add(tile + u[part, None])
        v = norm - torch.logaddexp(columns.result(), bin_score + u_bin)
        v_bin = norm + math.log(num0) - torch.logaddexp((bin_score + u).logsumexp(dim=0), bin_score + u_bin)
    maxima = _MaximaOf(feat0, feat1)
    for part, tile in _tiles(feat0, feat1):
        maxima.add(part, tile.add_(u[part, None]).add_(v).sub_(norm))
    row_max = maxima.row_max
    if config.sinkhorn_prefilter:
        row_max = torch.where(bin_score + u + v_bin - norm > row_max, -math.inf, row_max)
        lost = bin_score + u_bin + v - norm > maxima.col_max
        row_max = torch.where(lost[maxima.row_argmax], -math.inf, row_max)
    return _Maxima(row_max, maxima.row_argmax, maxima.col_argmax)
