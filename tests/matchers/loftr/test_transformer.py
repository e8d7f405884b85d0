"""Linear attention and the layers around it, as modules and frozen for inference on a CPU."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfm.matchers.loftr.transformer import (
    EncoderLayer,
    FrozenLayer,
    FrozenTransformer,
    LocalFeatureTransformer,
    frozen,
    linear_attention,
)


def quadratic_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, num_heads: int) -> torch.Tensor:
    """The same attention with its (L, S) matrix of each head formed."""
    q, k, v = (t.unflatten(2, (num_heads, -1)) for t in (q, k, v))
    weights = torch.einsum("blhd,bshd->bhls", F.elu(q) + 1, F.elu(k) + 1)
    weights = weights / weights.sum(dim=3, keepdim=True)
    return torch.einsum("bhls,bshd->blhd", weights, v).flatten(2)


def test_linear_attention_equals_quadratic() -> None:
    q, k, v = torch.randn(2, 7, 12), torch.randn(2, 9, 12), torch.randn(2, 9, 12)
    torch.testing.assert_close(linear_attention(q, k, v, 3), quadratic_attention(q, k, v, 3), rtol=1e-4, atol=1e-5)


def test_masked_tokens_are_as_if_absent() -> None:
    q, k, v = torch.randn(1, 7, 12), torch.randn(1, 9, 12), torch.randn(1, 9, 12)
    mask = torch.arange(9)[None] < 5
    torch.testing.assert_close(linear_attention(q, k, v, 3, mask), linear_attention(q, k[:, :5], v[:, :5], 3))


def test_attention_does_not_overflow_under_autocast() -> None:
    """Sums over 20,000 tokens of 8 channels exceed what half precision holds; bfloat16 would lose their digits."""
    q, k, v = (torch.randn(1, 20_000, 8) + 4 for _ in range(3))
    expected = linear_attention(q, k, v, 1)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            found = linear_attention(q, k, v, 1)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected)


def test_layer_equals_concatenation() -> None:
    layer, x, source = EncoderLayer(32, 4), torch.randn(2, 6, 32), torch.randn(2, 5, 32)
    q, k, v = layer.q_proj(x), layer.k_proj(source), layer.v_proj(source)
    message = layer.norm1(layer.merge(quadratic_attention(q, k, v, 4)))
    expected = x + layer.norm2(layer.mlp(torch.cat([x, message], dim=2)))
    torch.testing.assert_close(layer(x, source), expected, rtol=1e-4, atol=1e-5)


def test_encode_then_forward_runs_every_layer_once() -> None:
    transformer = LocalFeatureTransformer(32, 4, ("self", "cross", "self", "cross"))
    x0, x1 = torch.randn(1, 6, 32), torch.randn(1, 5, 32)
    found = transformer(transformer.encode(x0), transformer.encode(x1))
    for layer, name in zip(transformer.layers, transformer.layer_names, strict=True):
        if name == "self":
            x0, x1 = layer(x0, x0), layer(x1, x1)
        else:
            x0 = layer(x0, x1)
            x1 = layer(x1, x0)
    torch.testing.assert_close(found, (x0, x1))
    assert transformer.num_leading_self == 1


def trained(module: nn.Module) -> nn.Module:
    """With gains and biases of the norms that are not those of the start."""
    for norm in (m for m in module.modules() if isinstance(m, nn.LayerNorm)):
        nn.init.normal_(norm.weight, 1, 0.3)
        nn.init.normal_(norm.bias, 0, 0.3)
    return module.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("tokens", "others", "batch", "masked"),
    [(25, 25, 3, False), (25, 9, 3, True), (300, 200, 1, False), (90, 100, 2, True), (1, 1, 1, False)],
)
def test_layer_equals_its_module(tokens: int, others: int, batch: int, masked: bool) -> None:
    layer = trained(EncoderLayer(24, 3))
    x, source = torch.randn(batch, tokens, 24), torch.randn(batch, others, 24)
    mask = (torch.arange(others) % 3 > 0).expand(batch, -1) if masked else None
    with torch.inference_mode():
        found = FrozenLayer.of(layer)(x, source, mask)
        torch.testing.assert_close(found, layer(x, source, mask), rtol=1e-4, atol=1e-5)


def test_nothing_to_look_at() -> None:
    layer, x, mask = trained(EncoderLayer(24, 3)), torch.randn(1, 6, 24), torch.zeros(1, 5, dtype=torch.bool)
    with torch.inference_mode():
        found = FrozenLayer.of(layer)(x, torch.randn(1, 5, 24), mask)
        torch.testing.assert_close(found, layer(x, torch.randn(1, 5, 24), mask), rtol=1e-4, atol=1e-5)
        assert found.isfinite().all()


def test_all_layers_in_their_order() -> None:
    transformer = trained(LocalFeatureTransformer(32, 4, ("self", "cross", "self", "cross")))
    x0, x1 = torch.randn(1, 70, 32), torch.randn(1, 80, 32)

    def through(layers: LocalFeatureTransformer | FrozenTransformer) -> tuple[Tensor, Tensor]:
        return layers.after_encode(layers.encode(x0), layers.encode(x1))

    with torch.inference_mode():
        fast = frozen(transformer, x0)
        assert isinstance(fast, FrozenTransformer)
        torch.testing.assert_close(through(fast), through(transformer), rtol=1e-4, atol=1e-4)


def test_arguments_are_left_as_they_are() -> None:
    layer, x, source = FrozenLayer.of(trained(EncoderLayer(24, 3))), torch.randn(1, 80, 24), torch.randn(1, 90, 24)
    before = x.clone(), source.clone()
    with torch.inference_mode():
        first, second = layer(x, source), layer(x, source)
    assert torch.equal(first, second)
    assert torch.equal(x, before[0])
    assert torch.equal(source, before[1])


def test_only_where_nothing_is_differentiated() -> None:
    transformer = LocalFeatureTransformer(24, 3, ("self",))
    assert frozen(transformer, torch.zeros(1)) is transformer
    with torch.inference_mode():
        assert frozen(transformer, torch.zeros(1).half()) is transformer
        with torch.autocast("cpu", torch.bfloat16):
            assert frozen(transformer, torch.zeros(1)) is transformer
