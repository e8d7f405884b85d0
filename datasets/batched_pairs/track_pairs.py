"""Pairs of photos of reconstructed sets: their tracks are sparse truth in real light, at wide baselines."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sfm.datasets.batched_pairs.batch import Difficulty, PairBatch
from sfm.datasets.batched_pairs.cuts import cut, inside, mapped, net_size, similarity
from sfm.datasets.batched_pairs.scenes.scene_parts import Draws
from sfm.datasets.batched_pairs.textures import TextureBank


@dataclass(frozen=True, slots=True, eq=False)
class SharedTracks:
    """P pairs of photos. textures: (P, 2) i64 of a bank. points: (P, K, 4) f32 photo px x0 y0 x1 y1, NaN beyond the
    shared ones. weight: (P,) in the draw."""

    textures: Tensor
    points: Tensor
    weight: Tensor


def track_pairs(
    draws: Draws, bank: TextureBank, tracks: SharedTracks, num: int, size: tuple[int, int], difficulty: Difficulty
) -> PairBatch:
    """`num` pairs, cut about a shared point, turned and zoomed; nothing is known but the points. size: (H, W) px."""
    chosen = torch.multinomial(tracks.weight, num, replacement=True, generator=draws.generator)
    texture, points = tracks.textures[chosen], tracks.points[chosen]
    swap = draws.chance(0.5, num)
    texture = torch.where(swap[:, None], texture.flip(1), texture)
    points = torch.where(swap[:, None, None], points.roll(2, dims=2), points)
    exist = torch.isfinite(points[..., 0])
    middle = torch.multinomial(exist.float(), 1, generator=draws.generator)[:, 0]
    middle_points = points[torch.arange(num, device=points.device), middle]
    images, moved, turns = [], [], difficulty.turns(draws, num)
    for side in range(2):
        photo = bank.size(texture[:, side])
        cover = (photo / net_size(size, photo)).amin(dim=1)
        scale = cover * torch.exp(draws.uniform(num, low=-0.5, high=0.5) * math.log(min(difficulty.max_scale, 1.8)))
        near = ((1.3 - scale / cover) / 0.6).clamp(0.1, 1)[:, None]
        centre = torch.lerp(photo / 2, middle_points[:, 2 * side : 2 * side + 2], near)
        from_net = similarity(centre, scale, turns[side], size)
        images.append(cut(bank, texture[:, side], from_net, size))
        moved.append(mapped(torch.linalg.inv(from_net), points[..., 2 * side : 2 * side + 2]))
    keep = inside(moved[0], net_size(size, moved[0])) & inside(moved[1], net_size(size, moved[1])) & exist
    b_ids, rows = torch.where(keep)
    points0, points1 = moved[0][b_ids, rows], moved[1][b_ids, rows]
    return PairBatch.sparse((images[0], images[1]), (points0, points1), b_ids)
