"""What one image of a pair should see by the model, and what the other sees there instead.

Where two places that look alike were taken for one, the model has both in one spot, and the cameras of each look
through what stands about the other. So of the points that one image has and the pair does not match, those count that
lie in the other's view and clearly nearer than what it sees there: had they been there, it could not have seen past
them. A right model has next to none of these, however wide the baseline: what is hidden lies behind, not in front, and
what was merely not matched lies at the same depth. From nearly the same side, where a matcher recognises what it
recognises at all, this counts as well. After Heinly, Dunn and Frahm, Correcting for Duplicate Scene
Structure in Sparse 3D Reconstruction, ECCV 2014, who ask which points are missing; a matcher with a grid knows besides
which part of both images a pair matches, and points are counted by blocks of it. Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pycolmap
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from sfm.colmap.model_arrays import ModelColumns
from sfm.mapping.inputs import MappingInput
from sfm.types import Float64, Grid, ImagePair, Int64

BLOCK_CELLS = 2  # side of a block, cells of the matcher's grid
BLOCKS_ACROSS = 40  # of images without a grid
MIN_ANGLE_DEG = 4.0  # of triangulation: depths of points of less are too uncertain
NEARER = 0.15  # share of the depth: clearly before the nearest of what is seen around there
TURN_DEG, SCALE = 30.0, 1.5  # between how two images see a point; what is further apart is not compared
SAME_DEG, SAME_SCALE = 10.0, 1.25  # from where a matcher recognises nearly all that it recognises at all


class Sightlines(NamedTuple):
    """Of a pair in a model, blocks of both images together.

    matched: that the pair matches. compared: those of them with points that both see from sides that can be compared.
    through: with such points that the other image looks through. shared, unmatched: with points that both see from
    nearly the same side, and that the pair matches, or not though the other image sees something at them or behind.
    """

    matched: int
    compared: int
    through: int
    shared: int
    unmatched: int


class Blocks(NamedTuple):
    """Blocks of an image: (width, height) px of one, how many (columns, rows)."""

    size: tuple[float, float]
    columns: int
    rows: int

    @classmethod
    def of(cls, grid: Grid | None, width: int, height: int) -> Blocks:
        """Of an image with this matcher's grid."""
        side = max(width, height) / BLOCKS_ACROSS
        size = (BLOCK_CELLS * grid.cell_width, BLOCK_CELLS * grid.cell_height) if grid else (side, side)
        return cls(size, int(np.ceil(width / size[0])), int(np.ceil(height / size[1])))

    def numbers(self, xy: NDArray[np.floating]) -> Int64:
        """(M,) the block of each point (M, 2)."""
        column, row = np.clip((xy / self.size).astype(np.int64), 0, (self.columns - 1, self.rows - 1)).T
        return np.asarray(row * self.columns + column)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        return self.rows, self.columns


ReadPoints = Callable[[ImagePair], tuple[NDArray[np.floating], NDArray[np.floating]]]


def _bits(blocks: Blocks, numbers: Int64) -> NDArray[np.uint8]:
    """A bit for each block: whether it is among the numbers."""
    among = np.zeros(blocks.columns * blocks.rows, bool)
    among[numbers] = True
    return np.packbits(among)


@dataclass(frozen=True, slots=True, eq=False)
class MatchedBlocks:
    """Which blocks of its two images each pair matches. blocks: of each image.

    packed: of each pair two rows of bits.
    """

    blocks: Mapping[str, Blocks]
    packed: Mapping[ImagePair, tuple[NDArray[np.uint8], NDArray[np.uint8]]]

    @classmethod
    def of(cls, data: MappingInput) -> MatchedBlocks:
        """Of all pairs that mapping reads."""
        blocks = {r.name: Blocks.of(data.grids.get(r.name), r.width, r.height) for r in data.images}
        numbers = {
            record.name: blocks[record.name].numbers(own.xy)
            for record, own in zip(data.images, data.keypoints, strict=True)
        }
        packed = {}
        for own in data.matches:
            names = own.pair.name0, own.pair.name1
            sides = [_bits(blocks[n], numbers[n][rows]) for n, rows in zip(names, own.indices.T, strict=True)]
            packed[own.pair] = sides[0], sides[1]
        return cls(blocks, packed)

    def exact(self, read_points: ReadPoints, pairs: Iterable[ImagePair]) -> MatchedBlocks:
        """The same with some pairs by all their verified matches, which are read one pair after the other."""
        packed = dict(self.packed)
        for pair in pairs:
            names, points = (pair.name0, pair.name1), read_points(pair)
            rows = [
                _bits(self.blocks[name], self.blocks[name].numbers(xy)) for name, xy in zip(names, points, strict=True)
            ]
            packed[pair] = rows[0], rows[1]
        return MatchedBlocks(self.blocks, packed)

    def of_pair(self, pair: ImagePair) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """The blocks (rows, columns) of both images that a pair matches."""
        sides = []
        for name, bits in zip((pair.name0, pair.name1), self.packed[pair], strict=True):
            own = self.blocks[name]
            sides.append(np.unpackbits(bits, count=own.columns * own.rows).astype(bool).reshape(own.shape))
        return sides[0], sides[1]


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """One image of a model: its points (M, 3), the block of each, and the nearest and the farthest depth that is seen
    in each block and those around it (inf and -inf where nothing is)."""

    row: int
    blocks: Blocks
    size: tuple[int, int]
    xyz: Float64
    block: Int64
    nearest: Float64
    farthest: Float64


def sightlines(
    model: pycolmap.Reconstruction, matched: MatchedBlocks, pairs: Iterable[ImagePair]
) -> dict[ImagePair, Sightlines]:
    """Of those of the pairs whose images are both in the model."""
    columns = ModelColumns.of(model)
    exact = columns.triangulation_angles() >= MIN_ANGLE_DEG
    views: dict[str, _View] = {}
    for row, name in enumerate(columns.names):
        own = columns.rows_of_images[row]
        views[name] = _view(columns, row, own[exact[columns.point[own]]], matched.blocks[name])
    found = {}
    for pair in pairs:
        if pair.name0 in views and pair.name1 in views:
            found[pair] = _of_pair(columns, views[pair.name0], views[pair.name1], matched.of_pair(pair))
    return found


def _view(columns: ModelColumns, row: int, observations: Int64, blocks: Blocks) -> _View:
    camera = columns.cameras[row]
    xyz = columns.xyz[columns.point[observations]]
    depth = _local(columns, row, xyz)[:, 2]
    block = blocks.numbers(columns.xy[observations])
    nearest, farthest = np.full(blocks.shape, np.inf), np.full(blocks.shape, -np.inf)
    np.minimum.at(nearest.ravel(), block, depth)
    np.maximum.at(farthest.ravel(), block, depth)
    around = minimum_filter(nearest, 3, mode="nearest"), maximum_filter(farthest, 3, mode="nearest")
    return _View(row, blocks, (camera.width, camera.height), xyz, block, around[0].ravel(), around[1].ravel())


def _of_pair(
    columns: ModelColumns, view0: _View, view1: _View, matched: tuple[NDArray[np.bool_], NDArray[np.bool_]]
) -> Sightlines:
    sides0, sides1 = (
        (view, own.ravel(), maximum_filter(own, 3, mode="constant").ravel())
        for view, own in zip((view0, view1), matched, strict=True)
    )
    each = zip(_compared(columns, *sides0, *sides1), _compared(columns, *sides1, *sides0), strict=True)
    return Sightlines(int(matched[0].sum() + matched[1].sum()), *(a + b for a, b in each))


def _compared(
    columns: ModelColumns,
    own: _View,
    matched: NDArray[np.bool_],
    near: NDArray[np.bool_],
    other: _View,
    _: NDArray[np.bool_],
    near_other: NDArray[np.bool_],
) -> tuple[int, int, int, int]:
    """Of one image compared, through, shared and unmatched (Sightlines). matched, near: blocks that the pair matches;
    and those around them."""
    local = _local(columns, other.row, own.xyz)
    rays0, rays1 = own.xyz - columns.centres[own.row], own.xyz - columns.centres[other.row]
    far0, far1 = np.linalg.norm(rays0, axis=1), np.linalg.norm(rays1, axis=1)
    cosine, scale = np.einsum("ni,ni->n", rays0, rays1) / (far0 * far1), np.maximum(far0 / far1, far1 / far0)
    alike = (local[:, 2] > 0) & (cosine >= np.cos(np.radians(TURN_DEG))) & (scale <= SCALE)
    rows = np.flatnonzero(alike & (matched | ~near)[own.block])
    if not len(rows):
        return 0, 0, 0, 0
    xy = np.asarray(columns.cameras[other.row].img_from_cam(local[rows]))
    inside = (xy >= 0).all(axis=1) & (xy < other.size).all(axis=1)
    rows, block = rows[inside], other.blocks.numbers(xy[inside])
    depth, is_shared = local[rows, 2], matched[own.block[rows]]
    same = (cosine[rows] >= np.cos(np.radians(SAME_DEG))) & (scale[rows] <= SAME_SCALE)
    sees_else = ~is_shared & ~near_other[block] & np.isfinite(other.nearest[block])
    through = sees_else & (depth < (1 - NEARER) * other.nearest[block])
    unmatched = sees_else & same & (depth <= (1 + NEARER) * other.farthest[block])
    compared_num, through_num, shared_num, unmatched_num = (
        len(np.unique(own.block[rows[of]])) for of in (is_shared, through, is_shared & same, unmatched)
    )
    return compared_num, through_num, shared_num, unmatched_num


def _local(columns: ModelColumns, row: int, xyz: Float64) -> Float64:
    return np.asarray(xyz @ columns.rotations[row].T + columns.translations[row])
