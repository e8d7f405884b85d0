"""Pairs of frames of a sequence with depth and poses: real rooms, dense truth, any two frames that share something."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sfm.datasets.batched_pairs.batch import Difficulty, PairBatch
from sfm.datasets.batched_pairs.cameras import anchor_grid
from sfm.datasets.batched_pairs.cuts import cut, inside, mapped, net_size, similarity
from sfm.datasets.batched_pairs.scenes.scene_parts import Draws
from sfm.datasets.batched_pairs.textures import TextureBank

AGREE = 0.04  # relative difference of two depths of one place
AGREE_M = 0.03  # m, near by
HIDDEN = 0.9  # of the depth: what is nearer hides a place


@dataclass(frozen=True, slots=True, eq=False)
class RgbdFrames:
    """N frames whose photos are textures `first` and on of a bank. depth: (N, h, w) f16 m, 0 unknown, its pixel (u, v)
    that of the photo at (2 u, 2 v). cam_from_world: (N, 3, 4). K: (3, 3) px of the photo, the first pixel at (0, 0).
    pairs: (P, 2) i64 that overlap. angle_deg, weight: (P,) between their axes, and in the draw."""

    first: int
    depth: Tensor
    cam_from_world: Tensor
    K: Tensor
    pairs: Tensor
    angle_deg: Tensor
    weight: Tensor

    def world(self, frame: Tensor, index: Tensor, depth: Tensor) -> Tensor:
        """Points (B, N, 3) at photo pixels `index` (B, N, 2) (first pixel (0, 0)) of frames (B,)."""
        focal, middle = self.K.diagonal()[:2], self.K[:2, 2]
        flat = torch.cat([(index - middle) / focal, torch.ones_like(depth)[..., None]], dim=2) * depth[..., None]
        pose = self.cam_from_world[frame]
        return torch.einsum("bji,bnj->bni", pose[:, :, :3], flat - pose[:, None, :, 3])

    def project(self, frame: Tensor, xyz: Tensor) -> tuple[Tensor, Tensor]:
        """Photo pixels (B, N, 2) (first pixel (0, 0)) and depths (B, N)."""
        pose = self.cam_from_world[frame]
        local = torch.einsum("bij,bnj->bni", pose[:, :, :3], xyz) + pose[:, None, :, 3]
        z = local[..., 2]
        return local[..., :2] / z.clamp(min=1e-3)[..., None] * self.K.diagonal()[:2] + self.K[:2, 2], z

    def depth_at(self, frame: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Depth (B, N) m of the nearest depth pixel, 0 where unknown or outside, and bool: no step beside it."""
        h, w = self.depth.shape[1:]
        u, v = (index / 2).round().clamp(-2, 4096).unbind(2)
        on = (u >= 1) & (u < w - 1) & (v >= 1) & (v < h - 1)
        u, v = u.clamp(1, w - 2).long(), v.clamp(1, h - 2).long()
        rows = frame[:, None]
        here = self.depth[rows, v, u].float()
        beside = [self.depth[rows, v + dv, u + du].float() for dv, du in ((0, 1), (0, -1), (1, 0), (-1, 0))]
        smooth = torch.stack([(b > 0) & ((b - here).abs() < 0.05 * here) for b in beside]).all(dim=0)
        return torch.where(on, here, 0.0), smooth & on


def rgbd_pairs(
    draws: Draws, bank: TextureBank, frames: RgbdFrames, num: int, size: tuple[int, int], difficulty: Difficulty
) -> PairBatch:
    """`num` pairs, cut, turned and zoomed. size: (H, W) px."""
    allowed = frames.weight * (frames.angle_deg < 57.3 * difficulty.max_angle)
    chosen = torch.multinomial(allowed, num, replacement=True, generator=draws.generator)
    pair = frames.pairs[chosen]
    swap = draws.chance(0.5, num)
    frame0, frame1 = torch.where(swap, pair[:, 1], pair[:, 0]), torch.where(swap, pair[:, 0], pair[:, 1])
    photo = bank.size(frames.first + frame0)
    shared0, shared1 = _shared_place(draws, frames, frame0, frame1, photo)
    turns = difficulty.turns(draws, num)
    cuts = []
    for shared, turn in zip((shared0, shared1), turns, strict=True):
        cover = (photo / net_size(size, photo)).amin(dim=1)
        scale = cover * draws.uniform(num, low=0.55, high=1.15)
        near = ((1.1 - scale / cover) / 0.5).clamp(0, 1)[:, None]
        cuts.append(similarity(torch.lerp(photo / 2, shared, near), scale, turn, size))
    images = tuple(cut(bank, frames.first + f, c, size) for f, c in zip((frame0, frame1), cuts, strict=True))
    warp01, known0 = _warp(frames, frame0, frame1, cuts[0], cuts[1], size, photo)
    warp10, known1 = _warp(frames, frame1, frame0, cuts[1], cuts[0], size, photo)
    return PairBatch.dense((images[0], images[1]), (warp01, warp10), (known0, known1))


def _shared_place(
    draws: Draws, frames: RgbdFrames, frame0: Tensor, frame1: Tensor, photo: Tensor
) -> tuple[Tensor, Tensor]:
    """A place that both frames see, as photo px (B, 2) of either; the middles where none is found."""
    index = draws.uniform(len(frame0), 64, 2) * photo[:, None]
    there, seen, _ = _seen(frames, frame0, frame1, index, photo)
    best = seen.float().argmax(dim=1)
    rows = torch.arange(len(frame0), device=photo.device)
    found = seen[rows, best][:, None]
    return torch.where(found, index[rows, best], photo / 2), torch.where(found, there[rows, best], photo / 2)


def _seen(
    frames: RgbdFrames, frame0: Tensor, frame1: Tensor, index: Tensor, photo: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Where photo pixels `index` (B, N, 2) of frame0 lie in frame1, whether they are seen there, and whether it is
    certain that they are not."""
    depth, smooth = frames.depth_at(frame0, index)
    there, z = frames.project(frame1, frames.world(frame0, index, depth))
    depth1, smooth1 = frames.depth_at(frame1, there)
    in_photo = inside(there, photo) & (z > 0.05)
    agrees = (depth1 - z).abs() < torch.maximum(AGREE * z, torch.full_like(z, AGREE_M))
    seen = smooth & smooth1 & in_photo & agrees
    unseen = (depth > 0) & smooth & (~in_photo | ((depth1 > 0) & (depth1 < HIDDEN * z)))
    return there, seen, unseen


def _warp(
    frames: RgbdFrames,
    frame0: Tensor,
    frame1: Tensor,
    cut0: Tensor,
    cut1: Tensor,
    size: tuple[int, int],
    photo: Tensor,
) -> tuple[Tensor, Tensor]:
    """Warp (B, h, w, 2) net px, NaN where not seen, and where that is certain (B, h, w)."""
    on_photo = mapped(cut0, anchor_grid(size, photo.device))
    in_photo0 = inside(on_photo, photo)
    there, seen, unseen = _seen(frames, frame0, frame1, on_photo - 0.5, photo)
    net = mapped(torch.linalg.inv(cut1), there + 0.5)
    in_net = inside(net, net_size(size, photo))
    ok = seen & in_net & in_photo0
    known = ok | ~in_photo0 | unseen | (seen & ~in_net)
    grid = (len(frame0), size[0] // 8, size[1] // 8)
    return torch.where(ok[..., None], net, torch.nan).reshape(*grid, 2), known.reshape(grid)
