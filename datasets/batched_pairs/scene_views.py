"""Two cameras for each scene, as far apart as wanted and still seeing the same, and the pairs that they take."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sfm.datasets.batched_pairs.batch import Difficulty, PairBatch
from sfm.datasets.batched_pairs.cameras import Cameras, anchor_grid, looking_at, rotations_about
from sfm.datasets.batched_pairs.outdoor_scenes import front_scenes, object_scenes
from sfm.datasets.batched_pairs.ray_casting import Bodies
from sfm.datasets.batched_pairs.rendering import Kernels, Scenes, exposed, render, warp
from sfm.datasets.batched_pairs.room_scenes import room_scenes
from sfm.datasets.batched_pairs.scene_parts import Draws, Textures
from sfm.datasets.batched_pairs.textures import TextureBank

CHOICES = 6  # first cameras that are tried in a room
CANDIDATES = 4  # second cameras that are tried
SPACE = 0.15  # m about a camera
COARSE_STRIDE = 32  # px of the grid on which the overlap is measured


@dataclass(frozen=True, slots=True, eq=False)
class _Standpoint:
    """Where the first camera stands and what it looks at, (B, 3) each, and its focal length, (B,) in widths."""

    centre: Tensor
    target: Tensor
    focal: Tensor


def rendered_pairs(
    draws: Draws,
    bank: TextureBank,
    textures: Textures,
    kernels: Kernels,
    counts: tuple[int, int, int],
    size: tuple[int, int],
    difficulty: Difficulty,
    *,
    samples: int = 2,
) -> PairBatch:
    """counts: rooms, objects, fronts. size: (H, W) px. samples: of a pixel."""
    makers = (room_scenes, object_scenes, front_scenes)
    stands = (_in_room, _about_object, _before_front)
    parts = [make(draws, textures, num) for make, num in zip(makers, counts, strict=True) if num]
    scenes = Scenes.joined(parts)
    used = [stand for stand, num in zip(stands, counts, strict=True) if num]
    points = [stand(draws, part.bodies, kernels) for stand, part in zip(used, parts, strict=True)]
    point = _Standpoint(*(torch.cat([getattr(p, f) for p in points]) for f in ("centre", "target", "focal")))
    camera0, camera1 = _cameras(draws, scenes.bodies, kernels, point, size, difficulty)
    images = exposed(
        render(scenes, bank, kernels, camera0, samples=samples), render(scenes, bank, kernels, camera1, samples=samples)
    )
    anchors = anchor_grid(size, draws.device)
    grid = (len(point.focal), -(-size[0] // 8), -(-size[1] // 8), 2)
    warp01 = warp(scenes.bodies, kernels, camera0, camera1, anchors).reshape(grid)
    warp10 = warp(scenes.bodies, kernels, camera1, camera0, anchors).reshape(grid)
    certain = torch.ones(grid[:3], dtype=torch.bool, device=draws.device)
    return PairBatch.dense(images, (warp01, warp10), (certain, certain))


def _in_room(draws: Draws, bodies: Bodies, kernels: Kernels) -> _Standpoint:
    """Somewhere with space about it, looking across the room: the best of a few."""
    batch = len(bodies.centre)
    low, high = bodies.room_low[:, None], bodies.room_high[:, None]
    centres = low + (high - low) * draws.uniform(batch, CHOICES, 3, low=0.06, high=0.94)
    centres[..., 2] = draws.uniform(batch, CHOICES, low=0.6, high=1.9)
    yaw, pitch = draws.uniform(batch, CHOICES, high=2 * math.pi), draws.normal(batch, CHOICES) * 0.28 - 0.12
    flat = torch.cos(pitch)
    towards = torch.stack([flat * torch.cos(yaw), flat * torch.sin(yaw), torch.sin(pitch)], dim=-1)
    t, _ = kernels.nearest(*bodies.tensors(), centres, towards)
    space = kernels.distance(
        bodies.kind, bodies.turn, bodies.centre, bodies.half, bodies.room_low, bodies.room_high, centres
    )
    score = 5 * space.clamp(max=0.3) + t.clamp(max=1.8) + 0.4 * draws.uniform(batch, CHOICES)
    best = score.argmax(dim=1)
    rows = torch.arange(batch, device=draws.device)
    centre, direction = centres[rows, best], towards[rows, best]
    target = centre + t[rows, best, None].clamp(max=6) * direction
    return _Standpoint(centre, target, draws.uniform(batch, low=0.65, high=1.3))


def _about_object(draws: Draws, bodies: Bodies, kernels: Kernels) -> _Standpoint:
    batch = len(bodies.centre)
    del bodies, kernels
    focal = draws.uniform(batch, low=0.8, high=2.5)
    away = focal * draws.uniform(batch, low=1.6, high=4.5)  # the object fills a half of the image, or a fifth
    yaw, pitch = draws.uniform(batch, high=2 * math.pi), draws.uniform(batch, low=-0.05, high=0.8)
    flat = torch.cos(pitch)
    out = torch.stack([flat * torch.cos(yaw), flat * torch.sin(yaw), torch.sin(pitch)], dim=-1)
    target = 0.15 * draws.normal(batch, 3)
    target[:, 2] += 1
    return _Standpoint(target + away.clamp(1.8, 8)[:, None] * out, target, focal)


def _before_front(draws: Draws, bodies: Bodies, kernels: Kernels) -> _Standpoint:
    batch = len(bodies.centre)
    del bodies, kernels
    focal = draws.uniform(batch, low=0.7, high=1.5)
    away = draws.uniform(batch, low=3, high=8) * focal
    yaw, pitch = draws.uniform(batch, low=-0.9, high=0.9), draws.uniform(batch, low=-0.2, high=0.25)
    flat = torch.cos(pitch)
    out = torch.stack([flat * torch.sin(yaw), -flat * torch.cos(yaw), torch.sin(pitch)], dim=-1)
    target = torch.stack(
        [draws.uniform(batch, low=-3, high=3), -0.2 * draws.uniform(batch), draws.uniform(batch, low=1.2, high=4)], dim=1
    )
    centre = target + away[:, None] * out
    centre[:, 2] = centre[:, 2].clamp(min=0.8)
    return _Standpoint(centre, target, focal)


def _repeated(bodies: Bodies, times: int) -> Bodies:
    return Bodies(*(field.repeat_interleave(times, dim=0) for field in bodies.tensors()))


def _cameras(
    draws: Draws,
    bodies: Bodies,
    kernels: Kernels,
    point: _Standpoint,
    size: tuple[int, int],
    difficulty: Difficulty,
) -> tuple[Cameras, Cameras]:
    """The first camera, and of CANDIDATES second ones the one whose overlap is nearest to what was drawn."""
    batch, many = len(point.focal), len(point.focal) * CANDIDATES
    roll0, roll1 = difficulty.turns(draws, batch)
    focal0 = point.focal * max(size)
    camera0 = looking_at(point.centre, point.target, roll0, focal0, size)
    target, arm = point.target.repeat_interleave(CANDIDATES, 0), (point.centre - point.target).repeat_interleave(CANDIDATES, 0)
    far = arm.norm(dim=1, keepdim=True)
    axis = torch.nn.functional.normalize(
        torch.tensor([0.0, 0, 1], device=draws.device) + 0.35 * draws.normal(many, 3), dim=1
    )
    angle = draws.uniform(many, low=-1, high=1) * difficulty.max_angle
    arm = torch.einsum("bij,bj->bi", rotations_about(axis, angle), arm)
    half_range = 0.4 * math.log(difficulty.max_scale)
    centre = target + arm * torch.exp(draws.uniform(many, 1, low=-half_range, high=half_range))
    low, high = bodies.room_low.repeat_interleave(CANDIDATES, 0), bodies.room_high.repeat_interleave(CANDIDATES, 0)
    centre = torch.minimum(torch.maximum(centre, low + SPACE), high - SPACE)
    aim = target + draws.normal(many, 3) * far * 0.15 / point.focal.repeat_interleave(CANDIDATES, 0)[:, None]
    zoom = torch.where(draws.chance(0.3, many), torch.exp(0.3 * draws.normal(many)), 1.0)
    roll = roll1.repeat_interleave(CANDIDATES, 0)
    second = looking_at(centre, aim, roll, focal0.repeat_interleave(CANDIDATES, 0) * zoom, size)
    grown = _repeated(bodies, CANDIDATES)
    grid = anchor_grid(size, draws.device, COARSE_STRIDE)
    first = Cameras(*(x.repeat_interleave(CANDIDATES, 0) for x in (camera0.rotation, camera0.centre, focal0)), size)
    overlap = torch.isfinite(warp(grown, kernels, first, second, grid)[..., 0]).float().mean(dim=1)
    space = kernels.distance(grown.kind, grown.turn, grown.centre, grown.half, low, high, centre[:, None])[:, 0]
    wanted = draws.uniform(batch, low=0.15, high=0.95).repeat_interleave(CANDIDATES, 0)
    cost = (overlap - wanted).abs() + 2.0 * (space < 0.1) + 2.0 * (overlap < 0.08)
    best = cost.reshape(batch, CANDIDATES).argmin(dim=1) + CANDIDATES * torch.arange(batch, device=draws.device)
    return camera0, Cameras(second.rotation[best], second.centre[best], second.focal[best], size)
