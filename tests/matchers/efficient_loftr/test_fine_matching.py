"""Windows and both stages of refinement."""

import torch

from sfm.matchers.efficient_loftr.fine_matching import FineFeatures, padded_map, patches_at, refine, second_stage
from tests.support.efficient_loftr import TINY


def fine_map(seed: int = 0) -> torch.Tensor:
    """(12, 32, 40): of an image of 64 x 80 px; the last eight channels, of the second stage, are zero."""
    fine = 4 * torch.randn(12, 32, 40, generator=torch.Generator().manual_seed(seed))
    fine[4:] = 0
    return fine


def refined(fine0: torch.Tensor, fine1: torch.Tensor, cells: torch.Tensor):
    return refine(patches_at(padded_map(fine0), cells, 10), patches_at(padded_map(fine1), cells, 10), TINY)


CELLS = torch.tensor([22, 23, 33, 34, 35, 36, 43, 44, 45, 46, 53, 57])


def test_what_is_the_same_stays():
    found = refined(fine_map(), fine_map(), CELLS)
    assert torch.equal(found.offset0, found.offset1)
    assert found.offset0.abs().max() <= 3.5
    assert (found.offset0 % 1 == 0.5).all()


def test_what_is_moved_is_found_where_it_went():
    """The map moved by a cell of 2 px to the right and two up: (2, -4) px."""
    moved = torch.roll(fine_map(), (-2, 1), dims=(1, 2))
    found = refined(fine_map(), moved, CELLS)
    step = found.offset1 - found.offset0
    assert (step == torch.tensor([2.0, -4.0])).all(
        dim=1
    ).sum() >= 8  # of 12: four channels tell pixels apart less than well
    assert found.offset1.abs().max() <= 4.5


def test_the_second_stage_goes_where_features_agree():
    """Similarities that grow to the right and down by the ramp of a map pull the step there; even ones leave it."""
    own = torch.zeros(1, 36, 8)
    own[..., 0] = 1
    column = torch.arange(6.0).repeat(6)
    around = torch.zeros(1, 36, 8)
    around[0, :, 0] = 100 * column
    pixel = torch.tensor([4 * 8 + 3])
    right = second_stage(own, around, pixel, pixel, TINY)
    weights = (torch.tensor([-1.0, 0.0, 1.0]) * 0.5 * 100 / (8**0.5 * 10)).softmax(dim=0)  # half a cell of the map a px
    torch.testing.assert_close(right, torch.tensor([[(weights[2] - weights[0]).item(), 0.0]]), rtol=0, atol=1e-5)
    around[0, :, 0] = -100 * column.reshape(6, 6).T.flatten()
    up = second_stage(own, around, pixel, pixel, TINY)
    torch.testing.assert_close(up, -right.flip(1), rtol=0, atol=1e-5)
    assert second_stage(own, torch.ones(1, 36, 8), pixel, pixel, TINY).abs().max() < 1e-6


@torch.no_grad()
def test_fine_features_have_half_the_images_size():
    fine = FineFeatures(TINY)(torch.rand(2, 64, 8, 12), torch.rand(2, 16, 16, 24), torch.rand(2, 12, 32, 48))
    assert fine.shape == (2, 12, 32, 48)


def test_a_window_is_interpolated_from_its_patch():
    """6 x 6 cells of the map: the four of its own, and one around them."""
    columns = torch.arange(40.0)[None, None].expand(12, 32, 40)
    patch = patches_at(padded_map(columns), torch.tensor([23]), 10).reshape(6, 6, 12)
    assert patch[0, :, 0].tolist() == [11, 12, 13, 14, 15, 16]
