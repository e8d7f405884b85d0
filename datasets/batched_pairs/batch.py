"""A batch of training pairs, wherever they come from, and how hard pairs are that are made in batches."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from sfm.datasets.batched_pairs.cameras import STRIDE
from sfm.datasets.batched_pairs.scenes.scene_parts import Draws


@dataclass(frozen=True, slots=True, eq=False)
class PairBatch:
    """B pairs. image0, image1: (B, 1, H, W) f32 in [0, 1]. warp01: (B, H/8, W/8, 2) f32, where each anchor of image 0
    lies in image 1, px, NaN where it is not seen; warp10: the other way. known0, known1: (B, H/8, W/8) bool, where that
    is certain. Sparse truth: points0, points1: (M, 2) f32 px of the pairs b_ids (M,) i64."""

    image0: Tensor
    image1: Tensor
    warp01: Tensor
    warp10: Tensor
    known0: Tensor
    known1: Tensor
    points0: Tensor
    points1: Tensor
    b_ids: Tensor

    @classmethod
    def dense(
        cls, images: tuple[Tensor, Tensor], warps: tuple[Tensor, Tensor], known: tuple[Tensor, Tensor]
    ) -> PairBatch:
        """Without sparse truth. images, warps, known: of either side, as the fields."""
        none = images[0].new_zeros(0, 2)
        return cls(*images, *warps, *known, none, none, torch.zeros(0, dtype=torch.long, device=none.device))

    @classmethod
    def sparse(cls, images: tuple[Tensor, Tensor], points: tuple[Tensor, Tensor], b_ids: Tensor) -> PairBatch:
        """Without dense truth: nothing is known of any cell, so none counts as one without a partner."""
        batch, _, height, width = images[0].shape
        unseen = images[0].new_full((batch, height // STRIDE, width // STRIDE, 2), torch.nan)
        unknown = torch.zeros(unseen.shape[:3], dtype=torch.bool, device=unseen.device)
        return cls(*images, unseen, unseen, unknown, unknown, *points, b_ids)

    @classmethod
    def joined(cls, parts: list[PairBatch]) -> PairBatch:
        """Several as one; their images are of one size."""
        counts = [len(part.image0) for part in parts]
        values = {f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)}
        starts = [sum(counts[:k]) for k in range(len(parts))]
        values["b_ids"] = torch.cat([part.b_ids + start for part, start in zip(parts, starts, strict=True)])
        return cls(**values)

    def split(self, size: int, draws: Draws) -> list[PairBatch]:
        """The pairs shuffled, in batches of `size`; what is left over is left out."""
        order = torch.randperm(len(self.image0), generator=draws.generator, device=self.image0.device)
        parts = []
        for ids in torch.split(order[: len(order) // size * size], size):
            place = torch.full_like(order, -1)
            place[ids] = torch.arange(size, device=order.device)
            b_ids = place[self.b_ids]
            keep = b_ids >= 0
            dense: Any = (getattr(self, f.name)[ids] for f in fields(PairBatch)[:6])
            parts.append(PairBatch(*(*dense, self.points0[keep], self.points1[keep], b_ids[keep])))
        return parts


@dataclass(frozen=True, slots=True)
class Difficulty:
    """max_angle: between the two views of a pair, rad. turned_share: of pairs whose second image is turned by any
    angle; max_scale: between the two images."""

    max_angle: float = math.radians(70)
    turned_share: float = 0.35
    max_scale: float = 2.5

    @classmethod
    def at(cls, done: float) -> Difficulty:
        """As a run goes on: done from 0 to 1; the hardest pairs come after two fifths of it."""
        part = min(1.0, done / 0.4)
        return cls(math.radians(30 + 45 * part), 0.25 + 0.1 * part, 1.6 + 1.2 * part)

    def turns(self, draws: Draws, batch: int) -> tuple[Tensor, Tensor]:
        """In-plane turns of the two images, (B,) rad each."""
        small0, small1 = (draws.normal(batch).clamp(-3, 3) * math.radians(10) for _ in range(2))
        anywhere = draws.uniform(batch, high=2 * math.pi)
        return small0, torch.where(draws.chance(self.turned_share, batch), anywhere, small1)
