"""What the recipes of scenes share: draws, groups of bodies, and the skins that they may have."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sfm.datasets.batched_pairs.scenes.rendering import Materials

BODIES = 64  # of every scene, so that scenes of all kinds are cast together
UNDERGROUND = -500.0  # z of bodies that a scene does not use, m


@dataclass(frozen=True, slots=True)
class Draws:
    """Random numbers on a device. generator: their source; calls follow one another, so a seed fixes them all."""

    generator: torch.Generator
    device: torch.device

    @classmethod
    def seeded(cls, device: torch.device, *seeds: int) -> Draws:
        """Those that some whole numbers, none negative, fix: the same whenever they are asked for on that device."""
        (state,) = np.random.SeedSequence(seeds).generate_state(1, np.uint64)
        return cls(torch.Generator(device).manual_seed(int(state) >> 1), device)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """f32 of that shape between low and high."""
        return low + (high - low) * torch.rand(shape, generator=self.generator, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        """f32 of that shape, standard normal."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def integers(self, high: int, *shape: int, low: int = 0) -> Tensor:
        """i64 of that shape, low to high - 1."""
        return torch.randint(low, high, shape, generator=self.generator, device=self.device)

    def chance(self, share: float, *shape: int) -> Tensor:
        """bool of that shape, True in that share."""
        return self.uniform(*shape) < share

    def directions(self, *shape: int) -> Tensor:
        """(*shape, 3) unit vectors, even over the sphere."""
        return torch.nn.functional.normalize(self.normal(*shape, 3), dim=-1)


@dataclass(frozen=True, slots=True)
class Textures:
    """Which images of a bank are what: photos 0 to num_photos - 1, which may be none, then made ones (wood, tiles,
    print, noise)."""

    num_photos: int
    num_all: int


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Q bodies in each of B scenes. kind: (B, Q) i64. centre, half: (B, Q, 3) m. turn: (B, Q, 3, 3)
    body_from_world."""

    kind: Tensor
    centre: Tensor
    half: Tensor
    turn: Tensor

    @property
    def num(self) -> int:
        """Q."""
        return self.kind.shape[1]

    @classmethod
    def joined(cls, parts: list[Group]) -> Group:
        """All bodies of several groups; the rest of BODIES is put underground."""
        total = sum(part.num for part in parts)
        like = parts[0].centre
        if total < BODIES:
            parts = [*parts, _unused(len(like), BODIES - total, like)]
        return cls(*(torch.cat([getattr(p, f) for p in parts], dim=1) for f in ("kind", "centre", "half", "turn")))


def _unused(batch: int, num: int, like: Tensor) -> Group:
    centre = like.new_zeros(batch, num, 3)
    centre[..., 2] = UNDERGROUND
    turn = torch.eye(3, device=like.device).expand(batch, num, 3, 3)
    return Group(torch.zeros(batch, num, dtype=torch.long, device=like.device), centre, torch.ones_like(centre), turn)


def about_z(angle: Tensor) -> Tensor:
    """(...) rad → (..., 3, 3) body_from_world of bodies that are turned by it about the vertical."""
    c, s, zero, one = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([c, s, zero, -s, c, zero, zero, zero, one], dim=-1).reshape(*angle.shape, 3, 3)


def placed(kind: Tensor, centre: Tensor, half: Tensor, yaw: Tensor, position: Tensor) -> Group:
    """Furniture: parts in the frame of a piece, pieces in the world.

    kind, centre, half: (B, F, Q[, 3]). yaw: (B, F) rad. position: (B, F, 3) m. → B x (F * Q) bodies.
    """
    turn = about_z(yaw)  # (B, F, 3, 3)
    world = torch.einsum("bfji,bfqj->bfqi", turn, centre) + position[:, :, None]
    turns = turn[:, :, None].expand(-1, -1, kind.shape[2], -1, -1)
    return Group(kind.flatten(1, 2), world.flatten(1, 2), half.flatten(1, 2), turns.flatten(1, 2))


def skins(draws: Draws, textures: Textures, batch: int, num: int) -> Materials:
    """A mixed lot: a third bare paint, the rest photos and made textures, strong and faint."""
    shape = (batch, num)
    photo = draws.chance(0.55 if textures.num_photos else 0.0, *shape)
    texture = torch.where(
        photo,
        draws.integers(max(1, textures.num_photos), *shape),
        draws.integers(textures.num_all, *shape, low=textures.num_photos),
    )
    contrast = draws.uniform(*shape) ** 1.5
    contrast = torch.where(draws.chance(0.3, *shape), 0.06 * draws.uniform(*shape), contrast)
    relief = torch.where(draws.chance(0.3, *shape), 0.012 * draws.uniform(*shape) ** 2, 0.0)
    gloss = torch.where(draws.chance(0.15, *shape), draws.uniform(*shape, low=0.05, high=0.3), 0.0)
    return Materials(
        texture=texture,
        density=torch.exp(draws.uniform(*shape, low=math.log(120), high=math.log(900))),
        offset=draws.uniform(*shape, 2, high=2000),
        albedo=draws.uniform(*shape, low=0.08, high=0.8),
        contrast=contrast,
        relief=relief,
        glow=torch.zeros(shape, device=draws.device),
        gloss=gloss,
        planar=torch.zeros(shape, dtype=torch.bool, device=draws.device),
    )


def copied(materials: Materials, slots: slice, source: int) -> Materials:
    """The same, with bodies of `slots` all made of what body `source` is made of (their offsets stay their own)."""
    values = {}
    for name in ("texture", "density", "albedo", "contrast", "relief", "gloss"):
        column = getattr(materials, name).clone()
        column[:, slots] = column[:, source : source + 1]
        values[name] = column
    return Materials(**values, offset=materials.offset, glow=materials.glow, planar=materials.planar)
