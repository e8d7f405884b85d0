"""How far the picture has moved since another frame, and how sharp it is: block matching over a small pyramid.

Pictures are (h, w) f32 luma from 0 to 255, some 320 px long. Motion is a share of the longer side, so that it means the
same at every resolution.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Float = NDArray[np.float32]

GRID = (14, 9)  # points along the longer and the shorter side
HALF = 5  # px, half of a patch: 11 x 11
REACH = (7, 2, 2)  # px of search on each level, the coarsest first: 28 px of 320 between a prediction and the truth
LEVELS = len(REACH)
TEXTURE = 3.0  # grey levels, least standard deviation of a patch that says where it went
CORRELATION = 0.75  # least of a patch that is found again
LOST = 0.35  # share of the points; where fewer are found again, the two frames hardly show the same
FEW = 12  # points with texture; with fewer a picture is too plain to be followed
BLOCKS = (8, 6)  # of sharpness, along the longer and the shorter side
BLOCK_RANK = 75  # percentile over the blocks: plain walls do not count


class Motion(NamedTuple):
    """shift: the median motion, or half of what the fastest tenth of the points exceeds, if that is more (a turning
    object before a still background), as a share of the longer side; inf where the pictures show different things.
    found: share of the points that were found again."""

    shift: float
    found: float


class Follower:
    """Where points of one picture are in those that come after it, one after another."""

    def __init__(self, start: Float) -> None:
        self._start = _pyramid(start)
        self._points = _textured(start)
        self._shifts = np.zeros((len(self._points), 2))

    def motion(self, picture: Float) -> Motion:
        """Motion since the start; pictures come in order, so each is searched around where the last one's points were.

        A plain picture has moved if it is not the same any more, but nobody knows how far: by 0 or inf.
        """
        if picture.shape != self._start[0].shape:
            return Motion(np.inf, 0.0)
        if len(self._points) < FEW:
            same = float(np.abs(picture - self._start[0]).mean()) < TEXTURE
            return Motion(0.0 if same else np.inf, float(same))
        shifts, correlation = _follow(self._start, _pyramid(picture), self._points, self._shifts)
        found = correlation >= CORRELATION
        share = float(found.mean())
        if share < LOST:
            return Motion(np.inf, share)
        self._shifts = np.where(found[:, None], shifts, np.median(shifts[found], axis=0))
        length = np.hypot(*shifts[found].T)
        shift = max(float(np.median(length)), float(np.percentile(length, 90)) / 2)
        return Motion(shift / max(picture.shape), share)


def sharpness(picture: Float) -> float:
    """Standard deviation of the Laplacian in blocks, of which the upper quartile: comparable between frames that show
    nearly the same (Pech-Pacheco et al., ICPR 2000)."""
    centre = picture[1:-1, 1:-1]
    laplacian = 4 * centre - picture[:-2, 1:-1] - picture[2:, 1:-1] - picture[1:-1, :-2] - picture[1:-1, 2:]
    rows, columns = BLOCKS[::-1] if laplacian.shape[1] >= laplacian.shape[0] else BLOCKS
    h, w = (max(1, n // m) for n, m in zip(laplacian.shape, (rows, columns), strict=True))
    rows, columns = min(rows, laplacian.shape[0]), min(columns, laplacian.shape[1])
    blocks = laplacian[: h * rows, : w * columns].reshape(rows, h, columns, w)
    return float(np.percentile(blocks.std(axis=(1, 3)), BLOCK_RANK))


def halved(picture: Float) -> Float:
    """The mean of every 2 x 2 px."""
    h, w = (n // 2 * 2 for n in picture.shape)
    even = picture[:h, :w]
    mean: Float = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / np.float32(4)
    return mean


def _pyramid(picture: Float) -> list[Float]:
    levels = [picture]
    while len(levels) < LEVELS:
        levels.append(halved(levels[-1]))
    return levels


def _textured(picture: Float) -> NDArray[np.int64]:
    """(N, 2) i64 (row, column) of a grid, where there is texture on all levels."""
    h, w = picture.shape
    rows, columns = GRID[::-1] if w >= h else GRID
    margin = HALF * 2
    row, column = (np.linspace(margin, n - 1 - margin, num) for n, num in ((h, rows), (w, columns)))
    points = np.stack(np.meshgrid(row, column, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.int64)
    keep = np.ones(len(points), bool)
    for level, image in enumerate(_pyramid(picture)):
        keep &= _windows(image, points >> level, HALF).std(axis=(1, 2)) >= TEXTURE
    return points[keep]


def _windows(image: Float, centres: NDArray[np.int64], half: int) -> Float:
    """(N, 2 half + 1, 2 half + 1) f32 around (N, 2) centres, which may lie outside."""
    padded = np.pad(image, half, mode="edge")
    inside = np.clip(centres, 0, np.array(image.shape) - 1)
    side = 2 * half + 1
    found: Float = sliding_window_view(padded, (side, side))[inside[:, 0], inside[:, 1]]
    return found


def _follow(
    start: list[Float], picture: list[Float], points: NDArray[np.int64], shifts: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, 2) shifts px (row, column) and (N,) normalised correlation, from the coarsest level to the finest."""
    found = shifts / 2.0 ** (LEVELS - 1)
    correlation = np.zeros(len(points))
    for level in reversed(range(LEVELS)):
        reach = REACH[LEVELS - 1 - level]
        here = points >> level
        guess = np.rint(found).astype(np.int64)
        patch = _normalised(_windows(start[level], here, HALF))
        area = _windows(picture[level], here + guess, HALF + reach)
        windows = sliding_window_view(area, (2 * HALF + 1, 2 * HALF + 1), axis=(1, 2))  # N, offsets, offsets, h, w
        std = _deviations(area, 2 * HALF + 1)
        score = np.einsum("nijab,nab->nij", windows, patch)  # patch has mean 0, so windows need not
        score = np.where(std >= TEXTURE / 2, score / np.maximum(std, 1e-6), 0) / patch[0].size
        best = score.reshape(len(points), -1).argmax(axis=1)
        offset = np.stack(np.unravel_index(best, score.shape[1:]), axis=1) - reach
        correlation = score.reshape(len(points), -1)[np.arange(len(points)), best].astype(np.float64)
        found = (guess + offset).astype(np.float64) * (2 if level else 1)
    return found, correlation


def _deviations(area: Float, side: int) -> NDArray[np.float64]:
    """(N, h, w) → (N, h - side + 1, w - side + 1): the standard deviation of each window of side x side px."""
    mean, square = (_box_means(values, side) for values in (area.astype(np.float64), area.astype(np.float64) ** 2))
    deviation: NDArray[np.float64] = np.sqrt(np.maximum(square - mean**2, 0))
    return deviation


def _box_means(values: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    sums = np.pad(values, ((0, 0), (1, 0), (1, 0))).cumsum(axis=1).cumsum(axis=2)
    of_boxes = sums[:, side:, side:] - sums[:, :-side, side:] - sums[:, side:, :-side] + sums[:, :-side, :-side]
    means: NDArray[np.float64] = of_boxes / side**2
    return means


def _normalised(patches: Float) -> Float:
    centred = patches - patches.mean(axis=(1, 2), keepdims=True)
    unit: Float = centred / np.maximum(patches.std(axis=(1, 2), keepdims=True), 1e-6)
    return unit
