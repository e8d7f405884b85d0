"""A finished model as localization reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pycolmap

from sfm.colmap.model_arrays import ModelColumns
from sfm.colmap.model_reader import model_folders, read_reconstruction
from sfm.errors import BadFile
from sfm.localization.correspondences import Observed
from sfm.types import Float64, Int64


@dataclass(frozen=True)
class KnownModel:
    """The model, the folder of its images, and its observations as columns."""

    path: Path
    images_folder: Path
    model: pycolmap.Reconstruction

    @classmethod
    def read(cls, path: Path, images_folder: Path) -> KnownModel:
        """The model of most images at a path: an output folder, or a COLMAP model. BadFile where there is none."""
        found = [(folder, read_reconstruction(folder)) for folder in model_folders(path)]
        folder, model = max(found, key=lambda one: one[1].num_reg_images())
        if not model.num_reg_images() or not model.num_points3D():
            raise BadFile(f"{folder}: the model has no images with poses, or no points; nothing to localize in")
        return cls(folder, images_folder, model)

    @cached_property
    def columns(self) -> ModelColumns:
        """Its registered images, points and observations."""
        return ModelColumns.of(self.model)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of the columns by image name."""
        return {name: row for row, name in enumerate(self.columns.names)}

    def observed(self, name: str) -> Observed:
        """What an image observes."""
        own = self.columns.image == self.row_of[name]
        return Observed(self.columns.xy[own], self.columns.point_ids[self.columns.point[own]])

    def xyz(self, point_ids: Int64) -> Float64:
        """(N, 3) of points by their ids."""
        return self.columns.xyz[np.searchsorted(self.columns.point_ids, point_ids)]

    def spread(self, num: int) -> list[str]:
        """So many images that see the model from everywhere: each the furthest from those before, in place and view."""
        place = self.columns.centres - np.median(self.columns.centres, axis=0)
        size = max(float(np.median(np.linalg.norm(place, axis=1))), 1e-12)
        view = np.concatenate([place / size, self.columns.rotations[:, 2]], axis=1)
        chosen = [int(np.argmin(np.linalg.norm(view - view.mean(axis=0), axis=1)))]
        distance = np.linalg.norm(view - view[chosen[0]], axis=1)
        while len(chosen) < min(num, len(view)):
            chosen.append(int(np.argmax(distance)))
            distance = np.minimum(distance, np.linalg.norm(view - view[chosen[-1]], axis=1))
        return [self.columns.names[row] for row in chosen]

    def covisible(self, names: Iterable[str]) -> list[str]:
        """The other images, those first that observe most of the points that these do."""
        rows = {self.row_of[name] for name in names}
        seen = np.zeros(len(self.columns.xyz), bool)
        seen[self.columns.point[np.isin(self.columns.image, list(rows))]] = True
        shared = Counter(self.columns.image[seen[self.columns.point]].tolist())
        return [self.columns.names[row] for row, _ in shared.most_common() if row not in rows]

    def references(self, point_ids: Int64, centre: Float64, images: Iterable[str]) -> Int64:
        """Of each point the observation (row of the columns) from the direction and distance most like a centre's.

        images: of which one observes each of the points; others do not count.
        """
        c = self.columns
        wanted = np.searchsorted(c.point_ids, point_ids)
        start, end = np.searchsorted(c.point, wanted), np.searchsorted(c.point, wanted, side="right")
        ray = c.centres[c.image] - c.xyz[c.point]
        depth = np.linalg.norm(ray, axis=1)
        own = centre - c.xyz[c.point]
        own_depth = np.linalg.norm(own, axis=1)
        score = (ray * own).sum(axis=1) / (depth * own_depth) - 0.1 * np.abs(np.log2(depth / own_depth))
        score[~np.isin(c.image, [self.row_of[name] for name in images])] = -np.inf
        return np.array([a + int(np.argmax(score[a:b])) for a, b in zip(start, end, strict=True)], np.int64)
