"""What cameras see of scenes of bodies: grey images under fixed lights, and the exact warp from one view to another.

Light is of the world, so it is the same in every view, but for highlights and mirrors, which move as they do in life.
The cast of rays over bodies is all that costs; `Kernels` holds it plain, or compiled for a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

from sfm.datasets.batched_pairs.cameras import Cameras, anchor_grid
from sfm.datasets.batched_pairs.scenes import ray_casting
from sfm.datasets.batched_pairs.scenes.ray_casting import BALL, BOX, Bodies
from sfm.datasets.batched_pairs.textures import TextureBank, sampled

SUBPIXELS = ((-0.25, -0.2), (0.25, 0.2))  # px from the middle: two samples a pixel
MIN_COSINE = 0.1  # flatter views of a surface give no truth
SAME_DEPTH = 2e-3  # relative
LEAST_COMPILED = 1000  # rays of a scene, below which a compiled kernel would be compiled for little
PLAIN_ELEMENTS = 1 << 24  # rays x bodies at once where nothing is compiled, on a CPU
CUDA_ELEMENTS = 1 << 27


@dataclass(frozen=True, slots=True, eq=False)
class Materials:
    """Of each body and each face of the room, (B, P + 6). texture: i64; density: texels per metre; offset: (.., 2)
    texels; albedo: mean reflectance; contrast: how much of the texture shows, 0 is plain; relief: m from black to
    white, as a bump; glow: light of its own; gloss: part that is mirrored; planar: bool, laid on along y."""

    texture: Tensor
    density: Tensor
    offset: Tensor
    albedo: Tensor
    contrast: Tensor
    relief: Tensor
    glow: Tensor
    gloss: Tensor
    planar: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Lights:
    """position: (B, L, 3) m. power: (B, L). radius: (B,) m of the lamps. falloff: (B,) 0 sun, 1 a lamp in a room.
    ambient: (B,). reach: (B,) m, how far corners darken what is near."""

    position: Tensor
    power: Tensor
    radius: Tensor
    falloff: Tensor
    ambient: Tensor
    reach: Tensor


_Columns = TypeVar("_Columns")


@dataclass(frozen=True, slots=True, eq=False)
class Scenes:
    """B scenes."""

    bodies: Bodies
    materials: Materials
    lights: Lights

    @classmethod
    def joined(cls, parts: list[Scenes]) -> Scenes:
        """Several batches as one."""
        return cls(
            _joined(Bodies, [p.bodies for p in parts]),
            _joined(Materials, [p.materials for p in parts]),
            _joined(Lights, [p.lights for p in parts]),
        )


def _joined(kind: type[_Columns], parts: Sequence[Any]) -> _Columns:
    """One of several, column by column."""
    names = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    return kind(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


Kernel = Callable[..., Tensor]


@dataclass(frozen=True, slots=True)
class Kernels:
    """The functions that are run for every ray, plain or compiled."""

    nearest: Callable[..., tuple[Tensor, Tensor]]
    hidden: Kernel
    distance: Kernel
    skin: Callable[..., tuple[Tensor, Tensor, Tensor]]

    @classmethod
    def plain(cls) -> Kernels:
        """Chunk by chunk, so that memory is bounded."""
        nearest: Any = _chunked(ray_casting.nearest, 2)
        hidden: Any = _chunked(ray_casting.hidden, 2)
        distance: Any = _chunked(ray_casting.distance, 1)
        return cls(nearest, hidden, distance, _skin)

    @classmethod
    def compiled(cls) -> Kernels:
        """Fused by torch.compile, so that rays x bodies never reach memory: what makes a GPU worth having. Few rays
        go the plain way, which saves compiling for their shapes."""
        plain = cls.plain()
        return cls(
            _compiled(ray_casting.nearest, plain.nearest, 2),
            _compiled(ray_casting.hidden, plain.hidden, 2),
            _compiled(ray_casting.distance, plain.distance, 1),
            _compiled(_skin, _skin, 3),
        )


def _compiled(function: Callable[..., Any], plain: Callable[..., Any], num_of_rays: int) -> Callable[..., Any]:
    fused = torch.compile(function, dynamic=True, fullgraph=True)

    def run(*args: Tensor) -> Any:
        scene, rays = args[:-num_of_rays], args[-num_of_rays:]
        if rays[-1].shape[1] < LEAST_COMPILED:
            return plain(*args)
        return fused(*(x.contiguous() for x in scene), *(x.contiguous() for x in rays))

    return run


def _chunked(function: Callable[..., Any], num_of_rays: int) -> Callable[..., Any]:
    def run(*args: Tensor) -> Any:
        scene, rays = args[:-num_of_rays], args[-num_of_rays:]
        most = CUDA_ELEMENTS if scene[0].is_cuda else PLAIN_ELEMENTS
        size = max(1, most // (len(scene[0]) * scene[0].shape[1]))
        parts = [function(*scene, *pieces) for pieces in zip(*(torch.split(r, size, dim=1) for r in rays), strict=True)]
        if isinstance(parts[0], tuple):
            return tuple(torch.cat(columns, dim=1) for columns in zip(*parts, strict=True))
        return torch.cat(parts, dim=1)

    return run


def _of_hit(table: Tensor, body: Tensor) -> Tensor:
    """table (B, Q, ...), body (B, N) → (B, N, ...)."""
    flat = table.flatten(2) if table.dim() > 2 else table[..., None]
    found = torch.gather(flat, 1, body[..., None].expand(-1, -1, flat.shape[2]))
    return found.reshape(*body.shape, *table.shape[2:])


def surface(shape: tuple[Tensor, ...], points: Tensor, body: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The place of a hit: normal (B, N, 3) outwards, place (B, N, 3) along the axes of the texture's frame, m;
    axis (B, N) i64 along which a texture is laid on; to_world (B, N, 3, 3); normal in that frame (B, N, 3)."""
    kind, turn, centre, half = shape
    num = kind.shape[1]
    face = body - num
    on_room = face >= 0
    index = body.clamp(max=num - 1)
    frame = _of_hit(turn, index)  # (B, N, 3, 3) body_from_world
    extent = _of_hit(half, index)
    local = (frame * (points - _of_hit(centre, index))[..., None, :]).sum(dim=-1)
    unit = local / extent
    which = _of_hit(kind, index)[..., None]
    longest = unit.abs().argmax(dim=-1, keepdim=True)
    axes = torch.arange(3, device=points.device)
    box = torch.where(axes == longest, unit.sign(), 0.0)
    ball = unit / extent
    cap = (unit[..., 2:].abs() >= (unit[..., :2] ** 2).sum(dim=-1, keepdim=True).sqrt()) & (axes == axes)
    side = torch.where(axes == 2, 0.0, ball)
    cylinder = torch.where(cap, torch.where(axes == 2, unit.sign(), 0.0), side)
    normal = torch.where(which == BOX, box, torch.where(which == BALL, ball, cylinder))
    eye = torch.eye(3, device=points.device)
    of_room = torch.where(axes == (face // 2)[..., None], torch.where(face % 2 == 0, 1.0, -1.0)[..., None], 0.0)
    normal = torch.where(on_room[..., None], of_room, normal)
    normal = normal / normal.square().sum(dim=-1, keepdim=True).clamp(min=1e-12).sqrt()
    place = torch.where(on_room[..., None], points, local)
    to_world = torch.where(on_room[..., None, None], eye, frame.transpose(-1, -2))
    axis = normal.abs().argmax(dim=-1)
    return (to_world * normal[..., None, :]).sum(dim=-1), place, axis, to_world, normal


def _skin(*args: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What a hit looks like: grey (B, N) reflectance, normal (B, N, 3) in the world with bumps, and without.

    args: kind, turn, centre, half of the bodies; the materials' fields in their order; the bank's mean and tensors;
    points (B, N, 3), body (B, N), and footprint (B, N): m from one pixel to the next.
    """
    shape, rest, (points, body, footprint) = args[:4], args[4:-3], args[-3:]
    texture, density, offset, albedo, contrast, relief, _, _, planar = (_of_hit(table, body) for table in rest[:9])
    mean, bank = rest[9], rest[10:]
    smooth, place, axis, to_world, inner = surface(shape, points, body)
    place = torch.where(planar[..., None], points, place)
    axis = torch.where(planar, 1, axis)
    u = torch.where(axis == 0, place[..., 1], place[..., 0])
    v = torch.where(axis == 2, place[..., 1], -place[..., 2])
    xy = torch.stack([u, v], dim=-1) * density[..., None] + offset + 37.0 * axis[..., None]
    texels = footprint * density
    here = sampled(bank, texture, xy, texels)
    grey = albedo * (1 + contrast * (here / mean[texture].clamp(min=0.05) - 1)).clamp(min=0.02)
    step = texels.clamp(min=1.0)
    none = torch.zeros_like(step)
    right, down = torch.stack([step, none], dim=-1), torch.stack([none, step], dim=-1)
    steep = relief * density / step
    slope_u = (steep * (sampled(bank, texture, xy + right, texels) - here)).clamp(-1.5, 1.5)
    slope_v = (steep * (sampled(bank, texture, xy + down, texels) - here)).clamp(-1.5, 1.5)
    axes = torch.arange(3, device=points.device)
    along_u = (axes == torch.where(axis == 0, 1, 0)[..., None]) * slope_u[..., None]
    along_v = (axes == torch.where(axis == 2, 1, 2)[..., None]) * torch.where(axis == 2, -slope_v, slope_v)[..., None]
    bumped = inner - along_u + along_v
    normal = (to_world * bumped[..., None, :]).sum(dim=-1)
    return grey, normal / normal.square().sum(dim=-1, keepdim=True).clamp(min=1e-9).sqrt(), smooth


def _skin_at(
    scenes: Scenes, bank: TextureBank, kernels: Kernels, points: Tensor, body: Tensor, footprint: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    b, m = scenes.bodies, scenes.materials
    shape = (b.kind, b.turn, b.centre, b.half)
    look = tuple(getattr(m, f.name) for f in fields(Materials))
    return kernels.skin(*shape, *look, bank.mean, *bank.tensors(), points, body, footprint)


def _light(scenes: Scenes, kernels: Kernels, points: Tensor, normals: tuple[Tensor, Tensor], wobble: float) -> Tensor:
    """(B, N) light that falls on points. normals: with bumps and without. wobble: which part of the lamps this
    sample sees, -1 to 1."""
    b, lights = scenes.bodies, scenes.lights
    normal, smooth = normals
    start = points + 2e-3 * smooth
    glowing = scenes.materials.glow[:, : b.kind.shape[1]] > 0
    corners = torch.zeros_like(points[..., 0])
    for part in (0.25, 1.0):
        reach = part * lights.reach[:, None]
        free = kernels.distance(
            b.kind, b.turn, b.centre, b.half, b.room_low, b.room_high, points + reach[..., None] * smooth
        )
        corners = corners + 0.42 * (1 - free / reach).clamp(0, 1)
    sky = 0.7 + 0.3 * normal[..., 2]
    total = lights.ambient[:, None] * sky * (1 - corners)
    for k in range(lights.power.shape[1]):
        place = lights.position[:, k] + wobble * lights.radius[:, None] * torch.tensor(
            [0.8, 0.5, 0.3], device=points.device
        )
        towards = place[:, None] - start
        length = towards.norm(dim=2).clamp(min=0.2)
        cosine = (normal * towards).sum(dim=2) / length
        dark = kernels.hidden(b.kind, b.turn, b.centre, b.half, glowing, start, towards)
        fade = (1 + length**2) ** (-0.5 * lights.falloff[:, None])
        total = total + torch.where(dark, 0.0, lights.power[:, k, None] * fade * cosine.clamp(min=0))
    return total


def _look(
    scenes: Scenes, bank: TextureBank, kernels: Kernels, camera: Cameras, xy: Tensor, wobble: float, mirrors: bool
) -> Tensor:
    """(B, N) radiance through pixels xy (N, 2)."""
    b, m = scenes.bodies, scenes.materials
    directions = camera.directions(xy)
    origins = camera.origins(len(xy))
    t, body = kernels.nearest(*b.tensors(), origins, directions)
    points = origins + t[..., None] * directions
    grey, normal, smooth = _skin_at(scenes, bank, kernels, points, body, t / camera.focal[:, None])
    radiance = grey * _light(scenes, kernels, points, (normal, smooth), wobble) + _of_hit(m.glow, body)
    if not mirrors:
        return radiance
    gloss = _of_hit(m.gloss, body)
    bounced = directions - 2 * (directions * smooth).sum(dim=2, keepdim=True) * smooth
    start = points + 2e-3 * smooth
    t2, body2 = kernels.nearest(*b.tensors(), start, bounced)
    footprint = (t + t2) / camera.focal[:, None]
    there = _skin_at(scenes, bank, kernels, start + t2[..., None] * bounced, body2, footprint)
    lit = there[0] * (scenes.lights.ambient[:, None] + 0.3) + _of_hit(m.glow, body2)
    return torch.lerp(radiance, lit, gloss)


def render(
    scenes: Scenes, bank: TextureBank, kernels: Kernels, camera: Cameras, *, mirrors: bool = True, samples: int = 2
) -> Tensor:
    """(B, H, W) radiance. samples: of a pixel, one or two."""
    xy = anchor_grid(camera.size, scenes.bodies.centre.device, stride=1)
    parts = []
    for k in range(samples):
        shift = torch.tensor(SUBPIXELS[k], device=xy.device) if samples > 1 else torch.zeros(2, device=xy.device)
        parts.append(_look(scenes, bank, kernels, camera, xy + shift, 2.0 * k - 1 if samples > 1 else 0.0, mirrors))
    return torch.stack(parts).mean(dim=0).reshape(-1, *camera.size)


def exposed(radiances: list[Tensor]) -> list[Tensor]:
    """(B, H, W) radiances of views → (B, 1, H, W) grey values in [0, 1], gamma-coded, one exposure for a scene."""
    some = torch.cat([r.flatten(1)[:, ::17] for r in radiances], dim=1)
    bright = some.quantile(0.9, dim=1).clamp(min=1e-3)[:, None, None]
    return [(0.65 * r / bright).clamp(0, 1).sqrt()[:, None] for r in radiances]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What a camera sees at N pixels: points (B, N, 3), and whether they are seen too flat to be told (B, N) bool.
    normal: (B, N, 3)."""

    points: Tensor
    normal: Tensor
    flat: Tensor


def seen(bodies: Bodies, kernels: Kernels, camera: Cameras, xy: Tensor) -> Seen:
    """At pixels xy (N, 2)."""
    directions = camera.directions(xy)
    origins = camera.origins(len(xy))
    t, body = kernels.nearest(*bodies.tensors(), origins, directions)
    points = origins + t[..., None] * directions
    normal = surface((bodies.kind, bodies.turn, bodies.centre, bodies.half), points, body)[0]
    return Seen(points, normal, _flat(normal, directions))


def _flat(normal: Tensor, directions: Tensor) -> Tensor:
    flat: Tensor = (normal * directions).sum(dim=2).abs() < MIN_COSINE * directions.norm(dim=2)
    return flat


def warp(bodies: Bodies, kernels: Kernels, here: Seen, camera1: Cameras) -> Tensor:
    """Where what one camera sees lies in another: (B, N, 2) px, NaN where it is not seen there."""
    there, depth = camera1.project(here.points)
    towards: Tensor = here.points - camera1.centre[:, None]
    t1, _ = kernels.nearest(*bodies.tensors(), camera1.origins(towards.shape[1]), towards)
    same = ((t1 - 1).abs() < SAME_DEPTH) & ~here.flat & ~_flat(here.normal, towards)
    return torch.where((camera1.inside(there, depth) & same)[..., None], there, torch.nan)
