"""Attention over aggregated cells (EfficientLoFTR section 3.2) with rotary positions (Su et al., RoFormer, 2021).

Queries are cells taken together 4 x 4 by a convolution, keys and values by their maximum: 1/16 of the tokens, 1/256 of
their products. The message is brought back to all cells bilinearly, and each cell mixes it with what it holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfm.matchers.efficient_loftr.config import AGGREGATION, COARSE_STRIDE, EfficientLoFTRConfig
from sfm.matchers.loftr.products import linear, through

ROTARY_BASE = 10000.0


@dataclass(frozen=True, slots=True)
class Rotation:
    """Of pairs of channels by a token's place. cos, sin: (T, C / 2) f32."""

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """(B, T, C) → the same, channels 2 k and 2 k + 1 rotated as one complex number."""
        real, imaginary = torch.unflatten(x.float(), -1, (-1, 2)).unbind(-1)
        rotated = [real * self.cos - imaginary * self.sin, imaginary * self.cos + real * self.sin]
        return torch.stack(rotated, dim=-1).flatten(-2).to(x.dtype)


def rotation(hw: tuple[int, int], channels: int, *, scale: float = 1.0, device: torch.device | None = None) -> Rotation:
    """Of the tokens of a grid (h, w), row by row. Even pairs turn with the row, odd ones with the column.

    Places are counted from 1, times `scale`; the angle of the pairs 2 k and 2 k + 1 is place / 10000^(4 k / C).
    """
    h, w = hw
    rate = ROTARY_BASE ** (-torch.arange(channels // 4, device=device, dtype=torch.float32) * 4 / channels)  # (C / 4,)
    rows, columns = (torch.arange(1, num + 1, device=device)[:, None] * scale * rate for num in (h, w))
    angle = torch.stack([rows[:, None].expand(h, w, -1), columns.expand(h, w, -1)], dim=-1).reshape(h * w, -1)
    return Rotation(angle.cos(), angle.sin())


class AggregatedAttention(nn.Module):
    """One layer: x looks at source; names as in the published checkpoints."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.aggregate = nn.Conv2d(channels, channels, AGGREGATION, stride=AGGREGATION, groups=channels, bias=False)
        self.q_proj, self.k_proj, self.v_proj, self.merge = (
            nn.Linear(channels, channels, bias=False) for _ in range(4)
        )
        self.mlp = nn.Sequential(
            nn.Linear(2 * channels, 2 * channels, bias=False),
            nn.LeakyReLU(),
            nn.Linear(2 * channels, channels, bias=False),
        )
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)

    def forward(self, x: Tensor, source: Tensor, rotate: Rotation | None = None, mask: Tensor | None = None) -> Tensor:
        """x: (B, h, w, C), source: (B, h1, w1, C), sides multiples of 4 → (B, h, w, C).

        rotate: of both, where source is x. mask: (B, T) bool, which aggregated cells of source are looked at.
        """
        message = self.message(x, source, rotate, mask)  # (B, h / 4, w / 4, C)
        of_x, of_message = self.mlp[0].get_parameter("weight").chunk(2, dim=1)
        # products and interpolation commute: the message's part is made of 1/16 of the tokens
        part = linear(message, of_message).permute(0, 3, 1, 2)
        part = F.interpolate(part, scale_factor=float(AGGREGATION), mode="bilinear", align_corners=False)
        hidden = F.leaky_relu(linear(x, of_x) + part.permute(0, 2, 3, 1), inplace=True)
        change: Tensor = self.norm2(through(self.mlp[2], hidden))
        return x + change

    def message(self, x: Tensor, source: Tensor, rotate: Rotation | None, mask: Tensor | None) -> Tensor:
        """What the aggregated cells of x get of those of source: (B, h / 4, w / 4, C)."""
        cells, others = x.permute(0, 3, 1, 2), source.permute(0, 3, 1, 2)
        cells, others = self.aggregate(cells), F.max_pool2d(others, AGGREGATION)
        query = self.norm1(cells.flatten(2).transpose(1, 2))  # (B, L, C)
        keys = self.norm1(others.flatten(2).transpose(1, 2))  # (B, T, C)
        q, k, v = through(self.q_proj, query), through(self.k_proj, keys), through(self.v_proj, keys)
        if rotate is not None:
            q, k = rotate(q), rotate(k)
        q, k, v = (torch.unflatten(one, 2, (self.num_heads, -1)).transpose(1, 2) for one in (q, k, v))
        attended = F.scaled_dot_product_attention(q, k, v, None if mask is None else mask[:, None, None])
        message = through(self.merge, attended.transpose(1, 2).flatten(2))
        return torch.unflatten(message, 1, (x.shape[1] // AGGREGATION, x.shape[2] // AGGREGATION))


class FeatureTransformer(nn.Module):
    """Self- and cross-attention in turn; the first layer depends on one image alone, the others on a pair."""

    def __init__(self, config: EfficientLoFTRConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(AggregatedAttention(config.dims[2], config.num_heads) for _ in config.layers)

    def rotation_of(self, feat: Tensor) -> Rotation:
        """Of the aggregated cells of (B, h, w, C)."""
        h, w = feat.shape[1] // AGGREGATION, feat.shape[2] // AGGREGATION
        longer = max(feat.shape[1:3]) * COARSE_STRIDE
        scale = min(1.0, self.config.trained_side / longer)
        return rotation((h, w), feat.shape[3], scale=scale, device=feat.device)

    def encode(self, feat: Tensor, mask: Tensor | None = None) -> Tensor:
        """The first layer. feat: (B, h, w, C), mask: (B, T) bool or None → (B, h, w, C)."""
        encoded: Tensor = self.layers[0](feat, feat, self.rotation_of(feat), mask)
        return encoded

    def forward(
        self, feat0: Tensor, feat1: Tensor, mask0: Tensor | None = None, mask1: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The layers after `encode`. feat0: (B, h0, w0, C), feat1: (B, h1, w1, C), masks of their aggregated cells."""
        rotate0, rotate1 = self.rotation_of(feat0), self.rotation_of(feat1)
        for layer, name in list(zip(self.layers, self.config.layers, strict=True))[1:]:
            if name == "self":
                feat0, feat1 = layer(feat0, feat0, rotate0, mask0), layer(feat1, feat1, rotate1, mask1)
            else:  # as published, image 1 looks at image 0 as this layer left it
                feat0 = layer(feat0, feat1, None, mask1)
                feat1 = layer(feat1, feat0, None, mask0)
        return feat0, feat1


def aggregated_mask(valid: Tensor) -> Tensor:
    """(B, h, w) bool cells that may be used → (B, T) bool aggregated cells with any; all where an image has none."""
    found = F.max_pool2d(valid[:, None].float(), AGGREGATION).flatten(1) > 0
    return found | ~found.any(dim=1, keepdim=True)
