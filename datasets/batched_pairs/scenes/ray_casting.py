"""Nearest hits, shadows and distances of scenes of boxes, ellipsoids and cylinders in a room.

Each body is the unit box [-1, 1]^3, unit ball or upright unit cylinder in its own frame, scaled by `half` and turned.
A ray enters and leaves each in closed form, so depth, and with it the truth of a pair, is exact. A scene has the same
number of bodies P as all others of its batch; N is the number of rays a scene. Directions need no unit length.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BOX, BALL, CYLINDER = 0, 1, 2
FAR = 1e6
ROOM_FACES = 6  # x-, x+, y-, y+, z- (floor), z+ (ceiling): bodies P to P + 5 of a hit


@dataclass(frozen=True, slots=True, eq=False)
class Bodies:
    """kind: (B, P) i64. turn: (B, P, 3, 3) body_from_world. centre, half: (B, P, 3) m.
    room_low, room_high: (B, 3) m, corners of the box that all is in, cameras too."""

    kind: Tensor
    turn: Tensor
    centre: Tensor
    half: Tensor
    room_low: Tensor
    room_high: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        """The fields, for functions that are compiled."""
        return self.kind, self.turn, self.centre, self.half, self.room_low, self.room_high


def _reciprocal(x: Tensor) -> Tensor:
    return 1 / torch.where(x.abs() < 1e-9, torch.full_like(x, 1e-9), x)


def _slab(o: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    a, b = (-1 - o) * inverse, (1 - o) * inverse
    return torch.minimum(a, b), torch.maximum(a, b)


def _round(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Roots of a t^2 + 2 b t + c; an empty interval where there are none."""
    root = b * b - a * c
    inverse = 1 / a.clamp(min=1e-12)
    half = root.clamp(min=0).sqrt() * inverse
    return torch.where(root > 0, -b * inverse - half, FAR), torch.where(root > 0, -b * inverse + half, -FAR)


def intervals(
    kind: Tensor, turn: Tensor, centre: Tensor, half: Tensor, origins: Tensor, directions: Tensor
) -> tuple[Tensor, Tensor]:
    """Where each ray enters and leaves each body: (B, N, P) ray parameters, near > far where it misses.

    origins, directions: (B, N, 3) in the world.
    """
    ox, oy, oz = (origins[:, :, None, k] - centre[:, None, :, k] for k in range(3))  # (B, N, P)
    dx, dy, dz = (directions[:, :, None, k] for k in range(3))
    local_o, local_d = [], []
    for k in range(3):
        scale = 1 / half[:, None, :, k]
        r0, r1, r2 = (turn[:, None, :, k, m] * scale for m in range(3))
        local_o.append(r0 * ox + r1 * oy + r2 * oz)
        local_d.append(r0 * dx + r1 * dy + r2 * dz)
    (near_x, far_x), (near_y, far_y), (near_z, far_z) = (
        _slab(o, _reciprocal(d)) for o, d in zip(local_o, local_d, strict=True)
    )
    aa = local_d[0] ** 2 + local_d[1] ** 2
    bb = local_o[0] * local_d[0] + local_o[1] * local_d[1]
    cc = local_o[0] ** 2 + local_o[1] ** 2 - 1
    near_c, far_c = _round(aa, bb, cc)
    near_s, far_s = _round(aa + local_d[2] ** 2, bb + local_o[2] * local_d[2], cc + local_o[2] ** 2)
    near_box = torch.maximum(torch.maximum(near_x, near_y), near_z)
    far_box = torch.minimum(torch.minimum(far_x, far_y), far_z)
    near_cyl, far_cyl = torch.maximum(near_c, near_z), torch.minimum(far_c, far_z)
    which = kind[:, None, :]
    near = torch.where(which == BOX, near_box, torch.where(which == BALL, near_s, near_cyl))
    far = torch.where(which == BOX, far_box, torch.where(which == BALL, far_s, far_cyl))
    return near, far


def nearest(
    kind: Tensor,
    turn: Tensor,
    centre: Tensor,
    half: Tensor,
    low: Tensor,
    high: Tensor,
    origins: Tensor,
    directions: Tensor,
) -> tuple[Tensor, Tensor]:
    """First hit of each ray from inside the room: parameter (B, N) f32 and body (B, N) i64, P + face for the room.

    A body that the ray starts in is not seen.
    """
    near, far = intervals(kind, turn, centre, half, origins, directions)
    hit = (near < far) & (near > 1e-4)
    t, body = torch.where(hit, near, FAR).min(dim=2)
    wall_ahead = torch.where(directions > 0, high[:, None], low[:, None]) - origins
    towards = torch.where(directions.abs() < 1e-9, FAR, wall_ahead * _reciprocal(directions))  # (B, N, 3)
    wall, axis = towards.min(dim=2)
    face = 2 * axis + (torch.gather(directions, 2, axis[..., None])[..., 0] > 0).long()
    on_wall = wall < t
    return torch.where(on_wall, wall, t), torch.where(on_wall, kind.shape[1] + face, body)


def hidden(
    kind: Tensor,
    turn: Tensor,
    centre: Tensor,
    half: Tensor,
    glowing: Tensor,
    origins: Tensor,
    directions: Tensor,
) -> Tensor:
    """(B, N) bool: something that does not glow stands between origins and origins + directions.

    glowing: (B, P) bool; lamps throw no shadow.
    """
    near, far = intervals(kind, turn, centre, half, origins, directions)
    blocked = (near < far) & (far > 1e-4) & (near < 0.999) & ~glowing[:, None, :]
    return blocked.any(dim=2)


def distance(
    kind: Tensor, turn: Tensor, centre: Tensor, half: Tensor, low: Tensor, high: Tensor, points: Tensor
) -> Tensor:
    """(B, N) f32 about how far it is from points (B, N, 3) to the nearest surface, negative inside bodies."""
    local = []
    offset = [points[:, :, None, k] - centre[:, None, :, k] for k in range(3)]
    for k in range(3):
        r0, r1, r2 = (turn[:, None, :, k, m] for m in range(3))
        local.append((r0 * offset[0] + r1 * offset[1] + r2 * offset[2]).abs())
    hx, hy, hz = (half[:, None, :, k] for k in range(3))
    qx, qy, qz = local[0] - hx, local[1] - hy, local[2] - hz
    out = (qx.clamp(min=0) ** 2 + qy.clamp(min=0) ** 2 + qz.clamp(min=0) ** 2 + 1e-12).sqrt()
    box = out + torch.maximum(torch.maximum(qx, qy), qz).clamp(max=0)
    radial = (local[0] / hx) ** 2 + (local[1] / hy) ** 2
    smallest = torch.minimum(hx, hy)
    ball = ((radial + (local[2] / hz) ** 2 + 1e-12).sqrt() - 1) * torch.minimum(smallest, hz)
    side = ((radial + 1e-12).sqrt() - 1) * smallest
    cylinder = torch.maximum(side, qz)
    which = kind[:, None, :]
    bodies = torch.where(which == BOX, box, torch.where(which == BALL, ball, cylinder)).amin(dim=2)
    walls = torch.minimum((points - low[:, None]).amin(dim=2), (high[:, None] - points).amin(dim=2))
    return torch.minimum(bodies, walls)
