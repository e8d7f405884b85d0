"""global_context: changes nothing at first, sees far when trained, and copes with any grid and mask."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sfm.matchers.loftr.config import COMPACT, INDOOR_NEW, OUTDOOR
from sfm.matchers.loftr.introspection import trace
from sfm.matchers.loftr.model import LoFTR

WIDER = replace(COMPACT, global_layers=("self", "cross"), d_global=32, num_heads_global=2)


@pytest.fixture
def awake():
    """A network whose global stage says something."""
    torch.manual_seed(0)
    model = LoFTR(WIDER).eval()
    torch.nn.init.normal_(model.global_context.cells.weight, std=0.05)
    return model


def test_published_networks_have_none():
    for config in (OUTDOOR, INDOOR_NEW, COMPACT):
        assert not config.global_layers
    assert not any(name.startswith("global") for name in LoFTR(COMPACT).state_dict())


def test_a_new_stage_changes_nothing():
    torch.manual_seed(1)
    plain = LoFTR(COMPACT).eval()
    wider = LoFTR(WIDER).eval()
    wider.load_state_dict(wider.state_dict() | plain.state_dict())
    images = torch.rand(1, 1, 64, 96), torch.rand(1, 1, 80, 72)
    with torch.inference_mode():
        f0, f1 = (plain.encode(image)[0].coarse[None] for image in images)
        for a, b in zip(
            wider.pair_tokens(f0, f1, (8, 12), (10, 9)), plain.pair_tokens(f0, f1, (8, 12), (10, 9)), strict=True
        ):
            assert torch.equal(a, b)


def test_it_looks_at_the_other_image(awake):
    with torch.inference_mode():
        f0, f1 = torch.randn(1, 96, 96), torch.randn(1, 90, 96)
        before = awake.global_context(f0, f1, (8, 12), (10, 9))[0]
        after = awake.global_context(f0, f1.flip(2), (8, 12), (10, 9))[0]
    assert (before - after).abs().max() > 1e-3


def test_batched_is_one_by_one(awake):
    with torch.inference_mode():
        f0, f1 = torch.randn(3, 96, 96), torch.randn(3, 96, 96)
        both = awake.global_context(f0, f1, (8, 12), (8, 12))
        for b in range(3):
            one = awake.global_context(f0[b : b + 1], f1[b : b + 1], (8, 12), (8, 12))
            torch.testing.assert_close(one[1][0], both[1][b], rtol=0, atol=1e-5)


def test_masked_cells_are_not_seen(awake):
    with torch.inference_mode():
        f0, f1 = torch.randn(1, 96, 96), torch.randn(1, 96, 96)
        valid = torch.ones(1, 96, dtype=torch.bool)
        valid[:, 48:] = False
        other = torch.where(valid[..., None], f1, torch.randn(1, 96, 96))
        a = awake.global_context(f0, f1, (8, 12), (8, 12), None, valid)[0]
        b = awake.global_context(f0, other, (8, 12), (8, 12), None, valid)[0]
        nothing = awake.global_context(f0, f1, (8, 12), (8, 12), None, torch.zeros_like(valid))[0]
    torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    assert torch.isfinite(nothing).all()


def test_pairs_of_different_sizes_match_as_alone(awake):
    awake.config = replace(awake.config, threshold=0.0)
    with torch.inference_mode():
        features = [awake.encode(torch.rand(1, 1, h, w))[0] for h, w in ((64, 96), (80, 72), (64, 64))]
        pairs = [(features[0], features[1]), (features[2], features[1])]
        for together, pair in zip(awake.match(pairs), pairs, strict=True):
            alone = awake.match([pair])[0]
            assert torch.equal(together.i_ids, alone.i_ids)
            torch.testing.assert_close(together.refined1, alone.refined1)


def test_introspection_follows_it(awake):
    images = torch.rand(1, 1, 64, 96), torch.rand(1, 1, 80, 72)
    inside = trace(awake, *images)
    with torch.inference_mode():
        (f0,), (f1,) = (awake.encode(image) for image in images)
        after0, after1 = awake.pair_tokens(f0.coarse[None], f1.coarse[None], f0.hw, f1.hw)
    torch.testing.assert_close(inside.after0, after0[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(inside.after1, after1[0], rtol=1e-4, atol=1e-5)


def test_heads_must_fit():
    with pytest.raises(ValueError, match="d_global"):
        replace(COMPACT, d_global=30, num_heads_global=4)
