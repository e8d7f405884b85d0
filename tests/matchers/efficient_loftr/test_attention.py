"""Attention over aggregated cells: positions, masks, and the order of the layers."""

import math

import pytest
import torch
import torch.nn.functional as F

from sfm.matchers.efficient_loftr.attention import AggregatedAttention, FeatureTransformer, aggregated_mask, rotation
from tests.support.efficient_loftr import TINY


def features(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_products_of_rotated_tokens_depend_on_their_distance_alone():
    q, k = features(32), features(32, seed=1)
    tokens = 6 * 7
    turned_q, turned_k = (rotation((6, 7), 32)(x.expand(1, tokens, -1))[0] for x in (q, k))
    products = (turned_q @ turned_k.T).reshape(6, 7, 6, 7)
    torch.testing.assert_close(products[0, 0, 2, 3], products[3, 2, 5, 5], rtol=0, atol=1e-5)
    torch.testing.assert_close(products[4, 4, 4, 4], q @ k, rtol=0, atol=1e-5)
    assert (products[0, 0, 2, 3] - products[0, 0, 3, 2]).abs() > 1e-3
    assert (products[0, 0, 2, 3] - products[2, 3, 0, 0]).abs() > 1e-3


def test_angles():
    turn = rotation((3, 4), 16)
    angle = torch.atan2(turn.sin, turn.cos).reshape(3, 4, 8)
    assert angle[1, 2].tolist()[:4] == pytest.approx([2.0, 3.0, 0.2, 0.3], abs=1e-6)
    assert angle[0, 3, 1].item() == pytest.approx(4 - 2 * math.pi, abs=1e-5)
    half = rotation((3, 4), 16, scale=0.5)
    assert torch.atan2(half.sin, half.cos).reshape(3, 4, 8)[1, 2].tolist()[:2] == pytest.approx([1.0, 1.5], abs=1e-6)


def test_positions_of_images_larger_than_those_of_the_training_are_scaled_down():
    transformer = FeatureTransformer(TINY)  # trained at 832 px: 104 cells
    small, large = (transformer.rotation_of(torch.zeros(1, 8, cells, 64)) for cells in (104, 208))
    torch.testing.assert_close(large.cos[1], rotation((2, 52), 64, scale=0.5).cos[1])
    torch.testing.assert_close(small.cos[1], rotation((2, 26), 64).cos[1])


@torch.no_grad()
def test_a_layer_written_out():
    """The message before the perceptron is brought to all cells first, and attention is a softmax of products."""
    layer = AggregatedAttention(32, 2)
    x, source = features(2, 8, 12, 32), features(2, 4, 8, 32, seed=1)
    query = F.conv2d(x.permute(0, 3, 1, 2), layer.aggregate.weight, stride=4, groups=32).flatten(2).transpose(1, 2)
    keys = source.reshape(2, 1, 4, 2, 4, 32).amax(dim=(2, 4)).reshape(2, 2, 32)
    q, k, v = (
        project(layer.norm1(t)).reshape(2, -1, 2, 16)
        for project, t in ((layer.q_proj, query), (layer.k_proj, keys), (layer.v_proj, keys))
    )
    weights = (torch.einsum("blhd,bshd->bhls", q, k) / 4).softmax(dim=3)
    message = layer.merge(torch.einsum("bhls,bshd->blhd", weights, v).flatten(2))
    message = message.transpose(1, 2).reshape(2, 32, 2, 3)
    message = F.interpolate(message, scale_factor=4.0, mode="bilinear").permute(0, 2, 3, 1)
    expected = x + layer.norm2(layer.mlp(torch.cat([x, message], dim=3)))
    torch.testing.assert_close(layer(x, source), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_masked_cells_are_not_looked_at():
    layer = AggregatedAttention(32, 2)
    x, source = features(1, 8, 8, 32), features(1, 8, 8, 32, seed=1)
    valid = torch.ones(1, 8, 8, dtype=torch.bool)
    valid[:, :, 4:] = False
    changed = source.clone()
    changed[:, :, 4:] = features(1, 8, 4, 32, seed=2)
    mask = aggregated_mask(valid)
    assert mask.tolist() == [[True, False, True, False]]
    torch.testing.assert_close(layer(x, changed, None, mask), layer(x, source, None, mask))
    assert (layer(x, changed) - layer(x, source)).abs().max() > 1e-3


def test_an_image_that_is_masked_whole_is_looked_at_whole():
    valid = torch.zeros(2, 8, 8, dtype=torch.bool)
    valid[1, 5, 6] = True
    assert aggregated_mask(valid).tolist() == [[True] * 4, [False, False, False, True]]


@torch.no_grad()
def test_image_1_looks_at_image_0_as_the_layer_left_it():
    transformer = FeatureTransformer(TINY)
    feat0, feat1 = features(1, 8, 8, 64), features(1, 8, 12, 64, seed=1)
    seen: list[torch.Tensor] = []
    transformer.layers[1].register_forward_pre_hook(lambda module, args: seen.append(args[1]))
    transformer(feat0, feat1)
    assert torch.equal(seen[0], feat1)
    assert seen[1].shape == feat0.shape
    assert not torch.equal(seen[1], feat0)
