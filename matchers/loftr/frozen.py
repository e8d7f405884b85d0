"""The transformer's layers for inference on a CPU: the same numbers in fewer passes over memory.

Twin of EncoderLayer (tests hold both together), from its weights: phi = elu + 1 by powers of two, which are several
times faster than exp; numerator and denominator of linear attention as one product; layer normalisation without its
mean, which the weights before it are freed of, and without its gain where the weights after it can carry it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sfm.matchers.loftr.products import is_direct, linear
from sfm.matchers.loftr.transformer import EncoderLayer, LayersInTurn, LocalFeatureTransformer

LOG2_E = 1 / math.log(2)
WINDOW_TOKENS = 64  # images have more tokens; a product of so few does not gain from being made on its own


def frozen(transformer: LocalFeatureTransformer, like: Tensor) -> LayersInTurn:
    """The transformer's fast twin where tensors such as this one can take it, else the transformer itself.

    It holds the weights as they are now: make it for a call, not for good.
    """
    if not is_direct(like):
        return transformer
    return FrozenTransformer(transformer)


class FrozenTransformer(LayersInTurn):
    """Frozen layers in the transformer's order."""

    def __init__(self, transformer: LocalFeatureTransformer) -> None:
        self.layer_names = transformer.layer_names
        self._layers = [FrozenLayer.of(layer) for layer in transformer.layers if isinstance(layer, EncoderLayer)]

    def apply_layer(self, index: int, x: Tensor, source: Tensor, source_mask: Tensor | None) -> Tensor:
        """One layer."""
        return self._layers[index](x, source, source_mask)


@dataclass(frozen=True, slots=True)
class FrozenLayer:
    """Weights of a layer, each where it costs least. C channels, H heads.

    q, k: (C, C) in units of log 2. v: (C + H, C), its last rows zero, and v_bias: (C + H,), which makes ones of them.
    same_head: (C, C + H) 1 where two channels belong to one head. merge: (C, C) without the mean over its outputs.
    hidden: (2C, 2C), hidden_bias: (2C,), with norm1's gain and bias. out: (C, 2C) without the mean over its outputs.
    gain, bias: (C,) of norm2.
    """

    num_heads: int
    eps: tuple[float, float]
    q: Tensor
    k: Tensor
    v: Tensor
    v_bias: Tensor
    same_head: Tensor
    merge: Tensor
    hidden: Tensor
    hidden_bias: Tensor
    out: Tensor
    gain: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layer: EncoderLayer) -> FrozenLayer:
        """The layer's weights as they are now."""
        v = layer.v_proj.weight
        channels, heads = len(v), layer.num_heads
        head = torch.arange(channels, device=v.device) // (channels // heads)
        column = torch.cat([head, torch.arange(heads, device=v.device)])
        of_x, of_message = layer.mlp[0].get_parameter("weight").chunk(2, dim=1)
        return cls(
            heads,
            (layer.norm1.eps, layer.norm2.eps),
            layer.q_proj.weight * LOG2_E,
            layer.k_proj.weight * LOG2_E,
            F.pad(v, (0, 0, 0, heads)),
            F.pad(v.new_zeros(channels), (0, heads), value=1.0),
            (head[:, None] == column).to(v.dtype),
            _without_mean(layer.merge.weight),
            torch.cat([of_x, of_message * layer.norm1.weight], dim=1),
            of_message @ layer.norm1.bias,
            _without_mean(layer.mlp[2].get_parameter("weight")),
            layer.norm2.weight,
            layer.norm2.bias,
        )

    def __call__(self, x: Tensor, source: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """x: (B, L, C), source: (B, S, C), source_mask: (B, S) bool or None → (B, L, C), as EncoderLayer."""
        message = F.rms_norm(linear(self._attention(x, source, source_mask), self.merge), x.shape[2:], eps=self.eps[0])
        hidden = linear(torch.cat([x, message], dim=2), self.hidden, self.hidden_bias, "relu")
        change = F.rms_norm(linear(hidden, self.out), x.shape[2:], self.gain, self.eps[1])
        return change.add_(self.bias).add_(x)

    def _attention(self, x: Tensor, source: Tensor, source_mask: Tensor | None, eps: float = 1e-6) -> Tensor:
        """Linear attention with the feature map elu + 1: (B, L, C)."""
        channels, q = x.shape[2], _phi(linear(x, self.q))
        summary = self._of_windows(source) if source.shape[1] <= WINDOW_TOKENS and source_mask is None else None
        if summary is not None:
            fractions = torch.bmm(q, summary)
        else:
            masks = [None] * len(x) if source_mask is None else list(source_mask)
            each = [self._of_image(one, mask) for one, mask in zip(source, masks, strict=True)]
            fractions = torch.stack([linear(one, summary.T.contiguous()) for one, summary in zip(q, each, strict=True)])
        weight = fractions[..., channels:].add(eps * LOG2_E**2).reciprocal_()  # (B, L, H)
        attended = fractions[..., :channels].unflatten(2, (self.num_heads, -1)) * weight[..., None]
        return attended.flatten(2)

    def _of_windows(self, source: Tensor) -> Tensor:
        """What queries ask of a few tokens: (B, S, C) → (B, C, C + H), sums of k v, and of k, by head."""
        k, v = _phi(linear(source, self.k)), linear(source, self.v, self.v_bias)
        return torch.bmm(k.transpose(1, 2), v).mul_(self.same_head)

    def _of_image(self, source: Tensor, mask: Tensor | None) -> Tensor:
        """The same of one image's tokens: (S, C), and which exist (S,) bool or None → (C, C + H)."""
        k, v = _phi(linear(self.k, source)), linear(self.v, source)  # (C, S), (C + H, S): rows of memory to sum along
        if mask is not None:
            k = k * mask
        v[-self.num_heads :] = 1
        return linear(k, v) * self.same_head


def _phi(x: Tensor) -> Tensor:
    """elu + 1, times 1 / log 2, of x in units of log 2; where weights are divided by their sum, the factor is too."""
    return torch.clamp(x, max=0).exp2_().mul_(LOG2_E).add_(x.clamp_(min=0))


def _without_mean(weight: Tensor) -> Tensor:
    return weight - weight.mean(dim=0)
