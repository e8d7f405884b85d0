"""Losses fall when the ground truth is fed."""

from __future__ import annotations

import torch

from sfm.matchers.loftr.fine_matching import FineOffsets
from sfm.matchers.loftr.training.losses import coarse_loss, fine_loss, sparse_coarse_loss
from sfm.matchers.loftr.training.supervision import Supervision

GROUND_TRUTH = Supervision(
    b_ids=torch.tensor([0, 0, 1]),
    i_ids=torch.tensor([0, 2, 1]),
    j_ids=torch.tensor([1, 0, 3]),
    target0=torch.tensor([[1.0, 0.0], [0.0, -2.0], [3.0, 3.0]]),
    target1=torch.tensor([[-1.0, 0.5], [2.0, 0.0], [0.0, 0.0]]),
    unmatched0=torch.tensor([[False, True, False], [True, False, True]]),
    unmatched1=torch.tensor([[False, False, True, True], [True, True, True, False]]),
)


def log_confidence(similarity: torch.Tensor) -> torch.Tensor:
    return similarity.log_softmax(dim=1) + similarity.log_softmax(dim=2)


def test_coarse_loss_is_least_at_the_ground_truth() -> None:
    similarity = torch.zeros(2, 3, 4)
    losses = []
    for strength in (-5.0, 0.0, 5.0, 20.0):
        similarity[GROUND_TRUTH.b_ids, GROUND_TRUTH.i_ids, GROUND_TRUTH.j_ids] = strength
        losses.append(coarse_loss(log_confidence(similarity), GROUND_TRUTH).item())
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.5


def test_coarse_loss_of_one_true_match() -> None:
    """-log of the confidence, where every cell has a partner."""
    ground_truth = Supervision(
        *(torch.tensor([0]),) * 3, *(torch.zeros(1, 2),) * 2, *(torch.zeros(1, 2, dtype=torch.bool),) * 2
    )
    confidence = torch.tensor([[[0.25, 0.1], [0.2, 0.3]]])
    torch.testing.assert_close(coarse_loss(confidence.log(), ground_truth), -torch.tensor(0.25).log())


def test_unmatched_cells_pay_for_their_claims() -> None:
    modest, bold = torch.full((2, 3, 4), 0.01).log(), torch.full((2, 3, 4), 0.01).log()
    bold[0, 1, 1] = torch.tensor(0.9).log()
    assert coarse_loss(bold, GROUND_TRUTH) > coarse_loss(modest, GROUND_TRUTH) + 0.1


def test_sparse_loss_weighs() -> None:
    confidence = torch.full((1, 2, 2), 0.5)
    confidence[0, 0, 0] = 0.1
    ids = (torch.zeros(2, dtype=torch.long), torch.tensor([0, 1]), torch.tensor([0, 1]))
    found = sparse_coarse_loss(confidence.log(), ids, torch.tensor([3.0, 1.0]))
    torch.testing.assert_close(found, -(3 * torch.tensor(0.1).log() + torch.tensor(0.5).log()) / 4)


def test_fine_loss() -> None:
    chosen, spread = torch.arange(3), torch.ones(3)
    exact = FineOffsets(GROUND_TRUTH.target0, GROUND_TRUTH.target1, spread, spread)
    off = FineOffsets(GROUND_TRUTH.target0 + torch.tensor([2.0, 0.0]), GROUND_TRUTH.target1, spread, spread)
    assert fine_loss(exact, GROUND_TRUTH, chosen, 4.0).item() == 0
    torch.testing.assert_close(fine_loss(off, GROUND_TRUTH, chosen, 4.0), torch.tensor(0.25))


def test_fine_loss_of_no_matches() -> None:
    none = torch.zeros(0, 2, requires_grad=True)
    offsets = FineOffsets(none, none, torch.zeros(0), torch.zeros(0))
    loss = fine_loss(offsets, GROUND_TRUTH, torch.zeros(0, dtype=torch.long), 4.0)
    loss.backward()
    assert loss.item() == 0
