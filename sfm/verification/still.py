"""Parts of images that stand still while the rest moves: two rigid motions in one set of images.

An object on a turntable before a room, a bonnet, a drone's legs, a watermark, dust on the sensor: something is seen at
the same place in image after image, up to the shake of a hand, and something else moves. A pair's geometry can follow
one of them only, and what stands still tells nothing of where the cameras were. So it is found over the set and left
out.

A pair speaks of two motions where enough of its matches follow a small shift of the image, others do not, these agree
on an epipolar geometry, and no epipole explains how they move against the still ones: in a rigid scene all parallax
against a plane points to one (Irani and Anandan, A unified approach to moving object detection in 2D and 3D scenes,
PAMI 1998). So nothing is left out of images taken from one place (nothing moves), of nearly equal frames, of a camera
that only turns, or of a distant background. A cell of an image is still where pairs of two motions have said so, and
far fewer pairs have seen it move.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pycolmap
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from sfm.geometry.epipolar import epipolar_distance
from sfm.geometry.evidence import Blocks, is_meaningful
from sfm.geometry.pixels import homogeneous
from sfm.types import Float64, Grid, ImagePair, ImageRecord, Int64, Matches

STILL, MOVED = 1.5, 3.0  # times the allowed error, off the shift of the still part
MAX_SHIFT, SAMPLED_APART = 0.15, 0.05  # of the image's diagonal
MAX_TURN, MAX_SCALE = np.radians(10.0), 1.1  # in the image; more is a camera that moved
MIN_BLOCKS = 10  # of the images, of each motion
RIGID = 0.6  # share of the moving matches that one epipole explains, above which the scene is rigid
MIN_PAIRS = 2  # of two motions, that say of a cell that it is still
OUTVOTED = 2.0  # and how many times as many as have seen it move
FEW_IMAGES = 3  # with a still part; fewer are chance
SEEN = 0.005  # share of an image that is worth a note
SURE = 0.5  # confidence of a match that counts against the still
TRIALS, TRIALS_2D = 1000, 200
ROWS = 500  # most confident ones that a geometry is sampled from

Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Motions:
    """Rows of a pair's matches by their motion. still: follow a small shift of the image. moving: inliers of the
    geometry of those that clearly do not. two: no rigid scene shows both. Each of the first (M,) bool."""

    still: Bool
    moving: Bool
    two: bool


def motions(matches: Matches, blocks: Blocks, max_error: float, diagonal: float, *, seed: int = 0) -> Motions:
    """What stands still and what moves in a pair of images of one size. max_error, diagonal: px."""
    nothing = np.zeros(len(matches), bool)
    shift = small_shift(matches, max_error, diagonal, seed=seed)
    if shift is None:
        return Motions(nothing, nothing, False)
    off = np.linalg.norm(matches.points1 - shift, axis=1)
    still, moved = off <= STILL * max_error, off > MOVED * max_error
    numbers = blocks.numbers(matches)
    if min(len(np.unique(numbers[rows])) for rows in (still, moved)) < MIN_BLOCKS:
        return Motions(still, nothing, False)
    F = _geometry(matches, np.flatnonzero(moved), max_error, seed)
    if F is None:
        return Motions(still, nothing, False)
    moving = moved & (epipolar_distance(matches.points0, matches.points1, F) <= max_error)
    fits = epipolar_distance(matches.points0[still], matches.points1[still], F) <= max_error
    rigid = max(float(fits.mean()), _one_epipole(shift[moving], matches.points1[moving], max_error, seed))
    return Motions(still, moving, rigid <= RIGID)


def small_shift(matches: Matches, max_error: float, diagonal: float, *, seed: int = 0) -> Float64 | None:
    """(M, 2) px where the points of image 0 are in image 1 if the camera all but stood still; None if it did not.

    The shift, turn and scale of the image, all small, that most matches follow.
    """
    z0, z1 = _complex(matches.points0), _complex(matches.points1)
    best = np.argsort(-matches.confidence, kind="stable")[:ROWS]
    if len(best) < 2:
        return None
    first, second = np.random.default_rng(seed).choice(best, (2, TRIALS_2D))
    apart = np.abs(z0[first] - z0[second]) > SAMPLED_APART * diagonal
    first, second = first[apart], second[apart]
    turn = (z1[first] - z1[second]) / (z0[first] - z0[second])
    offset = z1[first] - turn * z0[first]
    middle = z0[best].mean()
    small = (np.abs(np.log(np.maximum(np.abs(turn), 1e-9))) <= np.log(MAX_SCALE)) & (np.abs(np.angle(turn)) <= MAX_TURN)
    small &= np.abs(turn * middle + offset - middle) <= MAX_SHIFT * diagonal
    if not small.any():
        return None
    turn, offset = turn[small], offset[small]
    off = np.abs(turn[:, None] * z0[best] + offset[:, None] - z1[best])
    chosen = int((off <= max_error).sum(axis=1).argmax())
    moved = turn[chosen] * z0 + offset[chosen]
    for _ in range(3):
        near = np.abs(moved - z1) <= STILL * max_error
        if np.count_nonzero(near) < MIN_BLOCKS:
            return None
        moved = _least_squares(z0[near], z1[near], z0)
    return np.column_stack([moved.real, moved.imag])


def _complex(points: NDArray[np.floating]) -> NDArray[np.complex128]:
    return points[:, 0].astype(np.float64) + 1j * points[:, 1].astype(np.float64)


def _least_squares(
    z0: NDArray[np.complex128], z1: NDArray[np.complex128], z: NDArray[np.complex128]
) -> NDArray[np.complex128]:
    """Points z moved by the turn, scale and offset that best takes z0 to z1."""
    centre0, centre1 = z0.mean(), z1.mean()
    turn = np.vdot(z0 - centre0, z1 - centre1) / max(np.vdot(z0 - centre0, z0 - centre0).real, 1e-9)
    return np.asarray(turn * (z - centre0) + centre1)


def _one_epipole(still: Float64, points1: NDArray[np.floating], max_error: float, seed: int) -> float:
    """Largest share of matches whose way from where they would be if they stood still points to one epipole."""
    x, y = homogeneous(still), homogeneous(points1)
    ways = np.cross(x, y)
    first, second = np.random.default_rng(seed).choice(len(x), (2, TRIALS_2D))
    epipoles = np.cross(ways[first], ways[second])  # (T, 3)
    lines = np.cross(epipoles[:, None], x)  # (T, M, 3)
    length = np.linalg.norm(lines[..., :2], axis=-1)
    distance = np.abs(np.einsum("tmi,mi->tm", lines, y)) / np.maximum(length, 1e-12)
    good = (distance <= 2 * max_error) & (length > 0)
    return float(good.mean(axis=1).max())


def _geometry(matches: Matches, rows: Int64, max_error: float, seed: int) -> Float64 | None:
    """The fundamental matrix of some rows; None where it fits no more of them than chance."""
    some = matches.rows(rows)
    best = np.argsort(-some.confidence, kind="stable")[:ROWS]
    options = pycolmap.RANSACOptions(
        max_error=max_error, random_seed=seed, max_num_trials=TRIALS, min_inlier_ratio=0.25
    )
    points0, points1 = some.points0.astype(np.float64), some.points1.astype(np.float64)
    found = pycolmap.estimate_fundamental_matrix(points0[best], points1[best], options)
    if found is None:
        return None
    F: Float64 = found["F"]
    inliers = np.flatnonzero(epipolar_distance(points0, points1, F) <= max_error)
    return F if is_meaningful(some, inliers, F, max_error) else None


def _cells(points: NDArray[np.floating], cells: Int64, grid: Grid | None) -> Int64:
    """(M,) cell of the grid that each point (M, 2) is in; the cells as they are where there is no grid."""
    if grid is None:
        return cells
    column = np.clip(points[:, 0] // grid.cell_width, 0, grid.columns - 1)
    return np.asarray(points[:, 1] // grid.cell_height * grid.columns + column, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class StillParts:
    """What stands still. cells: by image, one bool a cell of its grid. pairs: those of two motions. grids: by image."""

    cells: Mapping[str, Bool] = field(default_factory=dict)
    pairs: frozenset[ImagePair] = frozenset()
    grids: Mapping[str, Grid] = field(default_factory=dict)

    def moving_rows(
        self, pair: ImagePair, matches: Matches, max_error: float, diagonal: float, *, seed: int = 0
    ) -> Int64:
        """Rows of a pair's matches that are no part of what stands still. max_error, diagonal: px."""
        keep = np.ones(len(matches), bool)
        for name, cells in ((pair.name0, matches.cells0), (pair.name1, matches.cells1)):
            if name in self.cells:
                keep &= ~self.cells[name][np.minimum(cells, len(self.cells[name]) - 1)]
        if pair in self.pairs and self.cells:
            shift = small_shift(matches, max_error, diagonal, seed=seed)
            if shift is not None:
                keep &= np.linalg.norm(matches.points1 - shift, axis=1) > MOVED * max_error
        return np.flatnonzero(keep)

    def shown_on(self, pair: ImagePair, matches: Matches, grids: tuple[Grid | None, Grid | None]) -> Matches:
        """Matches in terms of the cells that stand still: as they are, or those of another matcher's grids by place."""
        own0, own1 = (self.grids.get(name) for name in (pair.name0, pair.name1))
        if not self.cells or (own0, own1) == grids:
            return matches
        cells0, cells1 = _cells(matches.points0, matches.cells0, own0), _cells(matches.points1, matches.cells1, own1)
        return replace(matches, cells0=cells0, cells1=cells1)

    def note(self, num_images: int) -> str | None:
        """One line for the user; None where nothing is left out."""
        if not self.cells:
            return None
        area = float(np.mean([cells.mean() for cells in self.cells.values()]))
        return (
            f"a part of the images stands still while the rest moves ({area:.0%} of the area, in {len(self.cells)} of "
            f"{num_images} images; a still background, or something fixed to the camera): left out; give --masks to "
            "choose yourself"
        )


class StillVotes:
    """Collects, pair by pair, what stands still and what moves in each cell of each image."""

    def __init__(self, records: Mapping[str, ImageRecord], grids: Mapping[str, Grid | None]) -> None:
        self._grids = {name: grid for name, grid in grids.items() if grid is not None}
        self._sizes = {name: (record.width, record.height) for name, record in records.items()}
        self._still = self._zeros()
        self._moving = self._zeros()
        self._two: set[ImagePair] = set()

    def _zeros(self) -> dict[str, Int64]:
        return {
            name: np.zeros((grid.num_rows(self._sizes[name][1]), grid.columns), np.int64)
            for name, grid in self._grids.items()
        }

    @property
    def num_two(self) -> int:
        """Pairs of two motions so far."""
        return len(self._two)

    def comparable(self, pair: ImagePair) -> bool:
        """Whether a pixel of one image is the same pixel of the other: equal sizes and grids."""
        grid0, grid1 = self._grids.get(pair.name0), self._grids.get(pair.name1)
        return grid0 is not None and grid0 == grid1 and self._sizes[pair.name0] == self._sizes[pair.name1]

    def add(self, pair: ImagePair, matches: Matches, max_error: float, *, seed: int = 0) -> None:
        """Takes a pair into account."""
        if not self.comparable(pair) or len(matches) == 0 or min(matches.cells0.min(), matches.cells1.min()) < 0:
            return
        grid = self._grids[pair.name0]
        diagonal = float(np.hypot(*self._sizes[pair.name0]))
        found = motions(matches, Blocks.of(grid, grid), max_error, diagonal, seed=seed)
        for name, cells in ((pair.name0, matches.cells0), (pair.name1, matches.cells1)):
            if found.two:
                self._count(self._still[name], cells[found.still])
                self._count(self._moving[name], cells[found.moving])
            else:
                self._count(self._moving[name], cells[~found.still & (matches.confidence >= SURE)])
        if found.two:
            self._two.add(pair)

    @staticmethod
    def _count(votes: Int64, cells: Int64) -> None:
        """One vote more for cells and their neighbours."""
        seen = np.zeros(votes.shape, bool)
        seen.reshape(-1)[cells[cells < votes.size]] = True
        votes += maximum_filter(seen, size=3)

    def result(self) -> StillParts:
        """The cells that stand still; none where fewer than FEW_IMAGES images have any to speak of."""
        parts: dict[str, Bool] = {}
        for name, still in self._still.items():
            cells = (still >= MIN_PAIRS) & (still > OUTVOTED * self._moving[name])
            if cells.mean() >= SEEN:
                parts[name] = cells.reshape(-1)
        if len(parts) < FEW_IMAGES:
            return StillParts()
        return StillParts(parts, frozenset(self._two), self._grids)
