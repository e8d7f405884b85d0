"""Tiled coarse matching against the whole matrix."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sfm.matchers.loftr import coarse_matching
from sfm.matchers.loftr.coarse_matching import CoarseMatches, CoarseMatching
from sfm.matchers.loftr.config import LoFTRConfig
from tests.support.folders import ROOT

CONFIG = LoFTRConfig(backbone="compact", d_coarse=32, threshold=0.0, border=0)
HW0, HW1 = (7, 11), (9, 5)


def features(num0: int, num1: int, *, spread: float = 3.0) -> tuple[Tensor, Tensor]:
    """Some cells of image 1 are noisy copies of cells of image 0."""
    generator = torch.Generator().manual_seed(5)
    feat0 = torch.randn(num0, 32, generator=generator)
    feat1 = torch.randn(num1, 32, generator=generator)
    shared = min(num0, num1) * 2 // 3
    where = torch.randperm(num1, generator=generator)[:shared]
    feat1[where] = feat0[:shared] + 0.3 * torch.randn(shared, 32, generator=generator)
    return feat0 * spread**0.5, feat1 * spread**0.5


def mutual(confidence: Tensor, threshold: float) -> CoarseMatches:
    """Mutual nearest neighbours of a whole confidence matrix (L, S)."""
    best0, best1 = confidence.argmax(dim=1), confidence.argmax(dim=0)
    i_ids = torch.arange(len(confidence))
    chosen = (best1[best0] == i_ids) & (confidence[i_ids, best0] > threshold)
    return CoarseMatches(i_ids[chosen], best0[chosen], confidence[i_ids, best0][chosen])


def transport(similarity: Tensor, bin_score: Tensor, iterations: int, *, prefilter: bool) -> Tensor:
    """Confidence (L, S) by plain Sinkhorn iterations on the matrix with dustbins, in fp64."""
    num0, num1 = similarity.shape
    scores = torch.nn.functional.pad(similarity.double(), (0, 1, 0, 1), value=bin_score.item())
    rows = torch.tensor([1.0] * num0 + [num1], dtype=torch.float64) / (num0 + num1)
    columns = torch.tensor([1.0] * num1 + [num0], dtype=torch.float64) / (num0 + num1)
    u, v = torch.ones_like(rows), torch.ones_like(columns)
    kernel = scores.exp()
    for _ in range(iterations):
        u = rows / (kernel @ v)
        v = columns / (kernel.T @ u)
    plan = u[:, None] * kernel * v * (num0 + num1)
    confidence = plan[:-1, :-1].clone()
    if prefilter:
        confidence[plan[:-1].argmax(dim=1) == num1] = 0
        confidence[:, plan[:, :-1].argmax(dim=0) == num0] = 0
    return confidence.float()


def assert_same(found: CoarseMatches, expected: CoarseMatches, least: int) -> None:
    assert len(expected.i_ids) >= least
    assert torch.equal(found.i_ids, expected.i_ids)
    assert torch.equal(found.j_ids, expected.j_ids)
    torch.testing.assert_close(found.confidence, expected.confidence, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("tile", [1, 100, 1 << 20])
def test_tiled_dual_softmax_equals_plain(threshold: float, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coarse_matching, "TILE", tile)
    matching = CoarseMatching(replace(CONFIG, threshold=threshold))
    feat0, feat1 = features(77, 45)
    expected = mutual(matching.log_confidence_matrix(feat0[None], feat1[None])[0].exp(), threshold)
    assert_same(matching(feat0, feat1, HW0, HW1), expected, 20)


@pytest.mark.parametrize("threshold", [0.0, 0.05])
def test_similarities_of_any_range(threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exponentials of similarities hundreds apart underflow; normalisers must not."""
    monkeypatch.setattr(coarse_matching, "TILE", 200)
    matching = CoarseMatching(replace(CONFIG, threshold=threshold))
    feat0, feat1 = features(77, 45)
    feat0[::2] *= 12
    expected = mutual(matching.log_confidence_matrix(feat0[None], feat1[None])[0].exp(), threshold)
    assert_same(matching(feat0, feat1, HW0, HW1), expected, 20)


@pytest.mark.parametrize("prefilter", [False, True])
@pytest.mark.parametrize("tile", [1, 100, 1 << 20])
def test_tiled_transport_equals_plain(prefilter: bool, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coarse_matching, "TILE", tile)
    matching = CoarseMatching(replace(CONFIG, match_type="sinkhorn", sinkhorn_prefilter=prefilter))
    feat0, feat1 = features(77, 45, spread=9)
    similarity = feat0 @ feat1.T / 32
    confidence = transport(similarity, matching.bin_score, 3, prefilter=prefilter)
    assert_same(matching(feat0, feat1, HW0, HW1), mutual(confidence, 0.0), 5)


def test_learned_temperature_starts_at_the_given_one() -> None:
    feat0, feat1 = features(77, 45)
    plain = CoarseMatching(CONFIG)(feat0, feat1, HW0, HW1)
    assert_same(CoarseMatching(replace(CONFIG, learned_temperature=True))(feat0, feat1, HW0, HW1), plain, 20)


def test_masked_cells_are_as_if_absent() -> None:
    matching = CoarseMatching(replace(CONFIG, threshold=0.05))
    feat0, feat1 = features(77, 45)
    valid0, valid1 = torch.arange(77) % 3 > 0, torch.arange(45) % 5 > 0
    found = matching(feat0, feat1, HW0, HW1, valid0, valid1)
    similarity = matching.log_confidence_matrix(feat0[valid0][None], feat1[valid1][None])[0].exp()
    alone = mutual(similarity, 0.05)
    ids0, ids1 = torch.nonzero(valid0)[:, 0], torch.nonzero(valid1)[:, 0]
    assert_same(found, CoarseMatches(ids0[alone.i_ids], ids1[alone.j_ids], alone.confidence), 10)


def test_nothing_valid_gives_nothing() -> None:
    feat0, feat1 = features(77, 45)
    found = CoarseMatching(CONFIG)(feat0, feat1, HW0, HW1, torch.zeros(77, dtype=torch.bool))
    assert len(found.i_ids) == len(found.j_ids) == len(found.confidence) == 0


@pytest.mark.parametrize("border", [1, 2, 6])
def test_border(border: int) -> None:
    feat, _ = features(15 * 13, 1)
    found = CoarseMatching(replace(CONFIG, border=border))(feat, feat, (15, 13), (15, 13))
    rows, columns = found.i_ids // 13, found.i_ids % 13
    assert torch.equal(found.i_ids, found.j_ids)
    assert len(found.i_ids) == (15 - 2 * border) * (13 - 2 * border)
    assert rows.min() == border
    assert rows.max() == 14 - border
    assert columns.min() == border
    assert columns.max() == 12 - border


def test_equal_columns_match_once() -> None:
    feat0, feat1 = features(12, 12, spread=10)
    feat1[1] = feat1[0] = feat0[0]
    found = CoarseMatching(replace(CONFIG, threshold=0.1))(feat0, feat1, (3, 4), (3, 4))
    assert found.i_ids.unique().numel() == found.i_ids.numel()
    assert found.j_ids.unique().numel() == found.j_ids.numel()
    assert 0 in found.i_ids


def test_memory_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tile exceeds the limit, all lie in the same memory, and together they cover each row once a sweep."""
    plain, sizes, rows, places = coarse_matching.row_tiles, [], [], set()

    def watched(*args: Any) -> Iterator[tuple[slice, Tensor]]:
        for part, tile in plain(*args):
            sizes.append(tile.numel())
            rows.append(tile.shape[0])
            places.add(tile.data_ptr())
            yield part, tile

    monkeypatch.setattr(coarse_matching, "row_tiles", watched)
    monkeypatch.setattr(coarse_matching, "TILE", 1 << 16)
    feat0, feat1 = (f[:, :8].contiguous() for f in features(3000, 2500, spread=1))
    CoarseMatching(replace(CONFIG, threshold=0.2))(feat0, feat1, (50, 60), (50, 50))
    assert max(sizes) <= 1 << 16
    assert sum(rows) == 3000  # one sweep
    assert len(places) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_similarities_stay_in_fp32_under_autocast(dtype: torch.dtype) -> None:
    matching = CoarseMatching(replace(CONFIG, threshold=0.05))
    feat0, feat1 = features(77, 45)
    expected = matching(feat0, feat1, HW0, HW1)
    with torch.autocast("cpu", dtype):
        found = matching(feat0, feat1, HW0, HW1)
    assert torch.equal(found.i_ids, expected.i_ids)
    assert torch.equal(found.confidence, expected.confidence)


RESIDENT = """
import resource, sys, torch
from sfm.matchers.loftr.coarse_matching import CoarseMatching
from sfm.matchers.loftr.config import LoFTRConfig
torch.set_num_threads(1)
feat0 = torch.randn(14_400, 16, generator=torch.Generator().manual_seed(0)) * 0.9
matching = CoarseMatching(LoFTRConfig(backbone="compact", d_coarse=16, num_heads_coarse=4))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = matching(feat0, feat0.flip(0), (120, 120), (120, 120))
print(len(found.i_ids), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux gives it, in KiB")
def test_resident_memory_stays_bounded() -> None:
    """The whole matrix takes 830 MB; what is kept between tiles must not keep the tiles resident."""
    ran = subprocess.run([sys.executable, "-c", RESIDENT], cwd=ROOT, capture_output=True, text=True, check=True)
    num_matches, grown_kib = map(int, ran.stdout.split())
    assert num_matches > 100
    assert grown_kib < 150 * 1024


@pytest.mark.parametrize("columns", [1, 5, 8, 16, 61])
def test_where_above_equals_comparison(columns: int) -> None:
    tile, least = torch.rand(40, columns, generator=torch.Generator().manual_seed(3)), torch.linspace(0, 1.1, 40)
    i_ids, j_ids = torch.where(tile > least[:, None])
    found = coarse_matching.where_above(tile, least)
    order = torch.argsort(found[0] * columns + found[1])
    assert torch.equal(found[0][order], i_ids)
    assert torch.equal(found[1][order], j_ids)
    assert torch.equal(found[2][order], tile[i_ids, j_ids])
