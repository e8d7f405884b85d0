"""Which of a model's cameras are where they were, and which pairs match what is the same: judged by truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfm.datasets.alike.sets import FOCAL_35MM, SIZE
from sfm.datasets.courtyard.synthetic import camera_matrix
from sfm.evaluation.model import camera_poses, read_model
from sfm.geometry.poses import rotation_angle_deg
from sfm.geometry.similarity import Similarity
from sfm.types import Float64, ImagePair

TURNED_DEG = 15.0  # a camera that looks elsewhere by more is misplaced
OFF = 0.25  # of the distance between two places that look alike
NEAR_PX = 6.0  # of a match that is right


@dataclass(frozen=True, eq=False)
class Truth:
    """poses: (3, 4) cam_from_world by name. depths: (H, W) m by name. K: (3, 3) px. spacing: m between places that look
    alike. models: how many are right."""

    poses: Mapping[str, Float64]
    depths: Mapping[str, NDArray[np.float16]]
    K: Float64
    spacing: float
    models: int

    @classmethod
    def read(cls, folder: Path) -> Truth:
        """Of a set that was rendered."""
        poses = camera_poses(read_model(folder / "gt"))
        found = np.load(folder / "truth.npz")
        depths = dict(zip(sorted(poses, key=_number), found["depths"], strict=True))
        return cls(poses, depths, camera_matrix(SIZE, FOCAL_35MM), float(found["spacing"]), int(found["models"]))

    def share_right(self, pair: ImagePair, points0: NDArray[np.floating], points1: NDArray[np.floating]) -> float:
        """The share of matches (M, 2) and (M, 2) px that lead where the same spot of the scene is, or would be if
        nothing hid it."""
        depth = self.depths[pair.name0][tuple(points0.astype(np.int64).T[::-1])].astype(np.float64)
        rays = np.column_stack([(points0 - self.K[:2, 2]) / self.K[[0, 1], [0, 1]], np.ones(len(points0))])
        pose0, pose1 = self.poses[pair.name0], self.poses[pair.name1]
        with np.errstate(invalid="ignore"):
            xyz = (depth[:, None] * rays - pose0[:, 3]) @ pose0[:, :3]
            local = xyz @ pose1[:, :3].T + pose1[:, 3]
            there = local[:, :2] / local[:, 2:] * self.K[[0, 1], [0, 1]] + self.K[:2, 2]
            near = (np.linalg.norm(there - points1, axis=1) <= NEAR_PX) & (local[:, 2] > 0)
        return float(near.mean()) if len(near) else 0.0


def _number(name: str) -> int:
    return int(name.rpartition("_")[2].partition(".")[0])


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
    return np.asarray((off <= limit) & (rotation_angle_deg(turns) <= TURNED_DEG))
