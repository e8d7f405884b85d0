"""Two-dimensional sinusoidal position encoding (LoFTR section 3.2), in both published variants."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def position_encoding(
    d_model: int, hw: tuple[int, int], *, temp_bug_fix: bool, device: torch.device | None = None
) -> Tensor:
    """Encoding of every cell of an (h, w) grid: (h * w, d_model) f32, row by row.

    Channels come in fours: sin and cos of x, sin and cos of y (x and y count from 1), at d_model / 4
    frequencies. The first release computed the exponent as arange * (-ln(1e4) / (d / 2) // 1) =
    -arange through a missing bracket; its checkpoints need that formula (temp_bug_fix=False). Made
    for the size at hand, so no table limits the image.
    """
    h, w = hw
    steps = torch.arange(0, d_model // 2, 2, dtype=torch.float32, device=device)  # (d / 4,)
    exponent = -math.log(10000.0) / (d_model // 2) if temp_bug_fix else -math.log(10000.0) / d_model // 2
    frequency = torch.exp(steps * exponent)
    x = torch.arange(1, w + 1, dtype=torch.float32, device=device)[None, :, None] * frequency  # (1, w, d / 4)
    y = torch.arange(1, h + 1, dtype=torch.float32, device=device)[:, None, None] * frequency  # (h, 1, d / 4)
    x, y = x.expand(h, w, -1), y.expand(h, w, -1)
    return torch.stack([x.sin(), x.cos(), y.sin(), y.cos()], dim=-1).reshape(h * w, d_model)
