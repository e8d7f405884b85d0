"""Both images at a glance: softmax attention over patches of 4 x 4 cells, between the rounds over the cells.

At 1/32 of the image a 640 x 480 image is 300 tokens, so attention in full (Vaswani et al., NeurIPS 2017) costs
little, and what a token says of its sixteen cells is added to each of them on its own. After Efficient LoFTR (Wang
et al., CVPR 2024), which attends at this resolution too. The last projection starts at zero: a network that is given
this stage matches at first as it did without.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from sfm.matchers.loftr.config import LoFTRConfig
from sfm.matchers.loftr.position_encoding import position_encoding
from sfm.matchers.loftr.products import through

PATCH = 4  # cells of the coarse grid along a side of a token's patch


class AttentionBlock(nn.Module):
    """x attends to source by softmax attention; normalised before each step (Xiong et al., ICML 2020)."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.q_proj = nn.Linear(d_model, d_model)
        self.kv_proj = nn.Linear(d_model, 2 * d_model)
        self.merge = nn.Linear(d_model, d_model)
        self.mlp = nn.Sequential(nn.Linear(d_model, 2 * d_model), nn.GELU(), nn.Linear(2 * d_model, d_model))

    def forward(self, x: Tensor, source: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """x: (B, T, D), source: (B, S, D), source_mask: (B, S) bool, True where a token exists → (B, T, D)."""
        heads = self.num_heads
        q = rearrange(through(self.q_proj, self.norm1(x)), "b t (h d) -> b h t d", h=heads)
        kv = through(self.kv_proj, self.norm1(source))
        k, v = rearrange(kv, "b s (two h d) -> two b h s d", two=2, h=heads).unbind(0)
        mask = None if source_mask is None else source_mask[:, None, None]
        message = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + through(self.merge, rearrange(message, "b h t d -> b t (h d)"))
        hidden = through(self.mlp[0], self.norm2(x), "gelu")
        return x + through(self.mlp[2], hidden)


class GlobalContext(nn.Module):
    """The stage as a whole: patches in, self- and cross-attention in turn, a message for every cell out."""

    def __init__(self, config: LoFTRConfig) -> None:
        super().__init__()
        self.layer_names = config.global_layers
        self.temp_bug_fix = config.temp_bug_fix
        d_coarse, d_model = config.d_coarse, config.d_global
        self.patches = nn.Linear(PATCH * PATCH * d_coarse, d_model)
        self.position_gain = nn.Parameter(torch.tensor(0.5))
        self.blocks = nn.ModuleList(AttentionBlock(d_model, config.num_heads_global) for _ in self.layer_names)
        self.norm = nn.LayerNorm(d_model)
        self.cells = nn.Linear(d_model, PATCH * PATCH * d_coarse)
        nn.init.zeros_(self.cells.weight)
        nn.init.zeros_(self.cells.bias)

    def forward(
        self,
        feat0: Tensor,
        feat1: Tensor,
        hw0: tuple[int, int],
        hw1: tuple[int, int],
        valid0: Tensor | None = None,
        valid1: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """feat0: (B, h0 * w0, C), feat1: (B, h1 * w1, C), valid: (B, h * w) bool or None → the same, with context."""
        x0, mask0 = self._tokens(feat0, hw0, valid0)
        x1, mask1 = self._tokens(feat1, hw1, valid1)
        for block, name in zip(self.blocks, self.layer_names, strict=True):
            x0, x1 = _both(block, x0, x1, mask0, mask1, cross=name == "cross")
        return feat0 + self._messages(x0, hw0), feat1 + self._messages(x1, hw1)

    def _tokens(self, feat: Tensor, hw: tuple[int, int], valid: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Patches with their position: (B, T, D), and which of them hold a valid cell (B, T), None if all do."""
        h, w = hw
        pad = (0, 0, 0, -w % PATCH, 0, -h % PATCH)
        cells = rearrange(feat, "b (h w) c -> b h w c", h=h)
        mask = None
        if valid is not None:
            cells = cells * rearrange(valid, "b (h w) -> b h w 1", h=h)
            grid = F.pad(rearrange(valid, "b (h w) -> b h w 1", h=h), pad)
            mask = rearrange(grid, "b (h p) (w q) 1 -> b (h w) (p q)", p=PATCH, q=PATCH).any(dim=2)
            mask = mask | ~mask.any(dim=1, keepdim=True)  # softmax over nothing is not a number
        cells = F.pad(cells, pad)
        grid_hw = (cells.shape[1] // PATCH, cells.shape[2] // PATCH)
        x = through(self.patches, rearrange(cells, "b (h p) (w q) c -> b (h w) (p q c)", p=PATCH, q=PATCH))
        position = position_encoding(x.shape[2], grid_hw, temp_bug_fix=self.temp_bug_fix, device=x.device)
        return x + self.position_gain * position, mask

    def _messages(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """(B, T, D) → (B, h * w, C)."""
        h, w = hw
        cells = rearrange(
            through(self.cells, self.norm(x)),
            "b (h w) (p q c) -> b (h p) (w q) c",
            h=-(-h // PATCH),
            w=-(-w // PATCH),
            p=PATCH,
            q=PATCH,
        )
        messages: Tensor = cells[:, :h, :w].flatten(1, 2)
        return messages


def _both(
    block: nn.Module, x0: Tensor, x1: Tensor, mask0: Tensor | None, mask1: Tensor | None, *, cross: bool
) -> tuple[Tensor, Tensor]:
    """The block on both images, each looking at the other as it was before; in one go where their sizes agree."""
    source0, source1, source_mask0, source_mask1 = (x1, x0, mask1, mask0) if cross else (x0, x1, mask0, mask1)
    if x0.shape == x1.shape and mask0 is None and mask1 is None:
        both: Tensor = block(torch.cat([x0, x1]), torch.cat([source0, source1]))
        y0, y1 = both.chunk(2)
        return y0, y1
    return block(x0, source0, source_mask0), block(x1, source1, source_mask1)
