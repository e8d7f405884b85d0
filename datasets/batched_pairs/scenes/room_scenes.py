"""Rooms: furniture, shelves of equal things, doors, windows, pictures, lamps, clutter; white walls in soft light."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from sfm.datasets.batched_pairs.scenes.ray_casting import BALL, BOX, CYLINDER, Bodies
from sfm.datasets.batched_pairs.scenes.rendering import Lights, Materials, Scenes
from sfm.datasets.batched_pairs.scenes.scene_parts import BODIES, Draws, Group, Textures, about_z, copied, placed, skins

PIECES, PARTS = 5, 7
ROWS, EQUAL = 2, 5
ON_WALLS = 5  # each a frame and what it frames
LAMPS = 2
# parts of a piece of furniture within [-1, 1] x [-1, 1] x [0, 1]: centre, half
_TABLE = [
    *[(x, y, 0.46, 0.05, 0.06, 0.46) for x in (-0.9, 0.9) for y in (-0.85, 0.85)],
    (0, 0, 0.96, 1, 1, 0.04), (-0.4, 0.1, 1.15, 0.2, 0.2, 0.15), (0.45, -0.2, 1.08, 0.25, 0.3, 0.08),
]  # fmt: skip
_CABINET = [
    (0, 0, 0.5, 1, 1, 0.5), *[(0, -1.0, z, 0.9, 0.06, 0.14) for z in (0.18, 0.5, 0.82)],
    (-0.5, 0, 1.1, 0.25, 0.4, 0.1), (0.3, 0, 1.2, 0.2, 0.3, 0.2), (0.75, 0.1, 1.08, 0.1, 0.5, 0.08),
]  # fmt: skip
_SHELF = [
    (-0.96, 0, 0.5, 0.04, 1, 0.5), (0.96, 0, 0.5, 0.04, 1, 0.5), (0, 0.95, 0.5, 1, 0.05, 0.5),
    *[(0, 0, z, 0.95, 1, 0.02) for z in (0.05, 0.35, 0.66, 0.98)],
]  # fmt: skip
_SOFA = [
    (0, 0.1, 0.25, 1, 0.9, 0.25), (0, 0.8, 0.6, 1, 0.25, 0.4), (-0.9, 0, 0.4, 0.15, 0.95, 0.35),
    (0.9, 0, 0.4, 0.15, 0.95, 0.35), (-0.35, 0.4, 0.65, 0.3, 0.15, 0.22), (0.4, 0.35, 0.65, 0.3, 0.15, 0.22),
    (0, -0.2, 0.54, 0.5, 0.4, 0.05),
]  # fmt: skip
_CHAIR = [
    *[(x, y, 0.22, 0.08, 0.08, 0.22) for x in (-0.8, 0.8) for y in (-0.8, 0.8)],
    (0, 0, 0.47, 1, 1, 0.05), (0, 0.9, 0.75, 1, 0.08, 0.25), (0, -0.1, 0.54, 0.6, 0.6, 0.04),
]  # fmt: skip
_TEMPLATES = (_TABLE, _CABINET, _SHELF, _SOFA, _CHAIR)
_LEAST = ((0.5, 0.35, 0.65), (0.35, 0.2, 0.5), (0.4, 0.15, 0.9), (0.6, 0.4, 0.6), (0.2, 0.2, 0.75))  # half, half, full
_MOST = ((1.1, 0.6, 0.8), (0.8, 0.4, 1.3), (0.8, 0.25, 2.1), (1.2, 0.6, 0.95), (0.3, 0.3, 1.1))


def room_scenes(draws: Draws, textures: Textures, batch: int) -> Scenes:
    """`batch` rooms with the world's origin in the middle of the floor."""
    room = torch.stack(
        [
            draws.uniform(batch, low=2.4, high=7),
            draws.uniform(batch, low=2.4, high=7),
            draws.uniform(batch, low=2.2, high=3.2),
        ],
        dim=1,
    )
    low, high = -room / 2, room / 2
    low[:, 2], high[:, 2] = 0, room[:, 2]
    parts = [_furniture(draws, room), _rows(draws, room), _on_walls(draws, room), _lamps(draws, room)]
    parts.append(_clutter(draws, room, BODIES - sum(p.num for p in parts)))
    group = Group.joined(parts)
    bodies = Bodies(group.kind, group.turn, group.centre, group.half, low, high)
    return Scenes(bodies, _materials(draws, textures, batch), _lights(draws, room))


def _furniture(draws: Draws, room: Tensor) -> Group:
    batch, shape = len(room), (len(room), PIECES)
    templates = torch.tensor(_TEMPLATES, device=draws.device)  # (T, Q, 6)
    which = draws.integers(len(_TEMPLATES), *shape)
    least, most = (torch.tensor(t, device=draws.device)[which] for t in (_LEAST, _MOST))
    size = torch.lerp(least, most, draws.uniform(*shape, 3))  # (B, F, 3)
    chosen = templates[which]  # (B, F, Q, 6)
    centre = chosen[..., :3] + 0.05 * draws.normal(*shape, PARTS, 3) * (chosen[..., 3:] < 0.5)
    centre = centre * size[:, :, None]
    half = chosen[..., 3:] * size[:, :, None] * torch.exp(0.15 * draws.normal(*shape, PARTS, 3))
    kind = torch.where(draws.chance(0.12, *shape, PARTS) & (chosen[..., 3] < 0.3), CYLINDER, BOX)
    quarter = draws.integers(4, *shape) * (math.pi / 2)
    yaw = quarter + torch.where(draws.chance(0.3, *shape), draws.uniform(*shape, high=6.3), 0.05 * draws.normal(*shape))
    spot = draws.uniform(*shape, 2, low=-1, high=1) * room[:, None, :2] / 2
    back = torch.stack([-torch.sin(quarter), torch.cos(quarter)], dim=-1)  # where the piece's back looks to
    to_wall = room[:, None, :2] / 2 - size[..., 1:2] - 0.02
    against = torch.where(back.abs() > 0.5, back.sign() * to_wall, spot.clamp(-to_wall, to_wall))
    spot = torch.where(draws.chance(0.7, *shape, 1), against, 0.7 * spot)
    position = torch.cat([spot, torch.zeros(batch, PIECES, 1, device=draws.device)], dim=2)
    return placed(kind, centre, half, yaw, position)


def _rows(draws: Draws, room: Tensor) -> Group:
    """Equal things side by side: books, bins, bottles, monitors."""
    shape = (len(room), ROWS)
    size = torch.exp(draws.uniform(*shape, 3, low=math.log(0.03), high=math.log(0.25)))
    pitch = 2 * size[..., 0] * draws.uniform(*shape, low=1.02, high=2.0)
    place = (torch.arange(EQUAL, device=draws.device) - (EQUAL - 1) / 2) * pitch[..., None]  # (B, R, E)
    centre = torch.stack([place, torch.zeros_like(place), size[..., 2:].expand_as(place)], dim=-1)
    half = size[:, :, None].expand(-1, -1, EQUAL, -1)
    kind = torch.where(draws.chance(0.3, *shape, 1), CYLINDER, BOX).expand(-1, -1, EQUAL)
    yaw, position = _at_wall(draws, room, ROWS, 0.25)
    return placed(kind, centre, half, yaw, position)


def _at_wall(draws: Draws, room: Tensor, num: int, away: float) -> tuple[Tensor, Tensor]:
    """Yaws (B, num) and positions (B, num, 3) of things `away` m before some wall, their back to it."""
    shape = (len(room), num)
    wall = draws.integers(4, *shape)
    yaw = wall * (math.pi / 2)
    along = draws.uniform(*shape, low=-0.85, high=0.85)
    back = torch.stack([-torch.sin(yaw), torch.cos(yaw)], dim=-1)
    side = torch.stack([torch.cos(yaw), torch.sin(yaw)], dim=-1)
    half = room[:, None, :2] / 2
    spot = back * (half - away) + side * along[..., None] * half
    height = draws.uniform(*shape, 1, low=0.2, high=0.75) * room[:, None, 2:]
    return yaw, torch.cat([spot, height], dim=2)


def _on_walls(draws: Draws, room: Tensor) -> Group:
    """Pictures, doors, windows, switches: a frame, and in it, 1 cm nearer, what it frames."""
    shape = (len(room), ON_WALLS)
    width = torch.exp(draws.uniform(*shape, low=math.log(0.12), high=math.log(0.8)))
    height = width * torch.exp(draws.uniform(*shape, low=-0.6, high=0.8))
    yaw, position = _at_wall(draws, room, ON_WALLS, 0.0)
    door = draws.chance(0.25, *shape)
    width, height = torch.where(door, 0.45, width), torch.where(door, 1.02, height)
    position = torch.cat([position[..., :2], torch.where(door[..., None], 1.02, position[..., 2:])], dim=2)
    margin = draws.uniform(*shape, low=0.01, high=0.1)
    depth = draws.uniform(*shape, low=0.01, high=0.06)
    frame = torch.stack([width + margin, depth, height + margin], dim=-1)
    inner = torch.stack([width, depth + 0.01, height], dim=-1)
    half = torch.stack([frame, inner], dim=2)
    kind = torch.zeros(*shape, 2, dtype=torch.long, device=draws.device)
    return placed(kind, torch.zeros_like(half), half, yaw, position)


def _lamps(draws: Draws, room: Tensor) -> Group:
    shape = (len(room), LAMPS)
    spot = draws.uniform(*shape, 2, low=-0.4, high=0.4) * room[:, None, :2]
    height = room[:, None, 2:] - draws.uniform(*shape, 1, low=0.0, high=0.7)
    half = draws.uniform(*shape, 3, low=0.05, high=0.3)
    kind = draws.integers(3, *shape)
    return Group(kind, torch.cat([spot, height], dim=2), half, about_z(draws.uniform(*shape, high=6.3)))


def _clutter(draws: Draws, room: Tensor, num: int) -> Group:
    shape = (len(room), num)
    half = torch.exp(draws.uniform(*shape, 3, low=math.log(0.04), high=math.log(0.3)))
    spot = draws.uniform(*shape, 2, low=-0.47, high=0.47) * room[:, None, :2]
    floor = torch.where(draws.chance(0.6, *shape), 0.0, draws.uniform(*shape, low=0.4, high=1.2))
    centre = torch.cat([spot, floor[..., None] + half[..., 2:]], dim=2)
    return Group(torch.where(draws.chance(0.3, *shape), CYLINDER, torch.where(draws.chance(0.2, *shape), BALL, BOX)),
                 centre, half, about_z(draws.uniform(*shape, high=6.3)))  # fmt: skip


def _materials(draws: Draws, textures: Textures, batch: int) -> Materials:
    skin = skins(draws, textures, batch, BODIES + 6)
    for piece in range(PIECES):  # a piece is of one wood, but for the last two parts
        skin = copied(skin, slice(PARTS * piece, PARTS * piece + 5), PARTS * piece)
    for row in range(ROWS):
        first = PIECES * PARTS + EQUAL * row
        skin = copied(skin, slice(first, first + EQUAL), first)
    offset = skin.offset.clone()
    start, end = PIECES * PARTS, PIECES * PARTS + ROWS * EQUAL  # equal things wear their texture at the same place
    offset[:, start:end] = offset[:, start::EQUAL][:, :ROWS].repeat_interleave(EQUAL, dim=1)
    walls = slice(BODIES, BODIES + 4)
    skin = copied(skin, walls, BODIES)
    plain = draws.chance(0.7, batch, 1)
    contrast, albedo, glow = skin.contrast.clone(), skin.albedo.clone(), skin.glow.clone()
    contrast[:, walls] = torch.where(plain, 0.04 * draws.uniform(batch, 1), 0.5 * contrast[:, walls])
    albedo[:, walls] = draws.uniform(batch, 1, low=0.4, high=0.9)
    albedo[:, BODIES + 5] = draws.uniform(batch, low=0.6, high=0.95)
    contrast[:, BODIES + 5] *= draws.chance(0.3, batch)
    hung = PIECES * PARTS + ROWS * EQUAL
    window = draws.chance(0.3, batch, ON_WALLS)
    contrast[:, hung + 1 : hung + 2 * ON_WALLS : 2] *= ~window
    glow[:, hung + 1 : hung + 2 * ON_WALLS : 2] = window * draws.uniform(batch, ON_WALLS, low=0.4, high=2.5)
    lamp = hung + 2 * ON_WALLS
    glow[:, lamp : lamp + LAMPS] = draws.chance(0.7, batch, LAMPS) * draws.uniform(batch, LAMPS, low=0.5, high=3)
    gloss = skin.gloss.clone()
    gloss[:, walls] = 0
    gloss[:, BODIES + 4] = draws.chance(0.4, batch) * draws.uniform(batch, low=0.05, high=0.35)
    return replace(skin, offset=offset, contrast=contrast, albedo=albedo, glow=glow, gloss=gloss)


def _lights(draws: Draws, room: Tensor) -> Lights:
    batch = len(room)
    position = draws.uniform(batch, 2, 3, low=-0.45, high=0.45) * room[:, None]
    position[..., 2] = room[:, None, 2] * draws.uniform(batch, 2, low=0.55, high=0.98)
    power = draws.uniform(batch, 2, low=0.0, high=2.0)
    one = torch.ones(batch, device=draws.device)
    ambient = draws.uniform(batch, low=0.15, high=0.9)
    radius = draws.uniform(batch, low=0.02, high=0.35)
    return Lights(position, power, radius, one, ambient, draws.uniform(batch, low=0.15, high=0.6))
