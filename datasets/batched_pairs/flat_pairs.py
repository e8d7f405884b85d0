"""Two views of one flat photo: any turn in the plane, scale, tilt."""

from __future__ import annotations

import math

import torch

from sfm.datasets.batched_pairs.batch import Difficulty, PairBatch
from sfm.datasets.batched_pairs.cameras import anchor_grid
from sfm.datasets.batched_pairs.cuts import cut, inside, mapped, net_size, similarity
from sfm.datasets.batched_pairs.scenes.scene_parts import Draws
from sfm.datasets.batched_pairs.textures import TextureBank


def flat_pairs(
    draws: Draws, bank: TextureBank, num_photos: int, num: int, size: tuple[int, int], difficulty: Difficulty
) -> PairBatch:
    """`num` pairs of photos 0 to num_photos - 1 of the bank under homographies. size: (H, W) px."""
    texture = draws.integers(num_photos, num)
    photo = bank.size(texture)
    cover = (photo / net_size(size, texture)).amin(dim=1)
    scale0 = cover * draws.uniform(num, low=0.45, high=1.0)
    room = (photo / 2 - scale0[:, None] * net_size(size, texture) / 2).clamp(min=0)
    centre = photo / 2 + draws.uniform(num, 2, low=-1, high=1) * room
    turn0, turn1 = difficulty.turns(draws, num)
    ratio = torch.exp(draws.uniform(num, low=-1, high=1) * math.log(difficulty.max_scale))
    scale1 = (scale0 * ratio).clamp(min=0.2)
    shift = draws.normal(num, 2) * 0.12 * scale0[:, None] * min(size)
    from0 = similarity(centre, scale0, turn0, size)
    from1 = similarity(centre + shift, scale1, turn1, size) @ _tilt(draws, num, size, difficulty)
    anchors = anchor_grid(size, draws.device)
    images = cut(bank, texture, from0, size), cut(bank, texture, from1, size)
    grid = (num, size[0] // 8, size[1] // 8, 2)
    warps = []
    for source, other in ((from0, from1), (from1, from0)):
        on_photo = mapped(source, anchors)
        there = mapped(torch.linalg.inv(other), on_photo)
        seen = inside(on_photo, photo) & inside(there, net_size(size, texture))
        warps.append(torch.where(seen[..., None], there, torch.nan).reshape(grid))
    certain = torch.ones(grid[:3], dtype=torch.bool, device=draws.device)
    return PairBatch.dense((images[0], images[1]), (warps[0], warps[1]), (certain, certain))


def _tilt(draws: Draws, num: int, size: tuple[int, int], difficulty: Difficulty) -> torch.Tensor:
    """(B, 3, 3): the image of a plane through the middle that is turned away, as a camera of one width sees it."""
    axis = draws.uniform(num, high=2 * math.pi)
    angle = draws.uniform(num) * min(difficulty.max_angle, math.radians(60))
    c, s = torch.cos(axis), torch.sin(axis)
    focal = float(max(size))
    zero, one = torch.zeros_like(c), torch.ones_like(c)
    turn = torch.stack([c, -s, zero, s, c, zero, zero, zero, one], dim=1).reshape(-1, 3, 3)
    # net px (centred) → plane: x / cos along the tilt, divided by 1 + x tan / f
    away = torch.stack(
        [1 / torch.cos(angle), zero, zero, zero, one, zero, torch.tan(angle) / focal, zero, one], dim=1
    ).reshape(-1, 3, 3)
    centre = torch.eye(3, device=c.device).repeat(num, 1, 1)
    centre[:, 0, 2], centre[:, 1, 2] = -size[1] / 2, -size[0] / 2
    back = torch.eye(3, device=c.device).repeat(num, 1, 1)
    back[:, 0, 2], back[:, 1, 2] = size[1] / 2, size[0] / 2
    return back @ turn @ away @ turn.transpose(1, 2) @ centre
