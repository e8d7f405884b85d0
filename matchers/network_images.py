"""Between images and what a network sees of them: sizes, masks, and points on the way back."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sfm.matchers.base import GreyImage, Mask


def resized(image: GreyImage, hw: tuple[int, int]) -> Tensor:
    """(1, h, w) f32 in [0, 1], antialiased."""
    tensor = torch.from_numpy(np.array(image))[None, None].float() / 255
    if tensor.shape[2:] != hw:
        tensor = F.interpolate(tensor, size=hw, mode="bilinear", antialias=True)
    return tensor[0]


def usable_pixels(mask: Mask, hw: tuple[int, int]) -> NDArray[np.bool_]:
    """(h, w) bool: network pixels that cover no masked-out pixel of the image."""
    blocked = torch.from_numpy(~np.asarray(mask, bool)).float()[None, None]
    found: NDArray[np.bool_] = F.adaptive_max_pool2d(blocked, hw)[0, 0].numpy() == 0
    return found


def on_usable(points: NDArray[np.float32], usable: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """(M, 2) network px → (M,) bool: refinement may move a point onto a masked-out pixel."""
    if usable is None:
        return np.ones(len(points), bool)
    column, row = points.astype(np.int64).T
    found: NDArray[np.bool_] = usable[row.clip(0, usable.shape[0] - 1), column.clip(0, usable.shape[1] - 1)]
    return found


def inside(points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float32]:
    """(M, 2) px, moved into an image of this (width, height)."""
    return points.clip(0, np.array(size)).astype(np.float32)
