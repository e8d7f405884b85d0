"""Linear-attention transformer (LoFTR section 3.2; Katharopoulos et al., ICML 2020) and its twin for inference on CPUs.

The twin, FrozenTransformer, makes the same numbers in fewer passes over memory, from the modules' weights (tests hold
both together): phi = elu + 1 by powers of two, which are several times faster than exp; numerator and denominator of
linear attention as one product; layer normalisation without its mean, which the weights before it are freed of, and
without its gain where the weights after it can carry it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfm.matchers.loftr.products import full_precision, is_direct, linear

LOG2_E = 1 / math.log(2)
WINDOW_TOKENS = 64  # images have more tokens; a product of so few does not gain from being made on its own


def linear_attention(
    q: Tensor, k: Tensor, v: Tensor, num_heads: int, kv_mask: Tensor | None = None, *, eps: float = 1e-6
) -> Tensor:
    """Attention with the feature map elu + 1, in time and memory linear in the number of tokens.

    q: (B, L, C). k, v: (B, S, C), C = heads x channels. kv_mask: (B, S) bool, False where a token does
    not exist. Returns (B, L, C) f32. The heads are the diagonal blocks of one C x C product, which is
    much faster than a small product a head. All of it runs in fp32: sums over tokens overflow in
    half precision (published code divides by S and multiplies again, which here would change nothing).
    """
    with full_precision(q):
        q, k = F.elu(q.float()).add_(1), F.elu(k.float()).add_(1)
        if kv_mask is not None:
            k = k * kv_mask[:, :, None]
        head = torch.arange(q.shape[2], device=q.device) // (q.shape[2] // num_heads)
        kv = (k.transpose(1, 2) @ v.float()) * (head[:, None] == head)
        total = k.sum(dim=1)[:, :, None] * F.one_hot(head, num_heads)  # (B, C, H)
        weight = 1 / (q @ total + eps)  # (B, L, H)
        out: Tensor = (q @ kv).reshape(*q.shape[:2], num_heads, -1) * weight[..., None]
        return out.flatten(2)


class EncoderLayer(nn.Module):
    """x attends to source; the message passes a two-layer perceptron together with x and is added to it."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(d_model, d_model, bias=False)
        self.k_proj = nn.Linear(d_model, d_model, bias=False)
        self.v_proj = nn.Linear(d_model, d_model, bias=False)
        self.merge = nn.Linear(d_model, d_model, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(2 * d_model, 2 * d_model, bias=False), nn.ReLU(), nn.Linear(2 * d_model, d_model, bias=False)
        )
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)

    def forward(self, x: Tensor, source: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """x: (B, L, C), source: (B, S, C), source_mask: (B, S) bool or None → (B, L, C)."""
        q, k, v = self.q_proj(x), self.k_proj(source), self.v_proj(source)
        message = linear_attention(q, k, v, self.num_heads, source_mask)
        message = self.norm1(self.merge(message))
        out: Tensor = x + self.norm2(self._perceptron(x, message))
        return out

    def _perceptron(self, x: Tensor, message: Tensor) -> Tensor:
        """self.mlp of [x, message], without making the concatenation: (B, L, C)."""
        of_x, of_message = self.mlp[0].get_parameter("weight").chunk(2, dim=1)
        hidden = torch.addmm(F.linear(x.flatten(0, 1), of_x), message.flatten(0, 1), of_message.T)
        out: Tensor = self.mlp[2](F.relu(hidden, inplace=True))
        return out.reshape(x.shape)


class LayersInTurn:
    """Self- and cross-attention layers in turn (LoFTR figure 3), whatever applies one of them."""

    layer_names: tuple[str, ...]

    def apply_layer(self, index: int, x: Tensor, source: Tensor, source_mask: Tensor | None) -> Tensor:
        """Layer `index`: x (B, L, C) looks at source (B, S, C); source_mask: (B, S) bool or None → (B, L, C)."""
        raise NotImplementedError

    @property
    def num_leading_self(self) -> int:
        """Number of layers before the first that looks at the other image."""
        return self.layer_names.index("cross") if "cross" in self.layer_names else len(self.layer_names)

    def encode(self, feat: Tensor, mask: Tensor | None = None) -> Tensor:
        """The leading self-attention layers, which depend on one image alone. (B, L, C) → (B, L, C)."""
        for index in range(self.num_leading_self):
            feat = self.apply_layer(index, feat, feat, mask)
        return feat

    def after_encode(
        self, feat0: Tensor, feat1: Tensor, mask0: Tensor | None = None, mask1: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The layers that remain after `encode`. feat0: (B, L, C), feat1: (B, S, C), masks (B, L), (B, S)."""
        return self.part(slice(self.num_leading_self, None), feat0, feat1, mask0, mask1)

    def part(
        self, which: slice, feat0: Tensor, feat1: Tensor, mask0: Tensor | None = None, mask1: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Some of the layers in a row; arguments as of `after_encode`."""
        for index in range(len(self.layer_names))[which]:
            if self.layer_names[index] == "self":
                feat0, feat1 = (
                    self.apply_layer(index, feat0, feat0, mask0),
                    self.apply_layer(index, feat1, feat1, mask1),
                )
            else:  # as published, image 1 looks at image 0 as this layer left it
                feat0 = self.apply_layer(index, feat0, feat1, mask1)
                feat1 = self.apply_layer(index, feat1, feat0, mask0)
        return feat0, feat1


class LocalFeatureTransformer(LayersInTurn, nn.Module):
    """The layers as modules; called, it does what comes after `encode`."""

    def __init__(self, d_model: int, num_heads: int, layer_names: Sequence[str]) -> None:
        super().__init__()
        self.layer_names = tuple(layer_names)
        self.layers = nn.ModuleList(EncoderLayer(d_model, num_heads) for _ in self.layer_names)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def apply_layer(self, index: int, x: Tensor, source: Tensor, source_mask: Tensor | None) -> Tensor:
        """As of LayersInTurn."""
        applied: Tensor = self.layers[index](x, source, source_mask)
        return applied

    def forward(
        self, feat0: Tensor, feat1: Tensor, mask0: Tensor | None = None, mask1: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`after_encode`."""
        return self.after_encode(feat0, feat1, mask0, mask1)


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
        by_head = fractions[..., :channels].reshape(*x.shape[:2], self.num_heads, -1)
        attended: Tensor = by_head * weight[..., None]
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
