"""Configurations refuse what no network can be built from."""

from __future__ import annotations

from typing import Any

import pytest

from sfm.matchers.loftr.config import CONFIGS, LoFTRConfig
from sfm.matchers.loftr.model import LoFTR


@pytest.mark.parametrize(
    "values", [{"fine_window": 4}, {"num_heads_coarse": 7}, {"num_heads_fine": 5}, {"initial_dim": 64}]
)
def test_bad_values(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="LoFTRConfig"):
        LoFTRConfig(**values)


@pytest.mark.parametrize(("name", "millions"), [("outdoor", 11.56), ("compact", 1.06)])
def test_number_of_parameters(name: str, millions: float) -> None:
    """The published network has 11.6 million."""
    count = sum(p.numel() for p in LoFTR(CONFIGS[name]).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.02)


def test_only_later_ones_have_the_corrected_positions() -> None:
    assert {name for name, config in CONFIGS.items() if config.temp_bug_fix} == {
        "indoor_new",
        "minima",
        "compact",
        "compact-wide",
    }
