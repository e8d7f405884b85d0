"""The transformer's fast twin for inference on a CPU against its modules."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sfm.matchers.loftr.frozen import FrozenLayer, FrozenTransformer, frozen
from sfm.matchers.loftr.transformer import EncoderLayer, LocalFeatureTransformer


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
