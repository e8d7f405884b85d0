"""Linear-attention transformer (LoFTR section 3.2; Katharopoulos et al., ICML 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfm.matchers.loftr.precision import full_precision


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
