"""Which of a model's cameras are where they were, and which pairs of images show the same place: judged by truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfm.geometry.similarity import Similarity
from sfm.types import Float64, ImagePair

TURNED_DEG = 15.0  # a camera that looks elsewhere by more is misplaced
OFF = 0.25  # of the distance between two places that look alike
OVERLAP = 0.1  # of what one of two images shows, from which on they overlap


@dataclass(frozen=True, eq=False)
class Truth:
    """names: of the images. poses: (3, 4) cam_from_world by name. spacing: m between places that look alike. models:
    how many are right. overlap: (N, N) share of what image i shows that j shows."""

    names: tuple[str, ...]
    poses: Mapping[str, Float64]
    spacing: float
    models: int
    overlap: Float64

    @classmethod
    def read(cls, folder: Path, poses: Mapping[str, Float64]) -> Truth:
        """Of a set that was rendered."""
        found = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
        return cls(tuple(found["names"]), poses, found["spacing"], found["models"], np.array(found["overlap"]))

    def overlaps(self, pair: ImagePair) -> bool:
        """Whether two images show the same place."""
        i, j = self.names.index(pair.name0), self.names.index(pair.name1)
        return bool(max(self.overlap[i, j], self.overlap[j, i]) >= OVERLAP)


def misplaced(poses: Mapping[str, Float64], truth: Truth) -> tuple[str, ...]:
    """Names of a model's images that are elsewhere than they were, after the similarity that most others agree on."""
    names = sorted(poses)
    if len(names) < 3:
        return ()
    own, true = (np.stack([given[name] for name in names]) for given in (poses, truth.poses))
    best = np.zeros(len(names), bool)
    for i, j in combinations(range(len(names)), 2):
        if (similarity := _of_two(own, true, i, j)) is not None:
            right = _right(own, true, similarity, OFF * truth.spacing)
            best = right if right.sum() > best.sum() else best
    return tuple(name for name, right in zip(names, best, strict=True) if not right)


def _centres(poses: Float64) -> Float64:
    return np.asarray(-np.einsum("nji,nj->ni", poses[:, :, :3], poses[:, :, 3]))


def _of_two(own: Float64, true: Float64, i: int, j: int) -> Similarity | None:
    """The similarity that brings camera i where it was, and j as far from it as it was."""
    centres, goals = _centres(own[[i, j]]), _centres(true[[i, j]])
    length = float(np.linalg.norm(centres[1] - centres[0]))
    if length < 1e-9:
        return None
    scale = float(np.linalg.norm(goals[1] - goals[0])) / length
    rotation = true[i, :, :3].T @ own[i, :, :3]
    return Similarity(scale, rotation, goals[0] - scale * rotation @ centres[0])


def _right(own: Float64, true: Float64, similarity: Similarity, limit: float) -> NDArray[np.bool_]:
    off = np.linalg.norm(similarity(_centres(own)) - _centres(true), axis=1)
    turns = np.einsum("nij,kj,nlk->nil", own[:, :, :3], similarity.rotation, true[:, :, :3])
    cosine = np.clip((np.trace(turns, axis1=1, axis2=2) - 1) / 2, -1, 1)
    return np.asarray((off <= limit) & (np.degrees(np.arccos(cosine)) <= TURNED_DEG))
