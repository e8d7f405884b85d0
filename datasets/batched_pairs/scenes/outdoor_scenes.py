"""Objects on a table, plaster more often than not, and house fronts with windows, columns and ledges."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from sfm.datasets.batched_pairs.cameras import rotations_about
from sfm.datasets.batched_pairs.scenes.ray_casting import BALL, BOX, CYLINDER, Bodies
from sfm.datasets.batched_pairs.scenes.rendering import Lights, Materials, Scenes
from sfm.datasets.batched_pairs.scenes.scene_parts import BODIES, Draws, Group, Textures, about_z, skins

LUMPS = 5  # that an object's other parts sit on
WORLD = 15.0  # m from the middle to the backdrop


def object_scenes(draws: Draws, textures: Textures, batch: int) -> Scenes:
    """An object about (0, 0, 1) of one metre's radius; the camera goes round it."""
    lumps = draws.normal(batch, LUMPS, 3) * 0.35
    lump_half = draws.uniform(batch, LUMPS, 3, low=0.2, high=0.6)
    rest = BODIES - LUMPS - 1
    host = draws.integers(LUMPS, batch, rest)
    side = draws.directions(batch, rest)
    size = torch.exp(draws.uniform(batch, 1, 1, low=-0.7, high=0.4)) * torch.exp(
        draws.uniform(batch, rest, 3, low=math.log(0.03), high=math.log(0.25))
    )
    on = torch.gather(lumps, 1, host[..., None].expand(-1, -1, 3))
    reach = torch.gather(lump_half, 1, host[..., None].expand(-1, -1, 3))
    parts = on + side * reach * draws.uniform(batch, rest, 1, low=0.8, high=1.15)
    few = draws.uniform(batch, 1) * rest  # some objects are simple
    unused = torch.arange(rest, device=draws.device) > few.clamp(min=8)
    parts[..., 2] = torch.where(unused, -500.0, parts[..., 2])
    centre = torch.cat([lumps, parts], dim=1)
    centre[..., 2] += 1
    round_share = draws.uniform(batch, 1)
    kind = torch.where(
        draws.uniform(batch, LUMPS + rest) < round_share,
        BALL,
        torch.where(draws.chance(0.5, batch, LUMPS + rest), BOX, CYLINDER),
    )
    turn = rotations_about(draws.directions(batch * (LUMPS + rest)), draws.uniform(batch * (LUMPS + rest), high=6.3))
    turn = turn.reshape(batch, LUMPS + rest, 3, 3)
    table = _table(draws, batch, centre)
    group = Group.joined([Group(kind, centre, torch.cat([lump_half, size], dim=1), turn), table])
    low = torch.full((batch, 3), -WORLD, device=draws.device)
    high = torch.full((batch, 3), WORLD, device=draws.device)
    low[:, 2] = draws.uniform(batch, low=-1.5, high=-0.5)
    bodies = Bodies(group.kind, group.turn, group.centre, group.half, low, high)
    return Scenes(bodies, _object_materials(draws, textures, batch), _far_lights(draws, batch, 0.6))


def _table(draws: Draws, batch: int, centre: Tensor) -> Group:
    """The box under the object; in a third of the scenes there is none."""
    half = torch.stack(
        [
            draws.uniform(batch, low=0.8, high=2),
            draws.uniform(batch, low=0.8, high=2),
            draws.uniform(batch, low=0.05, high=0.4),
        ],
        dim=1,
    )
    place = torch.zeros(batch, 3, device=draws.device)
    place[:, 2] = torch.where(draws.chance(0.35, batch), -500.0, draws.uniform(batch, low=-0.3, high=0.5) - half[:, 2])
    kind = torch.zeros(batch, 1, dtype=torch.long, device=draws.device)
    return Group(kind, place[:, None], half[:, None], about_z(draws.uniform(batch, 1, high=6.3)))


def _object_materials(draws: Draws, textures: Textures, batch: int) -> Materials:
    skin = skins(draws, textures, batch, BODIES + 6)
    plaster = draws.chance(0.65, batch, 1)
    body = slice(0, BODIES - 1)
    shape = (batch, BODIES - 1)
    one_albedo = draws.uniform(batch, 1, low=0.3, high=0.9).expand(*shape)
    faint = (0.12 * draws.uniform(batch, 1) ** 2).expand(*shape)
    rough = (0.02 * draws.uniform(batch, 1) ** 1.5).expand(*shape)
    albedo, contrast, relief = skin.albedo.clone(), skin.contrast.clone(), skin.relief.clone()
    texture, density, gloss = skin.texture.clone(), skin.density.clone(), skin.gloss.clone()
    albedo[:, body] = torch.where(plaster, one_albedo, albedo[:, body])
    contrast[:, body] = torch.where(plaster, faint, contrast[:, body])
    relief[:, body] = torch.where(plaster, rough, relief[:, body])
    texture[:, body] = torch.where(plaster, texture[:, :1], texture[:, body])
    density[:, body] = torch.where(plaster, density[:, :1], density[:, body])
    gloss[:, body] *= ~plaster
    gloss[:, BODIES:] = 0
    backdrop = slice(BODIES, BODIES + 6)
    density[:, backdrop] = draws.uniform(batch, 6, low=10, high=60)
    plain = draws.chance(0.5, batch, 1)
    dark = draws.uniform(batch, 1) ** 3
    albedo[:, backdrop] = torch.where(plain, 0.01 + dark, albedo[:, backdrop])
    contrast[:, backdrop] = torch.where(plain, 0.0, contrast[:, backdrop])
    return replace(skin, albedo=albedo, contrast=contrast, relief=relief, texture=texture, density=density, gloss=gloss)


def _far_lights(draws: Draws, batch: int, reach: float) -> Lights:
    direction = draws.directions(batch, 2)
    direction[..., 2] = direction[..., 2].abs() * 0.8 + 0.1
    power = draws.uniform(batch, 2, low=0.1, high=1.5) * torch.tensor([1.0, 0.5], device=draws.device)
    zero = torch.zeros(batch, device=draws.device)
    position = 30 * direction
    ambient = draws.uniform(batch, low=0.08, high=0.7)
    return Lights(position, power, draws.uniform(batch, high=1.5), zero, ambient, reach * draws.uniform(batch, low=0.3))


def front_scenes(draws: Draws, textures: Textures, batch: int) -> Scenes:
    """A house front in the plane y = 0, seen from negative y, its foot at z = 0 and some 6 m of it of interest."""
    columns, rows = 6, 4
    num = columns * rows
    pitch = draws.uniform(batch, 2, low=0.8, high=2.2)
    x = (torch.arange(columns, device=draws.device) - (columns - 1) / 2).repeat(rows)
    z = torch.arange(rows, device=draws.device).repeat_interleave(columns) + 0.7
    jitter = 0.25 * draws.normal(batch, num, 2) * draws.chance(0.3, batch, 1, 1)
    centre = torch.zeros(batch, num, 3, device=draws.device)
    centre[..., 0] = (x + jitter[..., 0]) * pitch[:, :1]
    centre[..., 2] = (z + jitter[..., 1]) * pitch[:, 1:]
    equal = pitch[:, None] * draws.uniform(batch, 1, 2, low=0.15, high=0.42)
    own = pitch[:, None] * draws.uniform(batch, num, 2, low=0.1, high=0.45)
    extent = torch.where(draws.chance(0.7, batch, 1, 1), equal.expand(-1, num, -1), own)
    depth = draws.uniform(batch, 1, low=0.03, high=0.4).expand(-1, num)
    frame = Group(
        torch.where(draws.chance(0.15, batch, 1), CYLINDER, BOX).expand(-1, num), centre,
        torch.stack([extent[..., 0], depth, extent[..., 1]], dim=-1),
        about_z(torch.zeros(batch, num, device=draws.device)),
    )  # fmt: skip
    group = Group.joined([frame, _ornaments(draws, batch, BODIES - num)])
    low = torch.tensor([-WORLD, -WORLD, 0.0], device=draws.device).repeat(batch, 1)
    high = torch.tensor([WORLD, 0.0, WORLD], device=draws.device).repeat(batch, 1)
    bodies = Bodies(group.kind, group.turn, group.centre, group.half, low, high)
    lights = _far_lights(draws, batch, 0.8)
    lights.position[..., 1] = -lights.position[..., 1].abs() - 5
    return Scenes(bodies, _front_materials(draws, textures, batch), lights)


def _ornaments(draws: Draws, batch: int, num: int) -> Group:
    """Columns, ledges, steps, statues: things of all shapes before or half in the wall."""
    shape = (batch, num)
    half = torch.exp(draws.uniform(*shape, 3, low=math.log(0.05), high=math.log(0.5)))
    long = draws.integers(3, *shape)[..., None] == torch.arange(3, device=draws.device)
    stretch = draws.chance(0.4, *shape, 1) & long & (torch.arange(3, device=draws.device) != 1)
    half = torch.where(stretch, half * draws.uniform(*shape, 1, low=2, high=7), half)
    centre = torch.stack(
        [
            draws.uniform(*shape, low=-5, high=5),
            -(draws.uniform(*shape) ** 2) * 1.5,
            draws.uniform(*shape, low=0, high=6),
        ],
        dim=-1,
    )
    axis = torch.where(
        draws.chance(0.7, batch * num, 1), torch.tensor([0.0, 0, 1], device=draws.device), draws.directions(batch * num)
    )
    angle = torch.where(draws.chance(0.5, batch * num), 0.0, draws.uniform(batch * num, high=6.3))
    turn = rotations_about(axis, angle).reshape(batch, num, 3, 3)
    return Group(draws.integers(3, *shape), centre, half, turn)


def _front_materials(draws: Draws, textures: Textures, batch: int) -> Materials:
    skin = skins(draws, textures, batch, BODIES + 6)
    one = draws.chance(0.6, batch, 1)  # one photo over all, as if the stone went through
    whole = slice(0, BODIES + 6)
    texture = torch.where(one, skin.texture[:, BODIES + 3 : BODIES + 4], skin.texture)
    density = torch.where(one, 60 + 120 * draws.uniform(batch, 1), skin.density * 0.4)
    contrast = torch.where(one, draws.uniform(batch, 1, low=0.2, high=1.0), skin.contrast)
    albedo = torch.where(
        one,
        draws.uniform(batch, 1, low=0.3, high=0.7) * (1 + 0.15 * draws.normal(batch, BODIES + 6)).clamp(0.5, 1.5),
        skin.albedo,
    )
    offset = torch.where(one[..., None], skin.offset[:, :1], skin.offset)
    planar = one.expand(-1, BODIES + 6).clone()
    planar[:, BODIES + 4 :] = False
    planar[:, BODIES : BODIES + 3] = False
    gloss, glow = skin.gloss.clone(), skin.glow.clone()
    gloss[:, BODIES:] = 0
    for sky in (BODIES, BODIES + 1, BODIES + 2, BODIES + 5):
        contrast[:, sky] *= 0.3
        glow[:, sky] = 0.5 * draws.uniform(batch)
    del whole
    return replace(skin, texture=texture, density=density, contrast=contrast, albedo=albedo, offset=offset,
                   planar=planar, gloss=gloss, glow=glow)  # fmt: skip
