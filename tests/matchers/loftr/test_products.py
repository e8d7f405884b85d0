"""Products by oneDNN against torch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sfm.matchers.loftr import products
from sfm.matchers.loftr.products import Activation, is_direct, linear, through

x, weight, bias = torch.randn(2, 7, 12), torch.randn(5, 24)[:, ::2], torch.randn(5)


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize(("activation", "plain"), [("none", lambda y: y), ("relu", F.relu), ("gelu", F.gelu)])
def test_equals_linear(onednn: bool, activation: Activation, plain, monkeypatch: pytest.MonkeyPatch) -> None:
    if not onednn:
        monkeypatch.setattr(products, "_has_onednn", lambda: False)
    with torch.inference_mode():
        torch.testing.assert_close(linear(x, weight, bias, activation), plain(F.linear(x, weight, bias)))
        torch.testing.assert_close(linear(x, weight), F.linear(x, weight))
        assert linear(x[:0], weight).shape == (0, 7, 5)
        layer = torch.nn.Linear(12, 5)
        torch.testing.assert_close(through(layer, x, activation), plain(layer(x)))


def test_gradients_flow() -> None:
    free = weight.clone().requires_grad_()
    linear(x, free, bias, "relu").sum().backward()
    expected = weight.clone().requires_grad_()
    F.relu(F.linear(x, expected, bias)).sum().backward()
    torch.testing.assert_close(free.grad, expected.grad)


def test_autocast_decides_where_it_is_on() -> None:
    with torch.inference_mode():
        assert is_direct(x)
        assert not is_direct(x.half())
        with torch.autocast("cpu", torch.bfloat16):
            assert not is_direct(x)
            assert linear(x, weight).dtype == torch.bfloat16
    assert not is_direct(x)


def test_rows_do_not_depend_on_their_number_or_on_threads() -> None:
    """A pair comes out the same bit for bit however many cores the machine has."""
    tokens, square = torch.randn(4800, 96), torch.randn(96, 96)
    threads = torch.get_num_threads()
    try:
        with torch.inference_mode():
            found = []
            for num in (1, 2):
                torch.set_num_threads(num)
                found.append(linear(tokens, square))
            assert torch.equal(*found)
    finally:
        torch.set_num_threads(threads)
