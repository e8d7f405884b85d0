"""From exact warps to true matches."""

from __future__ import annotations

import math

import pytest
import torch

from sfm.datasets.batched_pairs.batch import PairBatch
from sfm.training.steps.supervision import nearest_cells, supervise

HW = (6, 8)


def dense(warp01: torch.Tensor, warp10: torch.Tensor) -> PairBatch:
    """Pairs of blank images with these warps (B, h, w, 2), certain everywhere."""
    image = torch.zeros(len(warp01), 1, 8 * HW[0], 8 * HW[1])
    known = torch.ones(warp01.shape[:3], dtype=torch.bool)
    return PairBatch.dense((image, image), (warp01, warp10), (known, known.clone()))


def grid() -> torch.Tensor:
    """(h, w, 2) xy of the anchors."""
    rows, columns = torch.meshgrid(torch.arange(HW[0]), torch.arange(HW[1]), indexing="ij")
    return torch.stack([columns, rows], dim=2).float() * 8 + 0.5


def warped(points: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """A homography on (h, w, 2) points; NaN outside the image, as the pairs have it."""
    moved = torch.cat([points, torch.ones(*HW, 1)], dim=2) @ matrix.T
    moved = moved[..., :2] / moved[..., 2:]
    size = torch.tensor([8.0 * HW[1], 8.0 * HW[0]])
    seen = ((moved >= 0) & (moved < size)).all(dim=2, keepdim=True)
    return torch.where(seen, moved, torch.nan)


def test_nearest_cells() -> None:
    points = torch.tensor([[0.5, 0.5], [4.4, 0.5], [4.6, 8.0], [60.6, 40.5], [61.0, 40.5], [-4.0, 0.5], [torch.nan, 1]])
    assert nearest_cells(points, HW).tolist() == [0, 0, 9, -1, -1, -1, -1]


def test_translation() -> None:
    shift = torch.eye(3)
    shift[0, 2], shift[1, 2] = 17.0, -9.0
    ground_truth = supervise(dense(warped(grid(), shift)[None], warped(grid(), shift.inverse())[None]))
    i_row, i_column = ground_truth.i_ids // 8, ground_truth.i_ids % 8
    j_row, j_column = ground_truth.j_ids // 8, ground_truth.j_ids % 8
    assert torch.equal(j_row - i_row, torch.full_like(i_row, -1))
    assert torch.equal(j_column - i_column, torch.full_like(i_row, 2))
    assert len(ground_truth.i_ids) == 4 * 5
    torch.testing.assert_close(ground_truth.target1, torch.tensor([1.0, -1.0]).expand(20, 2))
    torch.testing.assert_close(ground_truth.target0, torch.tensor([-1.0, 1.0]).expand(20, 2))
    assert ground_truth.unmatched0.reshape(HW)[0].all()  # the first row leaves the image


def test_homography() -> None:
    matrix = torch.tensor([[1.1, 0.08, -4.0], [-0.05, 0.95, 3.0], [8e-4, -5e-4, 1.0]])
    ground_truth = supervise(dense(warped(grid(), matrix)[None], warped(grid(), matrix.inverse())[None]))
    assert len(ground_truth.i_ids) > 25
    assert len(ground_truth.i_ids.unique()) == len(ground_truth.j_ids.unique()) == len(ground_truth.i_ids)
    anchor = grid().reshape(-1, 2)
    moved = torch.cat([anchor[ground_truth.i_ids], torch.ones(len(ground_truth.i_ids), 1)], dim=1) @ matrix.T
    torch.testing.assert_close(
        anchor[ground_truth.j_ids] + ground_truth.target1, moved[:, :2] / moved[:, 2:], rtol=1e-4, atol=1e-3
    )
    assert ground_truth.target1.abs().max() <= 4.001
    assert ground_truth.target0.abs().max() <= 4.001


def test_nothing_seen() -> None:
    unseen = torch.full((2, *HW, 2), torch.nan)
    ground_truth = supervise(dense(unseen, unseen))
    assert len(ground_truth.b_ids) == len(ground_truth.target0) == 0
    assert ground_truth.unmatched0.all()
    assert ground_truth.unmatched1.all()


def test_what_is_not_known_is_not_unmatched() -> None:
    warp = grid().repeat(2, 1, 1, 1)
    warp[:, -1] = torch.nan
    batch = dense(warp, warp)
    batch.known0[:, :, 0] = False
    truth = supervise(batch)
    assert truth.num_dense == len(truth.b_ids) == 2 * 40
    assert torch.equal(truth.i_ids, truth.j_ids)
    assert truth.unmatched0.sum() == 2 * 7  # the last row, without its first cell
    assert truth.unmatched1.sum() == 2 * 8


def test_a_pair_counts_by_the_root_of_its_matches() -> None:
    few = grid()[None].clone()
    few[0, 2:] = torch.nan
    truth = supervise(dense(torch.cat([grid()[None], few]), torch.cat([grid()[None], few])))
    for b, num in ((0, 48), (1, 16)):
        assert truth.weight[truth.b_ids == b].tolist() == pytest.approx([1 / math.sqrt(num)] * num)


def test_points_count_by_their_nearness_to_anchors() -> None:
    image = torch.zeros(2, 1, 8 * HW[0], 8 * HW[1])
    points = torch.tensor([[8.5, 24.5], [12.0, 24.5], [-30.0, 2.0], [torch.nan, 2.0]])
    truth = supervise(PairBatch.sparse((image, image), (points, points), torch.tensor([0, 0, 1, 1])))
    assert truth.num_dense == 0
    assert truth.i_ids.tolist() == truth.j_ids.tolist() == [25, 25]  # those outside the grid are left out
    assert truth.weight[1] / truth.weight[0] == pytest.approx(math.exp(-2 * 3.5**2 / 32), rel=1e-3)  # px² on both sides
    assert not truth.unmatched0.any()
    assert not truth.unmatched1.any()
