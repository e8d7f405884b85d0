"""Verified matches between nodes: (image, cell) of a matcher's grid, or a keypoint.

Of matchers side by side each has nodes of its own: a cell is a region, within which pairs place the point they match
where they like, and a keypoint is a point. A track is of one matcher; what two of them say of a place are two
measurements, which bundle adjustment weighs by how exact each is.

Of many pairs there are tens of millions of matches. So pairs are read one by one, twice: for the edges between nodes,
of which tracks are made, and then for the rows within tracks, which say where the tracks are. Pixels are COLMAP's
(sfm.types).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfm.finders import MOST
from sfm.options import TrackOptions
from sfm.tracks.thinning import best_in_bins
from sfm.types import Float32, Float64, Grid, ImagePair, Int64, Matches, TwoViewGeometry, UInt8

ANCHOR_SIGMA = 0.25  # of a cell: rows that start further from a placed position count less
DETECTOR_SIGMA_PX = 1.0  # the same where there is no grid
_ROW = np.int64(1) << 31  # key of quantised (x, y): y * _ROW + x, kept positive by _HALF
_HALF = np.int64(1) << 30
_FINDER_BITS = 58  # where the number of a node's matcher is in its key
Int32 = NDArray[np.int32]
Pairs = Sequence[tuple[TwoViewGeometry, Matches]]


@dataclass(frozen=True, slots=True, eq=False)
class Nodes:
    """Nodes in the order of (image, key).

    keys: of each image, ascending. xy: (N, 2) f32 px, somewhere in the cell. sigma: (F, I) of each matcher in each
    image, px.
    """

    keys: tuple[Int64, ...]
    xy: Float32
    sigma: Float64

    @property
    def offsets(self) -> Int64:
        """(I + 1,) first node of each image."""
        return np.concatenate([[0], np.cumsum([len(own) for own in self.keys])]).astype(np.int64)

    @property
    def image(self) -> Int32:
        """(N,) image of each node."""
        return np.repeat(np.arange(len(self.keys), dtype=np.int32), [len(own) for own in self.keys])

    @property
    def finder(self) -> UInt8:
        """(N,) number of the matcher that found each node."""
        return np.concatenate([np.zeros(0, np.uint8), *map(finder_of, self.keys)])

    @property
    def sigma_px(self) -> Float64:
        """(N,) of each node, px."""
        return np.asarray(self.sigma[self.finder, self.image])


@dataclass(frozen=True, slots=True, eq=False)
class Edges:
    """Matches of two nodes, sorted by both. ends: (E, 2) i32. score: (E,) f64, summed confidence of the rows.
    pair_idx: (E,) i32, row in the pairs."""

    ends: Int32
    score: Float64
    pair_idx: Int32


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """Rows of verified matches as columns over all pairs.

    node0, node1: (R,) i32. points0, points1: (R, 2) f32 px. confidence: (R,) f32.
    """

    node0: Int32
    node1: Int32
    points0: Float32
    points1: Float32
    confidence: Float32


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Verified rows of one pair: of each side the image, keys (M,) and points (M, 2); confidence (M,)."""

    images: tuple[int, int]
    keys: tuple[Int64, Int64]
    points: tuple[Float32, Float32]
    confidence: Float32


class LinkReader:
    """Reads pairs one by one, as rows between nodes. `names` gives the images' order. read: the pairs that were."""

    def __init__(
        self, names: Sequence[str], pairs: Pairs, grids: Sequence[Mapping[str, Grid | None]], options: TrackOptions
    ) -> None:
        """grids: of each matcher."""
        self._names, self._pairs, self._grids, self._options = names, pairs, grids, options
        self._index = {name: i for i, name in enumerate(names)}
        self.read: dict[int, ImagePair] = {}

    def _rows(self, number: int) -> _Rows:
        geometry, matches = self._pairs[number]
        self.read[number] = geometry.pair
        rows = geometry.inliers[matches.confidence[geometry.inliers] >= self._options.min_score]
        names = geometry.pair.name0, geometry.pair.name1
        points, finder = (matches.points0[rows], matches.points1[rows]), matches.finder[rows]
        cells = matches.cells0[rows], matches.cells1[rows]
        keys0, keys1 = (self._keys(*side, finder) for side in zip(names, points, cells, strict=True))
        images = self._index[names[0]], self._index[names[1]]
        return _Rows(images, (keys0, keys1), points, matches.confidence[rows])

    def _keys(self, name: str, points: Float32, cells: Int64, finder: UInt8) -> Int64:
        """(M,) keys of rows' ends in an image; those of different matchers differ."""
        keys = np.zeros(len(cells), np.int64)
        for number, grids in enumerate(self._grids):
            own = finder == number
            keys[own] = cell_keys(points[own], cells[own], grids.get(name), self._options.cell_size)
        return keys + (finder.astype(np.int64) << _FINDER_BITS)

    def edges(self, max_edges: int | None = None) -> tuple[Nodes, Edges]:
        """All nodes, and the edges between them. Rows of the same two nodes are one edge.

        max_edges: where there are more, those between the best nodes, evenly spread in each image (best_in_bins).
        """
        tables = [_Numbering() for _ in self._names]
        ends, score = [], []
        for number in range(len(self._pairs)):
            rows = self._rows(number)
            sides = zip(rows.images, rows.keys, rows.points, strict=True)
            node0, node1 = (tables[i].number(keys, points) for i, keys, points in sides)
            both, inverse = np.unique((node0.astype(np.int64) << 32) | node1, return_inverse=True)
            ends.append((rows.images, (both >> 32).astype(np.int32), both.astype(np.int32)))
            total = np.bincount(inverse.reshape(-1), weights=rows.confidence, minlength=len(both))
            score.append(total.astype(np.float64))
        if max_edges is not None and sum(len(own) for own in score) > max_edges:
            _keep_best(tables, ends, score, max_edges)
        xy = np.concatenate([np.zeros((0, 2), np.float32), *(table.xy for table in tables)])
        nodes = Nodes(tuple(table.keys for table in tables), xy, self._sigma())
        return nodes, _joined_edges(tables, nodes.offsets, ends, score)

    def _sigma(self) -> Float64:
        size = self._options.cell_size
        each = [_sigma_px(grids.get(name), size) for grids in self._grids for name in self._names]
        return np.array(each, np.float64).reshape(len(self._grids), len(self._names))

    def links(self, nodes: Nodes, label: Int64) -> Links:
        """The rows within tracks. label: (N,) track of each node; -1 is none."""
        offsets, parts = nodes.offsets, list[tuple[NDArray[Any], ...]]()
        for number in range(len(self._pairs)):
            rows = self._rows(number)
            sides = zip(rows.images, rows.keys, strict=True)
            (node0, known0), (node1, known1) = (_among(nodes.keys[i], keys, offsets[i]) for i, keys in sides)
            own = np.flatnonzero(known0 & known1)
            own = own[(label[node0[own]] == label[node1[own]]) & (label[node0[own]] >= 0)]
            columns = node0.astype(np.int32), node1.astype(np.int32), *rows.points, rows.confidence
            parts.append(tuple(column[own] for column in columns))
        none = np.zeros(0, np.int32), np.zeros(0, np.int32), *(np.zeros((0, 2), np.float32),) * 2, np.zeros(0, "f4")
        return Links(*(np.concatenate(column) for column in zip(none, *parts, strict=True)))


def _among(known: Int64, keys: Int64, offset: int) -> tuple[Int64, NDArray[np.bool_]]:
    """Node (M,) of each key, counted from offset, and whether it is one of the known ones (N,), which are sorted."""
    at = np.searchsorted(known, keys)
    return offset + at, known[np.minimum(at, len(known) - 1)] == keys if len(known) else np.zeros(len(keys), bool)


class _Numbering:
    """Numbers of the keys of one image, in the order in which they come. keys: ascending. xy: of each, px."""

    def __init__(self) -> None:
        self.keys = np.zeros(0, np.int64)
        self.xy = np.zeros((0, 2), np.float32)
        self._numbers = np.zeros(0, np.int32)

    def number(self, keys: Int64, points: Float32) -> Int32:
        """Numbers (M,) of keys (M,) at points (M, 2)."""
        own, first = np.unique(keys, return_index=True)
        new = ~np.isin(own, self.keys, assume_unique=True)
        if new.any():
            at = np.searchsorted(self.keys, own[new])
            numbers = np.arange(len(self.keys), len(self.keys) + int(new.sum()), dtype=np.int32)
            self.keys, self._numbers = np.insert(self.keys, at, own[new]), np.insert(self._numbers, at, numbers)
            self.xy = np.insert(self.xy, at, points[first[new]], axis=0)
        return self._numbers[np.searchsorted(self.keys, keys)]

    @property
    def by_number(self) -> Float32:
        """Points (N, 2) in the order of the numbers."""
        xy = np.empty_like(self.xy)
        xy[self._numbers] = self.xy
        return xy

    def keep(self, chosen: NDArray[np.bool_]) -> None:
        """Leaves out keys but those whose numbers (N,) are chosen; the others keep their numbers."""
        rows = chosen[self._numbers]
        self.keys, self.xy, self._numbers = self.keys[rows], self.xy[rows], self._numbers[rows]

    @property
    def ranks(self) -> Int32:
        """Place of each number among the keys."""
        ranks = np.full(int(self._numbers.max(initial=-1)) + 1, -1, np.int32)
        ranks[self._numbers] = np.arange(len(self._numbers), dtype=np.int32)
        return ranks


def _keep_best(
    tables: Sequence[_Numbering],
    ends: list[tuple[tuple[int, int], Int32, Int32]],
    score: list[Float64],
    max_edges: int,
) -> None:
    """Leaves out nodes, and their edges, in place, so that at most max_edges are left."""
    sizes = [len(table.keys) for table in tables]
    degree, strength = ([np.zeros(size) for size in sizes] for _ in range(2))
    for ((image0, image1), node0, node1), own in zip(ends, score, strict=True):
        for i, node in ((image0, node0), (image1, node1)):
            degree[i] += np.bincount(node, minlength=sizes[i])
            strength[i] += np.bincount(node, own, sizes[i])
    image, xy = np.repeat(np.arange(len(sizes)), sizes), np.concatenate([table.by_number for table in tables])
    all_degree = np.concatenate(degree).astype(np.int64)
    best = best_in_bins(all_degree, image, xy, np.concatenate(strength), 2 * max_edges)
    kept = np.split(best, np.cumsum(sizes)[:-1])
    for number, ((image0, image1), node0, node1) in enumerate(ends):
        stays = kept[image0][node0] & kept[image1][node1]
        ends[number], score[number] = ((image0, image1), node0[stays], node1[stays]), score[number][stays]
    for table, chosen in zip(tables, kept, strict=True):
        table.keep(chosen)


def _joined_edges(
    tables: Sequence[_Numbering],
    offsets: Int64,
    ends: list[tuple[tuple[int, int], Int32, Int32]],
    score: list[Float64],
) -> Edges:
    """One table of the edges of all pairs, sorted by their nodes; the lists are emptied on the way."""
    ranks = [table.ranks for table in tables]
    total, counts = sum(len(own) for own in score), [len(own) for own in score]
    both, begin = np.empty((total, 2), np.int32), 0
    for (image0, image1), node0, node1 in ends:
        own = both[begin : begin + len(node0)]
        own[:, 0], own[:, 1] = offsets[image0] + ranks[image0][node0], offsets[image1] + ranks[image1][node1]
        begin += len(node0)
    ends.clear()
    all_score = np.concatenate([np.zeros(0), *score])
    score.clear()
    order = np.lexsort((both[:, 1], both[:, 0]))
    pair_idx = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return Edges(both[order], all_score[order], pair_idx[order])


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


def finder_of(keys: Int64) -> UInt8:
    """(N,) number of the matcher of each key: cells count from 0 on, quantised points around 2^61, which is beyond."""
    half = np.int64(1) << (_FINDER_BITS - 1)
    return (((keys + half) >> _FINDER_BITS) % MOST).astype(np.uint8)


def _quantised(xy: NDArray[Any]) -> Int64:
    cell = np.floor(xy).astype(np.int64) + _HALF
    key: Int64 = cell[:, 1] * _ROW + cell[:, 0]
    return key


def _sigma_px(grid: Grid | None, cell_size: float) -> float:
    if grid is None:
        return DETECTOR_SIGMA_PX
    return float(np.sqrt(grid[0] * grid[1])) * ANCHOR_SIGMA * max(cell_size, 0.1)
