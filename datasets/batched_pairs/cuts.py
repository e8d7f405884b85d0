"""Photos seen through a homography: cut, turned, reduced, tilted."""

from __future__ import annotations

import torch
from torch import Tensor

from sfm.datasets.batched_pairs.cameras import anchor_grid
from sfm.datasets.batched_pairs.textures import TextureBank


def similarity(centre: Tensor, scale: Tensor, turn: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 3, 3) photo_from_net: the net image's middle on `centre` (B, 2) photo px, `scale` (B,) photo px per net px,
    turned by `turn` (B,) rad."""
    c, s = torch.cos(turn) * scale, torch.sin(turn) * scale
    half_w, half_h = size[1] / 2, size[0] / 2
    zero, one = torch.zeros_like(scale), torch.ones_like(scale)
    x0, y0 = centre[:, 0] - c * half_w + s * half_h, centre[:, 1] - s * half_w - c * half_h
    return torch.stack([c, -s, x0, s, c, y0, zero, zero, one], dim=1).reshape(-1, 3, 3)


def mapped(homography: Tensor, xy: Tensor) -> Tensor:
    """Points (N, 2) or (B, N, 2) through (B, 3, 3): (B, N, 2), NaN where they go behind the horizon."""
    xy = xy.expand(len(homography), -1, 2)
    out = torch.einsum("bij,bnj->bni", homography, torch.cat([xy, torch.ones_like(xy[..., :1])], dim=2))
    return torch.where(out[..., 2:] > 1e-3, out[..., :2] / out[..., 2:].clamp(min=1e-3), torch.nan)


def inside(xy: Tensor, size: Tensor) -> Tensor:
    """(B, N) bool: which points (B, N, 2) are within 0 and size (B, 2) (w, h); NaN is not."""
    return ((xy > 0) & (xy < size[:, None])).all(dim=2)


def cut(bank: TextureBank, texture: Tensor, photo_from_net: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 1, H, W) grey in [0, 1], black beyond the photo. texture: (B,) i64."""
    xy = anchor_grid(size, photo_from_net.device, stride=1)
    full = torch.cat([xy, torch.ones_like(xy[:, :1])], dim=1)
    out = torch.einsum("bij,nj->bni", photo_from_net, full)
    w = out[..., 2]
    there = out[..., :2] / w.clamp(min=1e-3)[..., None]
    footprint = (torch.linalg.det(photo_from_net).abs()[:, None] / w.abs().clamp(min=1e-3) ** 3).sqrt()
    grey = bank.sample(texture[:, None].expand_as(footprint), there, footprint)
    on = inside(there, bank.size(texture)) & (w > 1e-3)
    return torch.where(on, grey, 0.0).reshape(len(texture), 1, *size)


def net_size(size: tuple[int, int], like: Tensor) -> Tensor:
    """(B, 2) (w, h) of the net images, B as of `like`."""
    return torch.tensor([size[1], size[0]], device=like.device, dtype=torch.float32).expand(len(like), 2)
