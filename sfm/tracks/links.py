"""Verified matches of all pairs as columns whose ends are nodes: (image, cell) of a matcher's grid, or a keypoint.

Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfm.options import TrackOptions
from sfm.types import Float64, Grid, Int64, Matches, TwoViewGeometry

ANCHOR_SIGMA = 0.25  # of a cell: rows that start further from a placed position count less
DETECTOR_SIGMA_PX = 1.0  # the same where there is no grid
_ROW = np.int64(1) << 31  # key of quantised (x, y): y * _ROW + x, kept positive by _HALF
_HALF = np.int64(1) << 30


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """Rows of verified matches as columns over all pairs; nodes are (image, cell).

    node0, node1: (R,) i64. points0, points1: (R, 2) f64 px. confidence: (R,) f64. pair_idx: (R,) i64,
    row in `pairs`. node_image: (N,) i64, image of each node. node_sigma: (N,) f64 px.
    """

    node0: Int64
    node1: Int64
    points0: Float64
    points1: Float64
    confidence: Float64
    pair_idx: Int64
    node_image: Int64
    node_sigma: Float64


def collect_links(
    names: Sequence[str],
    pairs: Sequence[tuple[TwoViewGeometry, Matches]],
    grids: Mapping[str, Grid | None],
    options: TrackOptions,
) -> Links:
    """Verified rows of all pairs as columns, their ends numbered as nodes. `names` gives the images' order."""
    index = {name: i for i, name in enumerate(names)}
    ends: tuple[list[Int64], list[Int64]] = ([], [])
    images: tuple[list[Int64], list[Int64]] = ([], [])
    points: tuple[list[Float64], list[Float64]] = ([], [])
    confidence, pair_idx = [], []
    for number, (geometry, matches) in enumerate(pairs):
        rows = geometry.inliers[matches.confidence[geometry.inliers] >= options.min_score]
        sides = (
            (geometry.pair.name0, matches.points0, matches.cells0),
            (geometry.pair.name1, matches.points1, matches.cells1),
        )
        for side, (name, xy, cells) in enumerate(sides):
            ends[side].append(cell_keys(xy[rows], cells[rows], grids.get(name), options.cell_size))
            images[side].append(np.full(len(rows), index[name], np.int64))
            points[side].append(xy[rows].astype(np.float64))
        confidence.append(matches.confidence[rows].astype(np.float64))
        pair_idx.append(np.full(len(rows), number, np.int64))
    nodes, node_image = _number_nodes(_joined(images[0] + images[1]), _joined(ends[0] + ends[1]))
    half = len(nodes) // 2
    sigma = np.array([_sigma_px(grids.get(name), options.cell_size) for name in names] or [1.0])
    return Links(
        nodes[:half],
        nodes[half:],
        _joined(points[0], 2),
        _joined(points[1], 2),
        _joined(confidence).astype(np.float64),
        _joined(pair_idx),
        node_image,
        sigma[node_image],
    )


def cell_keys(points: NDArray[np.floating], cells: Int64, grid: Grid | None, cell_size: float) -> Int64:
    """Keypoint key (M,) i64 of each row's end in one image; equal keys are one keypoint.

    A detector's ids are kept. On a grid, cell_size 1 keeps the matcher's cells, a larger one joins
    neighbouring cells, a smaller one splits a cell by the sub-pixel position, around its centre.
    Without ids (-1) the points are quantised to squares of cell_size px.
    """
    if len(cells) and cells[0] < 0:
        return _quantised(np.asarray(points, np.float64) / cell_size)
    if grid is None or cell_size == 1:
        return cells
    width, height, columns = grid.cell_width, grid.cell_height, grid.columns
    if cell_size > 1:
        return _quantised((np.stack([cells % columns, cells // columns], axis=1) + 0.5) / cell_size)
    return _quantised((np.asarray(points, np.float64) / (width, height) - 0.5) / cell_size + 0.5)


def _quantised(xy: NDArray[Any]) -> Int64:
    cell = np.floor(xy).astype(np.int64) + _HALF
    key: Int64 = cell[:, 1] * _ROW + cell[:, 0]
    return key


def _joined(parts: Sequence[NDArray[Any]], width: int = 0) -> NDArray[Any]:
    if not parts:
        return np.zeros((0, width), np.float64) if width else np.zeros(0, np.int64)
    return np.concatenate(parts)


def _sigma_px(grid: Grid | None, cell_size: float) -> float:
    if grid is None:
        return DETECTOR_SIGMA_PX
    return float(np.sqrt(grid[0] * grid[1])) * ANCHOR_SIGMA * max(cell_size, 0.1)


def _number_nodes(image: Int64, key: Int64) -> tuple[Int64, Int64]:
    """Node number of each (image, key), and the image of each node."""
    order = np.lexsort((key, image))
    image, key = image[order], key[order]
    new = np.ones(len(order), bool)
    new[1:] = (image[1:] != image[:-1]) | (key[1:] != key[:-1])
    nodes = np.empty(len(order), np.int64)
    nodes[order] = np.cumsum(new) - 1
    return nodes, image[new]


def merge_links(links: Links) -> tuple[Int64, Float64, Int64]:
    """Rows of the same two nodes as one edge: edges (E, 2), score (E,) = summed confidence, pair_idx (E,)."""
    key = links.node0 * len(links.node_image) + links.node1
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    edges = np.stack([links.node0[first], links.node1[first]], axis=1)
    score = np.bincount(inverse.ravel(), weights=links.confidence, minlength=len(first)).astype(np.float64)
    return edges, score, links.pair_idx[first]
