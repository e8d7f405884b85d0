"""Two cameras for each scene, as far apart as wanted and still seeing the same, and the pairs that they take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from sfm.datasets.batched_pairs.batch import Difficulty, PairBatch
from sfm.datasets.batched_pairs.cameras import Cameras, anchor_grid, looking_at, rotations_about
from sfm.datasets.batched_pairs.scenes.outdoor_scenes import front_scenes, object_scenes
from sfm.datasets.batched_pairs.scenes.ray_casting import Bodies
from sfm.datasets.batched_pairs.scenes.rendering import Kernels, Scenes, exposed, render, seen, warp
from sfm.datasets.batched_pairs.scenes.room_scenes import room_scenes
from sfm.datasets.batched_pairs.scenes.scene_parts import Draws, Textures
from sfm.datasets.batched_pairs.textures import TextureBank

CHOICES = 6  # first cameras that are tried in a room
VIEWS = 4  # of a scene
PAIRS = tuple(combinations(range(VIEWS), 2))  # of the views of a scene: rendering is dear, and pairs of it are not
CANDIDATES = 3  # cameras that are tried for each view after the first
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
    mirrors: bool = True,
) -> PairBatch:
    """All pairs of VIEWS views of each scene. counts: of scenes that are rooms, objects, fronts. size: (H, W) px.
    samples: of a pixel. mirrors: whether what is glossy mirrors."""
    makers = (room_scenes, object_scenes, front_scenes)
    stands = (_in_room, _about_object, _before_front)
    made = [make(draws, textures, num) for make, num in zip(makers, counts, strict=True) if num]
    scenes = Scenes.joined(made)
    used = [stand for stand, num in zip(stands, counts, strict=True) if num]
    points = [stand(draws, part.bodies, kernels) for stand, part in zip(used, made, strict=True)]
    point = _Standpoint(*(torch.cat([getattr(p, f) for p in points]) for f in ("centre", "target", "focal")))
    cameras = _cameras(draws, scenes.bodies, kernels, point, size, difficulty)
    looks = [render(scenes, bank, kernels, camera, samples=samples, mirrors=mirrors) for camera in cameras]
    images = exposed(looks)
    anchors = anchor_grid(size, draws.device)
    grid = (len(point.focal), -(-size[0] // 8), -(-size[1] // 8), 2)
    hits = [seen(scenes.bodies, kernels, camera, anchors) for camera in cameras]
    parts = []
    for k, m in PAIRS:
        warps = tuple(warp(scenes.bodies, kernels, hits[a], cameras[b]).reshape(grid) for a, b in ((k, m), (m, k)))
        certain = torch.ones(grid[:3], dtype=torch.bool, device=draws.device)
        parts.append(PairBatch.dense((images[k], images[m]), (warps[0], warps[1]), (certain, certain)))
    return PairBatch.joined(parts)


def _in_room(draws: Draws, bodies: Bodies, kernels: Kernels) -> _Standpoint:
    """Somewhere with space about it, looking across the room: the best of a few."""
    batch = len(bodies.centre)
    low, high = bodies.room_low[:, None], bodies.room_high[:, None]
    centres = low + (high - low) * draws.uniform(batch, CHOICES, 3, low=0.06, high=0.94)
    centres[..., 2] = draws.uniform(batch, CHOICES, low=0.6, high=1.9)
    yaw, pitch = draws.uniform(batch, CHOICES, high=2 * math.pi), draws.normal(batch, CHOICES) * 0.28 - 0.18
    flat = torch.cos(pitch)
    towards = torch.stack([flat * torch.cos(yaw), flat * torch.sin(yaw), torch.sin(pitch)], dim=-1)
    t, body = kernels.nearest(*bodies.tensors(), centres, towards)
    space = kernels.distance(
        bodies.kind, bodies.turn, bodies.centre, bodies.half, bodies.room_low, bodies.room_high, centres
    )
    score = (
        5 * space.clamp(max=0.3)
        + t.clamp(max=1.8)
        + 0.8 * (body < bodies.kind.shape[1])
        + 0.5 * draws.uniform(batch, CHOICES)
    )
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
        [draws.uniform(batch, low=-3, high=3), -0.2 * draws.uniform(batch), draws.uniform(batch, low=1.2, high=4)],
        dim=1,
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
) -> list[Cameras]:
    """VIEWS cameras: the first, and others, each of CANDIDATES the one whose overlap is nearest to a drawn one."""
    batch, tried = len(point.focal), CANDIDATES * (VIEWS - 1)
    many = batch * tried
    focal0 = point.focal * max(size)
    roll0 = difficulty.turns(draws, batch)[0]
    first = looking_at(point.centre, point.target, roll0, focal0, size)
    grown = [x.repeat_interleave(tried, 0) for x in (point.target, point.centre, focal0, point.focal)]
    target, focal = grown[0], grown[2]
    arm = grown[1] - target
    far = arm.norm(dim=1, keepdim=True)
    upright = torch.tensor([0.0, 0, 1], device=draws.device)
    axis = torch.nn.functional.normalize(upright + 0.35 * draws.normal(many, 3), dim=1)
    angle = draws.uniform(many, low=-1, high=1) * difficulty.max_angle
    half_range = 0.4 * math.log(difficulty.max_scale)
    stretch = torch.exp(draws.uniform(many, 1, low=-half_range, high=half_range))
    centre = target + torch.einsum("bij,bj->bi", rotations_about(axis, angle), arm) * stretch
    low, high = bodies.room_low.repeat_interleave(tried, 0), bodies.room_high.repeat_interleave(tried, 0)
    centre = torch.minimum(torch.maximum(centre, low + SPACE), high - SPACE)
    aim = target + draws.normal(many, 3) * far * 0.15 / grown[3][:, None]
    zoom = torch.where(draws.chance(0.3, many), torch.exp(0.3 * draws.normal(many)), 1.0)
    roll = difficulty.turns(draws, many)[1]
    other = looking_at(centre, aim, roll, focal * zoom, size)
    cost = _cost(draws, _repeated(bodies, tried), kernels, first, other, tried)
    slots = cost.reshape(batch, VIEWS - 1, CANDIDATES).argmin(dim=2)
    starts = torch.arange(batch * (VIEWS - 1), device=draws.device).reshape(batch, VIEWS - 1) * CANDIDATES
    chosen = (starts + slots).unbind(1)
    return [first, *(Cameras(other.rotation[c], other.centre[c], other.focal[c], size) for c in chosen)]


def _cost(draws: Draws, bodies: Bodies, kernels: Kernels, first: Cameras, other: Cameras, tried: int) -> Tensor:
    """(B * tried,): how far each camera's overlap with the first is from a drawn one; much for one in a body."""
    grid = anchor_grid(first.size, draws.device, COARSE_STRIDE)
    rotation, centre, focal = (x.repeat_interleave(tried, 0) for x in (first.rotation, first.centre, first.focal))
    grown = Cameras(rotation, centre, focal, first.size)
    there = warp(bodies, kernels, seen(bodies, kernels, grown, grid), other)
    overlap = torch.isfinite(there[..., 0]).float().mean(dim=1)
    space = kernels.distance(
        bodies.kind, bodies.turn, bodies.centre, bodies.half, bodies.room_low, bodies.room_high, other.centre[:, None]
    )[:, 0]
    wanted = draws.uniform(len(overlap) // CANDIDATES, low=0.15, high=0.95).repeat_interleave(CANDIDATES, 0)
    return (overlap - wanted).abs() + 2.0 * (space < 0.1) + 2.0 * (overlap < 0.08)
