"""What cameras and weather do to images, in batches: exposure, shadow, vignetting, blur, noise, JPEG's blocks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sfm.datasets.batched_pairs.scenes.scene_parts import Draws

KERNEL = 9  # px across of the largest blur


def changed(draws: Draws, images: Tensor) -> Tensor:
    """(B, 1, H, W) in [0, 1] → the same, each as a random camera would have taken it."""
    batch, _, height, width = images.shape
    column = (batch, 1, 1, 1)
    gamma = torch.exp(draws.uniform(*column, low=-1, high=1) * math.log(1.5))
    out = images.clamp(1e-4, 1) ** gamma
    out = out * torch.exp(draws.uniform(*column, low=-1, high=1) * math.log(1.35)) * _shade(draws, batch, height, width)
    out = _blurred(draws, out)
    out = out + draws.uniform(*column, low=-1, high=1) * 0.08
    strength = 0.03 * draws.uniform(*column) ** 2
    out = out + strength * draws.normal(*images.shape) * (0.5 + out.clamp(0, 1))
    out = _blocks(draws, out.clamp(0, 1))
    return (out.clamp(0, 1) * 255).round() / 255


def _shade(draws: Draws, batch: int, height: int, width: int) -> Tensor:
    """(B, 1, H, W) factor: darker corners, and soft or hard shadows on some."""
    y = torch.linspace(-1, 1, height, device=draws.device)[:, None]
    x = torch.linspace(-1, 1, width, device=draws.device)[None]
    vignette = 1 - 0.2 * draws.uniform(batch, 1, 1) ** 2 * (x * x + y * y)
    angle, edge = draws.uniform(batch, 1, 1, high=2 * math.pi), draws.uniform(batch, 1, 1, low=-0.6, high=0.6)
    side = torch.cos(angle) * x + torch.sin(angle) * y - edge
    along = torch.cos(angle) * y - torch.sin(angle) * x
    side = side + 0.15 * torch.sin(
        draws.uniform(batch, 1, 1, low=1, high=5) * along + draws.uniform(batch, 1, 1, high=6)
    )
    depth = draws.uniform(batch, 1, 1, low=0.2, high=0.6) * draws.chance(0.2, batch, 1, 1)
    shadow = torch.sigmoid(side / draws.uniform(batch, 1, 1, low=0.01, high=0.15))
    return (vignette * (1 - depth * shadow))[:, None]


def _blurred(draws: Draws, images: Tensor) -> Tensor:
    """Out of focus, or moved, or neither: a kernel for each image."""
    batch = len(images)
    axis = torch.arange(KERNEL, device=draws.device, dtype=torch.float32) - KERNEL // 2
    y, x = axis[:, None], axis[None]
    draw = draws.uniform(batch, 1, 1)
    sigma = torch.where(draw < 0.45, draws.uniform(batch, 1, 1, low=0.3, high=1.5), 0.2)
    length = torch.where(draw > 0.85, draws.uniform(batch, 1, 1, low=0.8, high=3.0), 0.0)
    angle = draws.uniform(batch, 1, 1, high=math.pi)
    along = torch.cos(angle) * x + torch.sin(angle) * y
    across = torch.cos(angle) * y - torch.sin(angle) * x
    beyond = (along.abs() - length).clamp(min=0)
    kernel = torch.exp(-(beyond**2 + across**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum(dim=(1, 2), keepdim=True)
    padded = F.pad(images.transpose(0, 1), (KERNEL // 2,) * 4, mode="replicate")
    return F.conv2d(padded, kernel[:, None], groups=batch).transpose(0, 1)


def _blocks(draws: Draws, images: Tensor) -> Tensor:
    """JPEG without its entropy coder, on half of the images: the cosines of 8 x 8 blocks, rounded."""
    batch, _, height, width = images.shape
    k = torch.arange(8, device=draws.device, dtype=torch.float32)
    basis = torch.cos(math.pi * (2 * k[None] + 1) * k[:, None] / 16) * 0.5
    basis[0] *= math.sqrt(0.5)
    blocks = images.reshape(batch, height // 8, 8, width // 8, 8).transpose(2, 3) - 0.5
    cosines = basis @ blocks @ basis.T
    quality = draws.uniform(batch, 1, 1, 1, 1) ** 2 * 0.06 * draws.chance(0.5, batch, 1, 1, 1, 1)
    step = (quality * (1 + k[:, None] + k[None]) / 3).clamp(min=1e-3)
    rounded = (cosines / step).round() * step
    return ((basis.T @ rounded @ basis) + 0.5).transpose(2, 3).reshape(images.shape)
