"""Coarse matching (LoFTR section 3.3) in memory linear in the number of cells.

The confidence of cells i and j needs a normaliser for each row and for each column of the
similarity matrix, and a match needs the largest confidence of each row and of each column. All of
these are reductions, so the matrix is formed tile by tile (a tile is some rows by all columns of
one pair) and never held. The plain form is `log_confidence_matrix`; tests hold both together.

Dual-softmax needs one sweep: confidence is the product of two softmaxes, so a match above the
threshold is above it in its row's softmax as well, and the few cells that are (at most 1 /
threshold a row) are kept as candidates until the columns' normalisers are known. Optimal transport
and thresholds near zero need a second sweep for the maxima.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sfm.matchers.loftr.config import LoFTRConfig
from sfm.matchers.loftr.products import full_precision, is_direct, linear

TILE = 1 << 19  # elements of the similarity matrix held at once on a CPU: 2 MB in fp32, near its cache
CUDA_TILE = 1 << 25  # and on a GPU, where each tile costs a few launches
LEAST_CANDIDATE_THRESHOLD = 0.02  # below it, a row may have more than 50 candidates and maxima are swept for
FOLD = 8  # columns that are looked at together for candidates, of which there are few
LOG2_E = 1 / math.log(2)  # powers of two are several times faster than exp on a CPU
LEAST_SUM = 1e-25  # a smaller sum of exponentials has lost digits to underflow


@dataclass(frozen=True, slots=True)
class CoarseMatches:
    """Mutual nearest neighbours of one pair: i_ids, j_ids (M,) i64 cells, i ascending; confidence (M,) f32."""

    i_ids: Tensor
    j_ids: Tensor
    confidence: Tensor


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Pairs of cells that may match. i_ids, j_ids: (K,) i64, i ascending. value: (K,) f32, see each use."""

    i_ids: Tensor
    j_ids: Tensor
    value: Tensor


class CoarseMatching(nn.Module):
    """Dual-softmax or optimal transport, then mutual nearest neighbours above a threshold, off the border."""

    def __init__(self, config: LoFTRConfig) -> None:
        super().__init__()
        self.config = config
        if config.match_type == "sinkhorn":
            self.bin_score = nn.Parameter(torch.tensor(1.0))
        if config.learned_temperature:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(config.temperature)))

    def scaled(self, feat0: Tensor, feat1: Tensor) -> tuple[Tensor, Tensor]:
        """Features in fp32 whose dot products are the similarities."""
        scale = 1.0 / feat0.shape[-1]
        if self.config.match_type == "dual_softmax":
            if self.config.learned_temperature:
                return feat0.float() * (scale * torch.exp(-self.log_temperature)), feat1.float()
            scale /= self.config.temperature
        return feat0.float() * scale, feat1.float()

    def log_confidence_matrix(self, feat0: Tensor, feat1: Tensor) -> Tensor:
        """The plain dual-softmax: (B, L, C), (B, S, C) → (B, L, S) log confidence. For training and tests."""
        feat0, feat1 = self.scaled(feat0, feat1)
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
        ids0, ids1 = _ids(len(feat0), valid0, feat0.device), _ids(len(feat1), valid1, feat1.device)
        with full_precision(feat0):
            found = self._mutual(*self.scaled(feat0[ids0], feat1[ids1]))
        i_ids, j_ids = ids0[found.i_ids], ids1[found.j_ids]
        border = self.config.border
        inside = _off_border(i_ids, hw0, border) & _off_border(j_ids, hw1, border)
        return CoarseMatches(i_ids[inside], j_ids[inside], found.value[inside].exp())

    def _mutual(self, feat0: Tensor, feat1: Tensor) -> _Candidates:
        """Mutual nearest neighbours above the threshold; value is their log confidence."""
        threshold = self.config.threshold
        if not len(feat0) or not len(feat1):
            none = torch.zeros(0, dtype=torch.long, device=feat0.device)
            return _Candidates(none, none, feat0.new_zeros(0))
        if self.config.match_type == "sinkhorn":
            candidates = _sinkhorn(feat0, feat1, self.bin_score.float(), self.config)
        else:
            candidates = _dual_softmax(feat0, feat1, threshold)
        chosen = candidates.value > (math.log(threshold) if threshold > 0 else -math.inf)
        chosen &= _first_best(candidates.i_ids, candidates.value, len(feat0))
        chosen &= _first_best(candidates.j_ids, candidates.value, len(feat1))
        return _Candidates(candidates.i_ids[chosen], candidates.j_ids[chosen], candidates.value[chosen])


def _ids(num: int, valid: Tensor | None, device: torch.device) -> Tensor:
    """The cells that take part: (K,) i64."""
    return torch.arange(num, device=device) if valid is None else torch.nonzero(valid)[:, 0]


def _off_border(cells: Tensor, hw: tuple[int, int], border: int) -> Tensor:
    """(M,) i64 cells of a grid → (M,) bool, False within `border` cells of its rim."""
    rows, columns = torch.div(cells, hw[1], rounding_mode="floor"), cells % hw[1]
    return (rows >= border) & (rows < hw[0] - border) & (columns >= border) & (columns < hw[1] - border)


def _first_best(ids: Tensor, value: Tensor, num: int) -> Tensor:
    """(K,) bool: the candidate with the largest value among those of its id (of `num`), the first of equal ones."""
    best = value.new_full((num,), -math.inf).scatter_reduce(0, ids, value, "amax")
    order = torch.arange(len(ids), device=ids.device)
    tied = torch.where(value == best[ids], order, len(ids))
    return order.new_full((num,), len(ids)).scatter_reduce(0, ids, tied, "amin")[ids] == order


def row_tiles(feat0: Tensor, feat1: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Row slices and their similarities (rows, S); the next tile overwrites it.

    One buffer for all: with one each, the few candidates that are kept between two tiles would stop the
    allocator from reusing the memory of the last, and in the end all tiles would be resident.
    """
    rows = min(len(feat0), max(1, (CUDA_TILE if feat0.is_cuda else TILE) // len(feat1)))
    buffer = feat0.new_empty(rows, len(feat1))
    for start in range(0, len(feat0), rows):
        part = slice(start, min(start + rows, len(feat0)))
        tile = buffer[: part.stop - start]
        if is_direct(tile):
            yield part, tile.copy_(linear(feat0[part], feat1))
        else:
            yield part, torch.mm(feat0[part], feat1.T, out=tile)


def _exponentials(tile: Tensor) -> tuple[Tensor, Tensor]:
    """In place: exp(tile - its row's maximum), and the maxima (rows,)."""
    top = tile.amax(dim=1)
    return tile.sub_(top[:, None]).mul_(LOG2_E).exp2_(), top


def where_above(tile: Tensor, least: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where the tile (rows, S) exceeds `least` (rows,): i_ids, j_ids (K,) i64 and the values (K,).

    The columns are laid one on another first, FOLD deep: a comparison and a list of where it holds cost more than
    several maxima.
    """
    num = tile.shape[1]
    width = -(-num // FOLD)
    best = tile[:, :width].clone()
    for start in range(width, num, width):
        part = tile[:, start : start + width]
        torch.maximum(best[:, : part.shape[1]], part, out=best[:, : part.shape[1]])
    i_ids, first = torch.where(best > least[:, None])
    i_ids = i_ids.repeat_interleave(FOLD)
    j_ids = (first[:, None] + torch.arange(0, FOLD * width, width, device=tile.device)).reshape(-1)
    values = tile[i_ids, j_ids.clamp(max=num - 1)]
    above = (values > least[i_ids]) & (j_ids < num)
    return i_ids[above], j_ids[above], values[above]


class _ColumnSums:
    """Sums down the columns of exp(offset of the row) * exponentials, fed tile by tile.

    The exponentials of the rows serve the columns too: one exp an element instead of two.
    """

    def __init__(self, num: int, like: Tensor) -> None:
        self.top = like.new_full((), -math.inf)
        self.sum = like.new_zeros(num)
        self._part = like.new_empty(num)  # reused, as the tiles' buffer is

    def add(self, exponentials: Tensor, offset: Tensor) -> None:
        """exponentials: (rows, S) in [0, 1]; offset: (rows,)."""
        top = torch.maximum(self.top, offset.max())
        torch.mv(exponentials.T, torch.exp(offset - top), out=self._part)
        self.sum.mul_(torch.exp(self.top - top)).add_(self._part)
        self.top = top

    @property
    def exact(self) -> bool:
        """False where a column lies so far below the largest element that underflow has touched its sum."""
        return bool(self.sum.min() > LEAST_SUM)

    def log(self) -> Tensor:
        """(S,) logarithm of the sums."""
        return self.top + self.sum.log()


def _column_logsumexp(feat0: Tensor, feat1: Tensor, row_term: Tensor) -> Tensor:
    """(S,) logsumexp down the columns of similarity + row_term (L,), whatever their range. One sweep."""
    top = feat0.new_full((len(feat1),), -math.inf)
    total = feat0.new_zeros(len(feat1))
    for part, tile in row_tiles(feat0, feat1):
        tile += row_term[part, None]
        before, top = top, torch.maximum(top, tile.amax(dim=0))
        total = total * torch.exp(before - top) + tile.sub_(top).exp_().sum(dim=0)
    return top + total.log()


def _dual_softmax(feat0: Tensor, feat1: Tensor, threshold: float) -> _Candidates:
    """Cells that may match, by log confidence: 2 s_ij - logsumexp_j s_ij - logsumexp_i s_ij."""
    one_sweep = threshold >= LEAST_CANDIDATE_THRESHOLD
    rows = feat0.new_empty(len(feat0))
    sums = _ColumnSums(len(feat1), feat0)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for part, tile in row_tiles(feat0, feat1):
        exponentials, top = _exponentials(tile)
        total = exponentials.sum(dim=1)
        rows[part] = top + total.log()
        sums.add(exponentials, top)
        if one_sweep:  # a little under the threshold, so that rounding loses none
            i_ids, j_ids, values = where_above(exponentials, 0.999 * threshold * total)
            found.append((i_ids + part.start, j_ids, values.log() + top[i_ids]))
    columns = sums.log() if sums.exact else _column_logsumexp(feat0, feat1, torch.zeros_like(rows))
    if not one_sweep:
        return _maxima(2 * feat0, feat1, -rows, -columns)
    i_ids, j_ids, similarity = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = torch.argsort(i_ids * len(feat1) + j_ids)
    i_ids, j_ids, similarity = i_ids[order], j_ids[order], similarity[order]
    return _Candidates(i_ids, j_ids, 2 * similarity - rows[i_ids] - columns[j_ids])


def _maxima(feat0: Tensor, feat1: Tensor, row_term: Tensor, column_term: Tensor) -> _Candidates:
    """The largest similarity + row_term + column_term of each row, then of each column. One sweep."""
    num0, num1 = len(feat0), len(feat1)
    i_ids, j_ids = (torch.arange(num, device=feat0.device) for num in (num0, num1))
    row_max, row_argmax = feat0.new_empty(num0), torch.empty_like(i_ids)
    col_max, col_argmax = feat0.new_full((num1,), -math.inf), torch.zeros_like(j_ids)
    for part, tile in row_tiles(feat0, feat1):
        tile.add_(row_term[part, None]).add_(column_term)
        row_max[part], row_argmax[part] = tile.max(dim=1)
        top, where = tile.max(dim=0)
        better = top > col_max
        col_max = torch.where(better, top, col_max)
        col_argmax = torch.where(better, where + part.start, col_argmax)
    return _Candidates(torch.cat([i_ids, col_argmax]), torch.cat([row_argmax, j_ids]), torch.cat([row_max, col_max]))


def _sinkhorn(feat0: Tensor, feat1: Tensor, bin_score: Tensor, config: LoFTRConfig) -> _Candidates:
    """Optimal transport with dustbins in the log domain (Sarlin et al., CVPR 2020, section 3.2), tile by tile.

    Every cell has the mass 1 / (L + S), the dustbin row the mass S / (L + S), the dustbin column L / (L + S).
    """
    num0, num1 = len(feat0), len(feat1)
    norm = -math.log(num0 + num1)
    u, u_bin = feat0.new_zeros(num0), feat0.new_zeros(())
    v, v_bin = feat0.new_zeros(num1), feat0.new_zeros(())
    for _ in range(config.sinkhorn_iterations):
        sums = _ColumnSums(num1, feat0)
        for part, tile in row_tiles(feat0, feat1):
            exponentials, top = _exponentials(tile.add_(v))
            u[part] = norm - torch.logaddexp(top + exponentials.sum(dim=1).log(), bin_score + v_bin)
            sums.add(exponentials, top + u[part])
        u_bin = norm + math.log(num1) - torch.logaddexp((bin_score + v).logsumexp(dim=0), bin_score + v_bin)
        columns = sums.log() - v if sums.exact else _column_logsumexp(feat0, feat1, u)
        v = norm - torch.logaddexp(columns, bin_score + u_bin)
        v_bin = norm + math.log(num0) - torch.logaddexp((bin_score + u).logsumexp(dim=0), bin_score + u_bin)
    maxima = _maxima(feat0, feat1, u - norm, v)
    if not config.sinkhorn_prefilter:
        return maxima
    keep0 = torch.nonzero(maxima.value[:num0] >= bin_score + u + v_bin - norm)[:, 0]
    keep1 = torch.nonzero(maxima.value[num0:] >= bin_score + u_bin + v - norm)[:, 0]
    return _maxima_of_kept(feat0, feat1, (u - norm, v), (keep0, keep1))


def _maxima_of_kept(
    feat0: Tensor, feat1: Tensor, terms: tuple[Tensor, Tensor], keep: tuple[Tensor, Tensor]
) -> _Candidates:
    """`_maxima` of some cells only: those that do not go to the dustbin."""
    (keep0, keep1), (row_term, column_term) = keep, terms
    if not len(keep0) or not len(keep1):
        return _Candidates(keep0[:0], keep1[:0], row_term[:0])
    kept = _maxima(feat0[keep0], feat1[keep1], row_term[keep0], column_term[keep1])
    return _Candidates(keep0[kept.i_ids], keep1[kept.j_ids], kept.value)
