"""From exact warps to true matches."""

from __future__ import annotations

import torch

from sfm.matchers.loftr.training.supervision import nearest_cells, supervise

HW = (6, 8)


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
    ground_truth = supervise(warped(grid(), shift)[None], warped(grid(), shift.inverse())[None])
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
    ground_truth = supervise(warped(grid(), matrix)[None], warped(grid(), matrix.inverse())[None])
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
    ground_truth = supervise(unseen, unseen)
    assert len(ground_truth.b_ids) == len(ground_truth.target0) == 0
    assert ground_truth.unmatched0.all()
    assert ground_truth.unmatched1.all()
