"""Many images in one tensor, each with its reductions, so that any pixel of a batch can read from any of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LEVELS = 6  # each half the size of the one before


@dataclass(frozen=True, slots=True, eq=False)
class TextureBank:
    """N grey images. texels: (T,) u8, all of them one after the other. start, width, height: (N, LEVELS) i64.
    mean: (N,) f32 in [0, 1]."""

    texels: Tensor
    start: Tensor
    width: Tensor
    height: Tensor
    mean: Tensor

    @classmethod
    def of(cls, images: Sequence[NDArray[np.uint8]], device: torch.device) -> TextureBank:
        """images: (H, W) u8, of any sizes."""
        parts, starts, widths, heights, total = [], [], [], [], 0
        for image in images:
            for level in _reductions(image):
                parts.append(level.ravel())
                starts.append(total)
                heights.append(level.shape[0])
                widths.append(level.shape[1])
                total += level.size
        shape = (len(images), LEVELS)
        start, width, height = (torch.tensor(c, device=device).reshape(shape) for c in (starts, widths, heights))
        texels = torch.from_numpy(np.concatenate(parts)).to(device)
        mean = torch.tensor([float(image.mean()) / 255 for image in images], device=device)
        return cls(texels, start, width, height, mean)

    def size(self, texture: Tensor) -> Tensor:
        """(...) i64 → (..., 2) f32 width and height, texels."""
        return torch.stack([self.width[texture, 0], self.height[texture, 0]], dim=-1).float()

    def sample(self, texture: Tensor, xy: Tensor, footprint: Tensor) -> Tensor:
        """Grey values in [0, 1], bilinear, mirrored beyond the rim. All arguments broadcast over (...).

        texture: i64. xy: (..., 2) f32 texels of the full size. footprint: texels from one sample to the next.
        """
        return sampled(self.tensors(), texture, xy, footprint)

    def tensors(self) -> tuple[Tensor, ...]:
        """What `sampled` reads from."""
        return self.texels, self.start, self.width, self.height


def sampled(tensors: tuple[Tensor, ...], texture: Tensor, xy: Tensor, footprint: Tensor) -> Tensor:
    """`TextureBank.sample`, on tensors alone."""
    texels, starts, widths, heights = tensors
    level = torch.log2(footprint.clamp(min=1e-6)).round().clamp(0, LEVELS - 1).long()
    start, width, height = (table[texture, level] for table in (starts, widths, heights))
    x = xy[..., 0] * (width / widths[texture, 0]) - 0.5
    y = xy[..., 1] * (height / heights[texture, 0]) - 0.5
    x0, y0 = x.floor(), y.floor()
    fx, fy = x - x0, y - y0
    left, right = _mirrored(x0, width), _mirrored(x0 + 1, width)
    top, bottom = start + _mirrored(y0, height) * width, start + _mirrored(y0 + 1, height) * width
    upper = torch.lerp(texels[top + left].float(), texels[top + right].float(), fx)
    lower = torch.lerp(texels[bottom + left].float(), texels[bottom + right].float(), fx)
    return torch.lerp(upper, lower, fy) / 255


def _mirrored(index: Tensor, num: Tensor) -> Tensor:
    """Whole numbers (f32) → i64 in [0, num), going back and forth."""
    period = 2 * num
    folded = torch.remainder(index.clamp(-1e6, 1e6).long(), period)
    return torch.minimum(folded, period - 1 - folded)


def _reductions(image: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    levels = [image]
    for _ in range(LEVELS - 1):
        h, w = (max(1, side // 2) for side in levels[-1].shape)
        if min(levels[-1].shape) < 2:
            levels.append(levels[-1])
            continue
        blocks = levels[-1][: 2 * h, : 2 * w].astype(np.uint16).reshape(h, 2, w, 2)
        levels.append(((blocks.sum(axis=(1, 3)) + 2) // 4).astype(np.uint8))
    return levels
