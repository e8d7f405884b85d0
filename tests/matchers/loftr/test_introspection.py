"""introspection: the twin computes what the model computes, and the weights are those that the layers use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sfm import weights
from sfm.matchers.loftr.config import COMPACT, OUTDOOR
from sfm.matchers.loftr.introspection import attention_map, attention_weights, look_inside, trace
from sfm.matchers.loftr.matcher import LoFTRMatcher
from sfm.matchers.loftr.model import LoFTR
from sfm.matchers.loftr.transformer import linear_attention

CONFIGS = {
    "compact": COMPACT,
    "published": replace(OUTDOOR, coarse_layers=("self", "cross") * 2),
    "no_transformer": replace(COMPACT, coarse_layers=()),
    "self_last": replace(COMPACT, coarse_layers=("self", "self", "cross", "self")),
}


@pytest.fixture(scope="module", params=CONFIGS)
def traced(request):
    """A random network, two images of different size, and what is inside."""
    torch.manual_seed(0)
    model = LoFTR(CONFIGS[request.param]).eval()
    images = torch.rand(1, 1, 64, 96), torch.rand(1, 1, 80, 72)
    return model, images, trace(model, *images)


def test_features_are_the_models_own(traced):
    model, images, inside = traced
    with torch.inference_mode():
        (f0,), (f1,) = (model.encode(image) for image in images)
        after0, after1 = model.loftr_coarse(f0.coarse[None], f1.coarse[None])
    assert (inside.hw0, inside.hw1) == (f0.hw, f1.hw) == ((8, 12), (10, 9))
    torch.testing.assert_close(inside.after0, after0[0], rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(inside.after1, after1[0], rtol=1e-4, atol=2e-5)
    assert len(inside.layers) == len(model.config.coarse_layers)


def test_before_is_the_backbone_without_positions(traced):
    model, images, inside = traced
    with torch.inference_mode():
        coarse = model.backbone(images[1])[0]
    assert inside.before1.shape == (90, model.config.d_coarse)
    torch.testing.assert_close(inside.before1[9 * 4 + 7], coarse[0, :, 4, 7])


def test_weights_give_the_layers_message(traced):
    _, _, inside = traced
    for step in inside.layers:
        layer = step.layer
        assert len(step.source) == (90 if step.name == "cross" else 96)
        with torch.inference_mode():
            q, k, v = layer.q_proj(step.x), layer.k_proj(step.source), layer.v_proj(step.source)
            message = linear_attention(q[None], k[None], v[None], layer.num_heads)[0]
        for cell in (0, 17, 95):
            weight = attention_weights(step, cell)
            assert (weight >= 0).all()
            torch.testing.assert_close(weight.sum(dim=1), torch.ones(layer.num_heads))
            per_head = v.reshape(len(v), layer.num_heads, -1)
            made = torch.einsum("hs,shd->hd", weight, per_head).flatten()
            torch.testing.assert_close(made, message[cell], rtol=0, atol=1e-5)


def test_maps_are_times_uniform(traced):
    _, _, inside = traced
    for step in inside.layers:
        hw = inside.hw1 if step.name == "cross" else inside.hw0
        shown = attention_map(step, 20, hw)
        assert shown.shape == hw
        assert float(shown.mean()) == pytest.approx(1.0, abs=1e-4)


def test_a_image_is_seen_as_the_matcher_sees_it():
    """The shipped weights on an image and itself shifted: the features that are matched, in the image's own grid."""
    image = np.random.default_rng(0).integers(0, 255, (150, 200), np.uint8)
    matcher = weights.load("compact", resize=128)
    assert isinstance(matcher, LoFTRMatcher)
    inside = look_inside(matcher, image, image[:, ::-1].copy())
    encoded = matcher.encode([image])[0]
    assert inside.hw0 == encoded.features.hw == (12, 16)
    first = inside.layers[1].x  # after the leading self-attention, which is all that `encode` does
    assert matcher.model.loftr_coarse.num_leading_self == 1
    torch.testing.assert_close(first, encoded.features.coarse, rtol=1e-4, atol=1e-4)
