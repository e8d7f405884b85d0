"""Pinhole cameras in batches, and where what one of them sees lies in another."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

STRIDE = 8  # px from one anchor to the next; anchors are centres of pixels


@dataclass(frozen=True, slots=True, eq=False)
class Cameras:
    """B cameras. rotation: (B, 3, 3) cam_from_world. centre: (B, 3) m. focal: (B,) px. size: (H, W) px; the principal
    point is in the middle."""

    rotation: Tensor
    centre: Tensor
    focal: Tensor
    size: tuple[int, int]

    def directions(self, xy: Tensor) -> Tensor:
        """(B, N, 3) in the world, of camera depth one, through pixels xy (N, 2) or (B, N, 2)."""
        height, width = self.size
        xy = xy.expand(len(self.focal), -1, 2)
        middle = torch.tensor([width / 2, height / 2], device=xy.device)
        flat = (xy - middle) / self.focal[:, None, None]
        return torch.einsum("bni,bij->bnj", torch.cat([flat, torch.ones_like(flat[..., :1])], dim=2), self.rotation)

    def origins(self, num: int) -> Tensor:
        """(B, num, 3) the centre for each of num rays."""
        return self.centre[:, None].expand(-1, num, 3)

    def project(self, xyz: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (B, N, 2) and depths (B, N) of points (B, N, 3); pixels mean nothing behind the camera."""
        height, width = self.size
        local = torch.einsum("bij,bnj->bni", self.rotation, xyz - self.centre[:, None])
        depth = local[..., 2]
        middle = torch.tensor([width / 2, height / 2], device=xyz.device)
        return self.focal[:, None, None] * local[..., :2] / depth.clamp(min=1e-6)[..., None] + middle, depth

    def inside(self, xy: Tensor, depth: Tensor) -> Tensor:
        """(B, N) bool: which pixels are on the image and before the camera."""
        height, width = self.size
        on = (xy[..., 0] > 0) & (xy[..., 0] < width) & (xy[..., 1] > 0) & (xy[..., 1] < height)
        return on & (depth > 1e-3)


def looking_at(centre: Tensor, target: Tensor, roll: Tensor, focal: Tensor, size: tuple[int, int]) -> Cameras:
    """Cameras at `centre` (B, 3) with `target` (B, 3) in the middle; roll: (B,) rad about the axis, 0 upright."""
    z = torch.nn.functional.normalize(target - centre, dim=1)
    up = torch.zeros_like(z)
    up[:, 2] = 1
    steep = z[:, 2].abs() > 0.99
    up[:, 0] = torch.where(steep, 1.0, up[:, 0])
    x = torch.nn.functional.normalize(torch.linalg.cross(z, up), dim=1)
    y = torch.linalg.cross(z, x)
    c, s = torch.cos(roll)[:, None], torch.sin(roll)[:, None]
    return Cameras(torch.stack([c * x + s * y, -s * x + c * y, z], dim=1), centre, focal, size)


def anchor_grid(size: tuple[int, int], device: torch.device, stride: int = STRIDE) -> Tensor:
    """(h * w, 2) f32 xy of the grid's anchors, row by row."""
    rows = torch.arange(0, size[0], stride, device=device, dtype=torch.float32) + 0.5
    columns = torch.arange(0, size[1], stride, device=device, dtype=torch.float32) + 0.5
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def rotations_about(axis: Tensor, angle: Tensor) -> Tensor:
    """(B, 3) unit axes, (B,) rad → (B, 3, 3), by Rodrigues' formula."""
    zero = torch.zeros_like(angle)
    x, y, z = axis.unbind(1)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).reshape(-1, 3, 3)
    eye = torch.eye(3, device=axis.device)
    s, c = torch.sin(angle)[:, None, None], torch.cos(angle)[:, None, None]
    return eye + s * cross + (1 - c) * (cross @ cross)
