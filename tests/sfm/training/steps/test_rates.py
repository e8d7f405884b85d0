"""Rates rise and fall, and every parameter has one."""

from __future__ import annotations

import pytest

from sfm.matchers.loftr.config import COMPACT_WIDE, OUTDOOR
from sfm.matchers.loftr.model import LoFTR
from sfm.training.steps.rates import CNN, GLOBAL_STAGE, LAST, WARMUP, parameter_groups, rate_factor


def test_rates_warm_up_and_fall() -> None:
    middle = (1 + WARMUP) / 2
    found = [rate_factor(done) for done in (0, WARMUP / 2, WARMUP, middle, 1, 2)]
    assert found == pytest.approx([0.01, 0.5, 1, (1 + LAST) / 2, LAST, LAST])


@pytest.mark.parametrize(("config", "parts"), [(COMPACT_WIDE, {1, CNN, GLOBAL_STAGE}), (OUTDOOR, {1, CNN})])
def test_every_parameter_is_in_one_group(config, parts) -> None:
    model = LoFTR(config)
    groups = parameter_groups(model)
    assert {group["part"] for group in groups} == parts
    grouped = [parameter for group in groups for parameter in group["params"]]
    assert {id(parameter) for parameter in grouped} == {id(parameter) for parameter in model.parameters()}
    assert len(grouped) == len(list(model.parameters()))
    for group in groups:
        assert all((parameter.dim() > 1) == (group["weight_decay"] > 0) for parameter in group["params"])
