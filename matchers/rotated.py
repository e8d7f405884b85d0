"""Images rotated in their plane by quarter turns, behind any matcher: rotated for encoding, the matches rotated back.

A learned matcher finds nothing between an image and one that was taken upside down. Rotated by a
right angle, pixels stay pixels, so rotating costs nothing in sharpness. Everything that comes out is
in the pixels and the cells of the image as it is; rotation k is k quarter turns counterclockwise, as
np.rot90 has it. Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfm.matchers.base import Features, GreyImage, Mask, Matcher
from sfm.types import Grid, Int64, Matches


@dataclass(frozen=True, slots=True)
class RotatedFeatures:
    """A matcher's features of an image that was rotated. size: (width, height) of the image as it is, px."""

    features: Features
    rotation: int
    size: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return self.features.nbytes


def rotated_size(size: tuple[int, int], rotation: int) -> tuple[int, int]:
    """(width, height) of an image of this size when it is rotated."""
    return size[::-1] if rotation % 2 else size


def points_rotated_back(points: NDArray[Any], rotation: int, size: tuple[int, int]) -> NDArray[Any]:
    """(M, 2) px of the rotated image → (M, 2) px of the image as it is, of size (width, height)."""
    (x, y), (width, height) = np.asarray(points).T, size
    back = ((x, y), (width - y, x), (width - x, height - y), (y, height - x))[rotation % 4]
    return np.stack(back, axis=1)


def cells_rotated_back(
    cells: Int64, rotation: int, size: tuple[int, int], *, grid: Grid, rotated_grid: Grid, anchor: float
) -> Int64:
    """(M,) cells of the rotated image's grid → those of the image's own grid with the nearest anchor; -1 outside.

    anchor: Matcher.anchor. With the anchor in the middle of the cell the grids coincide; with one
    at the corner, a row or a column at the border has no cell near it. No two cells become one.
    """
    column, row = cells % rotated_grid.columns, cells // rotated_grid.columns
    xy = np.stack([(column + anchor) * rotated_grid.cell_width, (row + anchor) * rotated_grid.cell_height], axis=1)
    back = points_rotated_back(xy, rotation, size) / (grid.cell_width, grid.cell_height)
    nearest = np.rint(back - anchor).astype(np.int64)
    inside = ((nearest >= 0) & (nearest < (grid.columns, grid.num_rows(size[1])))).all(axis=1)
    return np.where(inside, nearest[:, 1] * grid.columns + nearest[:, 0], -1)


class RotatingMatcher:
    """Any matcher that has a grid, with images rotated on the way in and matches rotated back on the way out."""

    def __init__(self, matcher: Matcher) -> None:
        self.matcher = matcher

    def encode(self, views: Sequence[tuple[GreyImage, Mask | None, int]]) -> list[RotatedFeatures]:
        """Features of each (image, mask, rotation), in order."""
        images = [np.ascontiguousarray(np.rot90(image, k)) for image, _, k in views]
        masks = [
            None if mask is None else np.ascontiguousarray(np.rot90(mask, rotation)) for _, mask, rotation in views
        ]
        features = self.matcher.encode(images, masks)
        sizes = [(image.shape[1], image.shape[0]) for image, _, _ in views]
        return [RotatedFeatures(f, k % 4, s) for f, (_, _, k), s in zip(features, views, sizes, strict=True)]

    def match(self, pairs: Sequence[tuple[RotatedFeatures, RotatedFeatures]]) -> list[Matches]:
        """Matches of each pair, in order, in pixels and cells of the images as they are."""
        found = self.matcher.match([(f0.features, f1.features) for f0, f1 in pairs])
        return [self._rotated_back(matches, f0, f1) for matches, (f0, f1) in zip(found, pairs, strict=True)]

    def _rotated_back(self, matches: Matches, f0: RotatedFeatures, f1: RotatedFeatures) -> Matches:
        if f0.rotation == f1.rotation == 0:
            return matches
        points0 = points_rotated_back(matches.points0, f0.rotation, f0.size)
        points1 = points_rotated_back(matches.points1, f1.rotation, f1.size)
        cells0, cells1 = self._cells(matches.cells0, f0), self._cells(matches.cells1, f1)
        keep = (cells0 >= 0) & (cells1 >= 0)
        return Matches(points0[keep], points1[keep], matches.confidence[keep], cells0[keep], cells1[keep])

    def _cells(self, cells: Int64, features: RotatedFeatures) -> Int64:
        if features.rotation == 0:
            return cells
        grid = self.matcher.grid(*features.size)
        rotated_grid = self.matcher.grid(*rotated_size(features.size, features.rotation))
        if grid is None or rotated_grid is None:
            raise ValueError(f"{self.matcher.name}: images can be rotated for matchers with a grid only")
        anchor = self.matcher.anchor
        return cells_rotated_back(
            cells, features.rotation, features.size, grid=grid, rotated_grid=rotated_grid, anchor=anchor
        )
