"""Photos turned in their plane by quarter turns, behind any matcher: turned for encoding, the matches turned back.

A learned matcher finds nothing between a photo and one that was taken upside down. Turned by a
right angle, pixels stay pixels, so turning costs nothing in sharpness. Everything that comes out is
in the pixels and the cells of the photo as it is; turn t is t quarter turns counterclockwise, as
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
class TurnedFeatures:
    """A matcher's features of a photo that was turned. size: (width, height) of the photo as it is, px."""

    features: Features
    turn: int
    size: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return self.features.nbytes


def turned_size(size: tuple[int, int], turn: int) -> tuple[int, int]:
    """(width, height) of a photo of this size when it is turned."""
    return size[::-1] if turn % 2 else size


def points_turned_back(points: NDArray[Any], turn: int, size: tuple[int, int]) -> NDArray[Any]:
    """(M, 2) px of the turned photo → (M, 2) px of the photo as it is, of size (width, height)."""
    (x, y), (width, height) = np.asarray(points).T, size
    back = ((x, y), (width - y, x), (width - x, height - y), (y, height - x))[turn % 4]
    return np.stack(back, axis=1)


def cells_turned_back(
    cells: Int64, turn: int, size: tuple[int, int], *, grid: Grid, turned_grid: Grid, anchor: float
) -> Int64:
    """(M,) cells of the turned photo's grid → those of the photo's own grid with the nearest anchor; -1 outside.

    anchor: Matcher.anchor. With the anchor in the middle of the cell the grids coincide; with one
    at the corner, a row or a column at the border has no cell near it. No two cells become one.
    """
    column, row = cells % turned_grid.columns, cells // turned_grid.columns
    xy = np.stack([(column + anchor) * turned_grid.cell_width, (row + anchor) * turned_grid.cell_height], axis=1)
    back = points_turned_back(xy, turn, size) / (grid.cell_width, grid.cell_height)
    nearest = np.rint(back - anchor).astype(np.int64)
    inside = ((nearest >= 0) & (nearest < (grid.columns, round(size[1] / grid.cell_height)))).all(axis=1)
    return np.where(inside, nearest[:, 1] * grid.columns + nearest[:, 0], -1)


class TurningMatcher:
    """Any matcher that has a grid, with photos turned on the way in and matches turned back on the way out."""

    def __init__(self, matcher: Matcher) -> None:
        self.matcher = matcher

    def encode(self, photos: Sequence[tuple[GreyImage, Mask | None, int]]) -> list[TurnedFeatures]:
        """Features of each (image, mask, turn), in order."""
        images = [np.ascontiguousarray(np.rot90(image, turn)) for image, _, turn in photos]
        masks = [None if mask is None else np.ascontiguousarray(np.rot90(mask, turn)) for _, mask, turn in photos]
        features = self.matcher.encode(images, masks)
        sizes = [(image.shape[1], image.shape[0]) for image, _, _ in photos]
        return [TurnedFeatures(f, t % 4, s) for f, (_, _, t), s in zip(features, photos, sizes, strict=True)]

    def match(self, pairs: Sequence[tuple[TurnedFeatures, TurnedFeatures]]) -> list[Matches]:
        """Matches of each pair, in order, in pixels and cells of the photos as they are."""
        found = self.matcher.match([(f0.features, f1.features) for f0, f1 in pairs])
        return [self._turned_back(matches, f0, f1) for matches, (f0, f1) in zip(found, pairs, strict=True)]

    def _turned_back(self, matches: Matches, f0: TurnedFeatures, f1: TurnedFeatures) -> Matches:
        if f0.turn == f1.turn == 0:
            return matches
        points0 = points_turned_back(matches.points0, f0.turn, f0.size)
        points1 = points_turned_back(matches.points1, f1.turn, f1.size)
        cells0, cells1 = self._cells(matches.cells0, f0), self._cells(matches.cells1, f1)
        keep = (cells0 >= 0) & (cells1 >= 0)
        return Matches(points0[keep], points1[keep], matches.confidence[keep], cells0[keep], cells1[keep])

    def _cells(self, cells: Int64, features: TurnedFeatures) -> Int64:
        if features.turn == 0:
            return cells
        grid = self.matcher.grid(*features.size)
        turned_grid = self.matcher.grid(*turned_size(features.size, features.turn))
        if grid is None or turned_grid is None:
            raise ValueError(f"{self.matcher.name}: photos can be turned for matchers with a grid only")
        anchor = self.matcher.anchor
        return cells_turned_back(cells, features.turn, features.size, grid=grid, turned_grid=turned_grid, anchor=anchor)
