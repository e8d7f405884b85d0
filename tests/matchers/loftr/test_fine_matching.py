"""Windows of the fine map and the expectation over them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from sfm.matchers.loftr.config import COMPACT
from sfm.matchers.loftr.fine_matching import (
    FinePreprocess,
    expected_offset,
    fine_offsets,
    padded_fine_map,
    windows_at,
)
from sfm.matchers.loftr.transformer import LocalFeatureTransformer


@pytest.mark.parametrize(("h", "w"), [(4, 6), (5, 3)])
@pytest.mark.parametrize("window", [3, 5, 7])
def test_windows_equal_unfold(h: int, w: int, window: int) -> None:
    fine = torch.randn(6, 4 * h, 4 * w)
    unfolded = F.unfold(fine[None], window, stride=4, padding=window // 2)[0]  # (6 * window², h * w)
    expected = unfolded.reshape(6, window * window, -1).permute(2, 1, 0)[:, :, :]
    columns = (4 * w + 2 * (window // 2) - window) // 4 + 1
    assert columns == w
    cells = torch.tensor([0, w - 1, h * w - 1, 3, 3])
    torch.testing.assert_close(windows_at(padded_fine_map(fine, window), cells, w, window), expected[cells])


def test_preprocess_equals_concatenation() -> None:
    layer = FinePreprocess(replace(COMPACT, d_coarse=32, d_fine=8))
    windows, coarse = torch.randn(3, 25, 8), torch.randn(3, 32)
    joined = torch.cat([windows, layer.down_proj(coarse)[:, None].expand(-1, 25, -1)], dim=2)
    torch.testing.assert_close(layer(windows, coarse), layer.merge_feat(joined))


def test_expected_offset_equals_kornia() -> None:
    dsnt = pytest.importorskip("kornia.geometry.subpix.dsnt", reason="kornia is not installed (extra: test)")
    centre, windows = torch.randn(9, 8), torch.randn(9, 25, 8) * 3
    heat = (torch.einsum("mc,mkc->mk", centre, windows) / 8**0.5).softmax(dim=1).reshape(1, 9, 5, 5)
    expected = dsnt.spatial_expectation2d(heat, normalized_coordinates=True)[0]
    offset, spread = expected_offset(centre, windows)
    torch.testing.assert_close(offset, expected, rtol=1e-4, atol=1e-5)
    assert (spread > 0).all()


def test_expected_offset_of_one_peak() -> None:
    windows = torch.zeros(1, 25, 4)
    windows[0, 5 * 1 + 4, 0] = 1000.0  # row 1, column 4
    offset, spread = expected_offset(torch.tensor([[1.0, 0, 0, 0]]), windows)
    torch.testing.assert_close(offset, torch.tensor([[1.0, -0.5]]))
    assert spread.item() < 1e-3


def test_both_directions_are_swapped_views_of_one_another() -> None:
    """With no transformer layer, exchanging the images exchanges the offsets."""
    transformer = LocalFeatureTransformer(8, 2, ())
    windows0, windows1 = torch.randn(4, 25, 8), torch.randn(4, 25, 8)
    there, back = fine_offsets(windows0, windows1, transformer), fine_offsets(windows1, windows0, transformer)
    torch.testing.assert_close(there.offset0, back.offset1)
    torch.testing.assert_close(there.offset1, back.offset0)
    assert there.offset1.abs().max() <= 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_expectation_stays_in_fp32_under_autocast(dtype: torch.dtype) -> None:
    centre, windows = torch.randn(9, 8), torch.randn(9, 25, 8)
    expected = expected_offset(centre, windows)
    with torch.autocast("cpu", dtype):
        found = expected_offset(centre, windows)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
