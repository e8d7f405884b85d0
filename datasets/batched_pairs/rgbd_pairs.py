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
    """N frames whose photos are textures `first` and on of a bank. size: (N, 2) f32 width and height of the photos, px.
    depth: (N, h, w) f16 m, 0 unknown; its pixel (u, v) lies at the photo's px depth_origin + depth_step * (u, v), both
    (N, 2) f32. cam_from_world: (N, 3, 4) f32. K: (N, 3, 3) f32 px of the photo. pairs: (P, 2) i64 that overlap.
    angle_deg, weight: (P,) f32 between their axes, and in the draw."""

    first: int
    size: Tensor
    depth: Tensor
    depth_origin: Tensor
    depth_step: Tensor
    cam_from_world: Tensor
    K: Tensor
    pairs: Tensor
    angle_deg: Tensor
    weight: Tensor

    def world(self, frame: Tensor, xy: Tensor, depth: Tensor) -> Tensor:
        """Points (B, N, 3) at photo px xy (B, N, 2) of frames (B,), at depths (B, N)."""
        focal, middle = self._lens(frame)
        flat = torch.cat([(xy - middle) / focal, torch.ones_like(depth)[..., None]], dim=2) * depth[..., None]
        pose = self.cam_from_world[frame]
        return torch.einsum("bji,bnj->bni", pose[:, :, :3], flat - pose[:, None, :, 3])

    def project(self, frame: Tensor, xyz: Tensor) -> tuple[Tensor, Tensor]:
        """Photo px (B, N, 2) and depths (B, N) of points (B, N, 3) in frames (B,)."""
        focal, middle = self._lens(frame)
        pose = self.cam_from_world[frame]
        local = torch.einsum("bij,bnj->bni", pose[:, :, :3], xyz) + pose[:, None, :, 3]
        z = local[..., 2]
        return local[..., :2] / z.clamp(min=1e-3)[..., None] * focal + middle, z

    def _lens(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        """Focal lengths and principal points, (B, 1, 2) px."""
        K = self.K[frame, None]
        return torch.stack([K[..., 0, 0], K[..., 1, 1]], dim=-1), K[..., :2, 2]

    def depth_at(self, frame: Tensor, xy: Tensor) -> tuple[Tensor, Tensor]:
        """Depth (B, N) m of the depth pixel nearest to photo px xy (B, N, 2), 0 where unknown or outside, and bool: no
        step beside it."""
        h, w = self.depth.shape[1:]
        index = (xy - self.depth_origin[frame, None]) / self.depth_step[frame, None]
        u, v = index.round().clamp(-2, 4096).unbind(2)
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
    allowed = torch.where(allowed.any(), allowed, frames.weight)  # all are further apart than that
    chosen = torch.multinomial(allowed, num, replacement=True, generator=draws.generator)
    pair = frames.pairs[chosen]
    pair = torch.where(draws.chance(0.5, num)[:, None], pair.flip(1), pair)
    frame0, frame1 = pair.unbind(1)
    shared = _shared_place(draws, frames, frame0, frame1)
    cuts = []
    for frame, place, turn in zip((frame0, frame1), shared, difficulty.turns(draws, num), strict=True):
        photo = frames.size[frame]
        cover = (photo / net_size(size, photo)).amin(dim=1)
        scale = cover * draws.uniform(num, low=0.55, high=1.15)
        near = ((1.1 - scale / cover) / 0.5).clamp(0, 1)[:, None]
        cuts.append(similarity(torch.lerp(photo / 2, place, near), scale, turn, size))
    images = tuple(cut(bank, frames.first + f, c, size) for f, c in zip((frame0, frame1), cuts, strict=True))
    warp01, known0 = _warp(frames, (frame0, frame1), (cuts[0], cuts[1]), size)
    warp10, known1 = _warp(frames, (frame1, frame0), (cuts[1], cuts[0]), size)
    return PairBatch.dense((images[0], images[1]), (warp01, warp10), (known0, known1))


def _shared_place(draws: Draws, frames: RgbdFrames, frame0: Tensor, frame1: Tensor) -> tuple[Tensor, Tensor]:
    """A place that both frames see, as photo px (B, 2) of either; the middles where none is found."""
    photo0, photo1 = frames.size[frame0], frames.size[frame1]
    xy = draws.uniform(len(frame0), 64, 2) * photo0[:, None]
    there, seen, _ = _seen(frames, frame0, frame1, xy)
    best = seen.float().argmax(dim=1)
    rows = torch.arange(len(frame0), device=xy.device)
    found = seen[rows, best][:, None]
    return torch.where(found, xy[rows, best], photo0 / 2), torch.where(found, there[rows, best], photo1 / 2)


def _seen(frames: RgbdFrames, frame0: Tensor, frame1: Tensor, xy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where photo px xy (B, N, 2) of frame0 lie in frame1, whether they are seen there, and whether it is certain that
    they are not."""
    depth, smooth = frames.depth_at(frame0, xy)
    there, z = frames.project(frame1, frames.world(frame0, xy, depth))
    depth1, smooth1 = frames.depth_at(frame1, there)
    in_photo = inside(there, frames.size[frame1]) & (z > 0.05)
    agrees = (depth1 - z).abs() < torch.maximum(AGREE * z, torch.full_like(z, AGREE_M))
    seen = smooth & smooth1 & in_photo & agrees
    unseen = (depth > 0) & smooth & (~in_photo | ((depth1 > 0) & (depth1 < HIDDEN * z)))
    return there, seen, unseen


def _warp(
    frames: RgbdFrames, pair: tuple[Tensor, Tensor], cuts: tuple[Tensor, Tensor], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Warp (B, h, w, 2) net px from the first of a pair to the second, NaN where not seen, and where that is certain
    (B, h, w)."""
    on_photo = mapped(cuts[0], anchor_grid(size, frames.size.device))
    in_photo = inside(on_photo, frames.size[pair[0]])
    there, seen, unseen = _seen(frames, *pair, on_photo)
    net = mapped(torch.linalg.inv(cuts[1]), there)
    in_net = inside(net, net_size(size, net))
    ok = seen & in_net & in_photo
    known = ok | ~in_photo | unseen | (seen & ~in_net)
    grid = (len(on_photo), size[0] // 8, size[1] // 8)
    return torch.where(ok[..., None], net, torch.nan).reshape(*grid, 2), known.reshape(grid)
