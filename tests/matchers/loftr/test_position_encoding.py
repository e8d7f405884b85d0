"""The two-dimensional position encoding."""

from __future__ import annotations

import math

import pytest
import torch

from sfm.matchers.loftr.position_encoding import position_encoding


def entry(channel: int, row: int, column: int, d_model: int, *, temp_bug_fix: bool) -> float:
    """One number of the table, from the published formulas, in plain Python."""
    exponent = 2 * (channel // 4)
    rate = -math.log(10000.0) / (d_model // 2) if temp_bug_fix else (-math.log(10000.0) / d_model) // 2
    angle = (column + 1 if channel % 4 < 2 else row + 1) * math.exp(exponent * rate)
    return math.sin(angle) if channel % 2 == 0 else math.cos(angle)


@pytest.mark.parametrize("temp_bug_fix", [False, True])
def test_equals_formula(temp_bug_fix: bool) -> None:
    table = position_encoding(16, (3, 5), temp_bug_fix=temp_bug_fix)
    expected = [[entry(c, r, k, 16, temp_bug_fix=temp_bug_fix) for c in range(16)] for r in range(3) for k in range(5)]
    torch.testing.assert_close(table, torch.tensor(expected), rtol=0, atol=1e-5)


def test_variants_differ() -> None:
    fixed, published = (position_encoding(16, (3, 5), temp_bug_fix=fix) for fix in (True, False))
    assert (fixed - published).abs().max() > 0.1


def test_no_limit_of_256_cells() -> None:
    table = position_encoding(8, (2, 700), temp_bug_fix=True).reshape(2, 700, 8)
    assert table[1, 699, 0] == pytest.approx(math.sin(700), abs=1e-4)
    assert not torch.equal(table[0, 255], table[0, 511])
