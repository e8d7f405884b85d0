"""The losses against plain ones on the full matrix, and that they fall towards the truth."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sfm.datasets.batched_pairs.batch import PairBatch
from sfm.datasets.batched_pairs.scenes.scene_parts import Draws
from sfm.matchers.loftr.config import COMPACT
from sfm.matchers.loftr.fine_matching import FineOffsets, padded_fine_map, windows_at
from sfm.matchers.loftr.model import LoFTR
from sfm.training.steps.losses import (
    CoarseTerms,
    batch_losses,
    coarse_terms,
    focal_loss,
    offsets_loss,
    windows_of_batch,
)
from sfm.training.steps.supervision import Supervision

CPU = torch.device("cpu")
TRUTH = Supervision(
    b_ids=torch.tensor([0, 0, 1]),
    i_ids=torch.tensor([0, 2, 1]),
    j_ids=torch.tensor([1, 0, 3]),
    weight=torch.tensor([0.7, 0.7, 1.0]),
    target0=torch.tensor([[1.0, 0.0], [0.0, -2.0], [3.0, 3.0]]),
    target1=torch.tensor([[-1.0, 0.5], [2.0, 0.0], [0.0, 0.0]]),
    unmatched0=torch.tensor([[False, True, False, True], [True, False, True, True]]),
    unmatched1=torch.tensor([[False, False, True, True], [True, True, True, False]]),
)


def log_confidence(similarity: torch.Tensor) -> torch.Tensor:
    return similarity.log_softmax(dim=1) + similarity.log_softmax(dim=2)


def plain_loss(matrix: torch.Tensor, truth: Supervision) -> torch.Tensor:
    """Of a matrix (B, L, L) of log confidences."""
    true = matrix[truth.b_ids, truth.i_ids, truth.j_ids]
    positive = -(truth.weight * (1 - true.exp()) * true).sum() / truth.weight.sum()
    negative = torch.zeros(())
    for axis, unmatched in ((2, truth.unmatched0), (1, truth.unmatched1)):
        claim = matrix.amax(axis)[unmatched].exp()
        negative = negative - (torch.log1p(-claim) * claim).sum()
    return positive + 0.5 * negative / max(1, truth.num_dense)


def of_similarity(similarity: torch.Tensor) -> CoarseTerms:
    """Terms of a similarity (B, L, L), as dot products with unit vectors."""
    eye = torch.eye(similarity.shape[2]).expand(len(similarity), -1, -1)
    return coarse_terms(similarity, eye)


def test_coarse_loss_against_the_full_matrix() -> None:
    similarity = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0))
    loss, confidence = focal_loss(of_similarity(similarity), TRUTH)
    matrix = log_confidence(similarity)
    torch.testing.assert_close(loss, plain_loss(matrix, TRUTH))
    true = matrix[TRUTH.b_ids, TRUTH.i_ids, TRUTH.j_ids]
    torch.testing.assert_close(confidence, (TRUTH.weight * true).sum() / TRUTH.weight.sum())


def test_coarse_loss_is_least_at_the_truth() -> None:
    similarity = torch.zeros(2, 4, 4)
    losses = []
    for strength in (-5.0, 0.0, 5.0, 20.0):
        similarity[TRUTH.b_ids, TRUTH.i_ids, TRUTH.j_ids] = strength
        losses.append(focal_loss(of_similarity(similarity), TRUTH)[0].item())
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.5


@pytest.mark.parametrize("side", [0, 1])
def test_unmatched_cells_pay_for_their_claims(side: int) -> None:
    modest = torch.zeros(2, 4, 4)
    modest[TRUTH.b_ids, TRUTH.i_ids, TRUTH.j_ids] = 5
    bold = modest.clone()
    bold[0, 1, 2] = bold[0, 2, 2] = 8  # cell 1 of image 0 and cell 2 of image 1 have no partner
    one = replace(TRUTH, **{f"unmatched{1 - side}": torch.zeros(2, 4, dtype=torch.bool)})
    none = replace(one, **{f"unmatched{side}": torch.zeros(2, 4, dtype=torch.bool)})
    costs = [focal_loss(of_similarity(s), one)[0] - focal_loss(of_similarity(s), none)[0] for s in (modest, bold)]
    assert costs[1] > costs[0] + 0.02


def test_matches_count_by_their_weights() -> None:
    similarity = torch.zeros(2, 4, 4)
    similarity[0, 0, 1] = 4
    heavy, light = (replace(TRUTH, weight=torch.tensor([w, 1.0, 1.0])) for w in (5.0, 0.2))
    assert focal_loss(of_similarity(similarity), heavy)[1] > focal_loss(of_similarity(similarity), light)[1] + 0.5


def test_offsets_loss() -> None:
    spread = torch.ones(3)
    exact = FineOffsets(TRUTH.target0, TRUTH.target1, spread, spread)
    off = FineOffsets(TRUTH.target0 + torch.tensor([2.0, 0.0]), TRUTH.target1, spread, spread)
    assert offsets_loss(exact, TRUTH.target0, TRUTH.target1, 4.0).item() == 0
    torch.testing.assert_close(offsets_loss(off, TRUTH.target0, TRUTH.target1, 4.0), torch.tensor(0.25))


def test_windows_of_a_batch_are_those_of_each_image() -> None:
    maps = torch.rand(3, 5, 16, 32)
    b_ids, cells = torch.tensor([2, 0, 1, 2]), torch.tensor([0, 31, 9, 17])
    found = windows_of_batch(maps, b_ids, cells, 8, 5)
    for row, b, cell in zip(found, b_ids, cells, strict=True):
        torch.testing.assert_close(row, windows_at(padded_fine_map(maps[b], 5), cell[None], 8, 5)[0])


def test_a_batch_without_matches_has_finite_losses() -> None:
    image = torch.rand(2, 1, 32, 64)
    none, known = torch.full((2, 4, 8, 2), torch.nan), torch.ones(2, 4, 8, dtype=torch.bool)
    batch = PairBatch.dense((image, image), (none, none), (known, known))
    losses = batch_losses(LoFTR(COMPACT), batch, Draws.seeded(CPU, 0), fine_matches=4)
    assert losses.fine == 0
    assert torch.isfinite(losses.coarse)
    assert losses.coarse > 0  # what no cell should have claimed


def test_points_alone_have_no_fine_loss() -> None:
    image = torch.rand(2, 1, 64, 80)
    points = torch.tensor([[20.0, 20.0], [40.0, 30.0], [-5.0, 3.0]])
    batch = PairBatch.sparse((image, image), (points, points + 1), torch.tensor([0, 1, 1]))
    losses = batch_losses(LoFTR(COMPACT), batch, Draws.seeded(CPU, 0), fine_matches=4)
    assert losses.coarse > 0
    assert losses.fine == 0
