"""Training pairs of real images with depth and poses: dense ground truth with parallax and occlusion.

A sequence is a folder:

    images/NAME.jpg or .png     frames of one size
    depth/NAME.png              16 bits, millimetres, 0 unknown; of the frame's size or an n-th of it: depth pixel
                                (u, v) is image pixel (n u, n v)
    poses.txt                   world_from_cam, 16 numbers a line (row by row), metres, in the order of the names
    K.txt                       (3, 3) of the images, px; its indices begin at 0 in the centre of the first pixel

which is what RGB-D cameras and headsets record (the layout of 7-Scenes and ScanNet, in few files). Pixels elsewhere are
COLMAP's: first pixel's centre at (0.5, 0.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfm.datasets.training_pairs.cuts import cut_image, random_cut
from sfm.datasets.training_pairs.synthetic_pairs import TrainingPair, anchor_xy
from sfm.datasets.training_pairs.textures import Texture, find_images, image_size, read_grey
from sfm.errors import BadFile, BadImage

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

AGREE, AGREE_M = 0.03, 0.03  # relative, and metres: depths of one surface
HIDDEN = 0.9  # of the expected depth: something nearer hides the point
SMOOTH = 0.05  # relative change of depth to the next pixel, beyond which a pixel is on an edge
MAX_DEPTH = 65.0  # metres that 16 bits of millimetres hold
GRID = (9, 12)  # points at which overlap is measured
MAX_PIXELS = 1 << 28  # of a depth map
MAX_PAIRS = 20000  # of a sequence that are looked at


@dataclass(frozen=True, slots=True)
class DepthDifficulty:
    """How pairs are chosen and cut."""

    overlap: tuple[float, float] = (0.1, 0.8)
    """Share of an image that the other one sees."""
    max_rotation_deg: float = 75.0
    """Between the viewing directions."""
    max_zoom: float = 2.0
    """A cut shows at least 1 / max_zoom of the image's shorter side."""
    in_plane_deg: float = 8.0
    """Standard deviation of each image's in-plane rotation; one in ten is drawn evenly from five times that."""


@dataclass(frozen=True, slots=True, eq=False)
class DepthSequence:
    """Frames with depth. paths: N images. depth_paths: N, PNG (mm) or HDF5 ("depth", the poses' unit). K: (N, 3, 3) for
    COLMAP's pixels. world_from_cam: (N, 4, 4). metric: the unit is the metre."""

    paths: tuple[Path, ...]
    depth_paths: tuple[Path, ...]
    K: Float64
    world_from_cam: Float64
    metric: bool = True

    @classmethod
    def read(cls, folder: Path) -> DepthSequence:
        """The sequence in a folder. BadFile where something is missing or does not belong together."""
        paths = find_images(folder / "images")
        poses = _numbers(folder / "poses.txt", 16).reshape(-1, 4, 4)
        K = _numbers(folder / "K.txt", 3).reshape(-1, 3)
        if K.shape != (3, 3) or K[0, 0] <= 0 or K[1, 1] <= 0:
            raise BadFile(f"{folder / 'K.txt'}: not a camera matrix; give 3 lines of 3 numbers, px")
        if len(poses) != len(paths):
            raise BadFile(f"{folder / 'poses.txt'}: {len(poses)} poses for {len(paths)} images; give one for each")
        depth_paths = tuple(folder / "depth" / f"{path.stem}.png" for path in paths)
        missing = [path for path in depth_paths if not path.is_file()]
        if missing:
            raise BadFile(f"{missing[0]}: no such depth image; give one for each image")
        shift = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
        return cls(paths, depth_paths, np.tile(K + shift, (len(paths), 1, 1)), poses)

    def held_out(self, every: int) -> tuple[DepthSequence, DepthSequence]:
        """Two parts without a common frame: all but the last frames, and the last 1/every of them."""
        first = max(1, round(len(self.paths) * (1 - 1 / every)))
        return self.frames(range(first)), self.frames(range(first, len(self.paths)))

    def frames(self, rows: Sequence[int]) -> DepthSequence:
        """Some of the frames."""
        kept = list(rows)
        paths, depth = (tuple(own[i] for i in kept) for own in (self.paths, self.depth_paths))
        return DepthSequence(paths, depth, self.K[kept], self.world_from_cam[kept], self.metric)


def _numbers(path: Path, columns: int) -> Float64:
    try:
        values = np.loadtxt(path, dtype=np.float64, ndmin=2, max_rows=1 << 20)
    except (OSError, ValueError) as error:
        raise BadFile(f"{path}: cannot be read ({error}); give numbers separated by spaces") from None
    if values.size == 0 or values.shape[1] != columns or not np.isfinite(values).all():
        raise BadFile(f"{path}: {values.shape[-1]} numbers a line; give {columns} finite ones")
    return values


@lru_cache(maxsize=256)
def read_depth(path: Path) -> Float32:
    """(h, w) in the poses' unit, 0 unknown. BadImage where it cannot be read."""
    if path.suffix == ".h5":
        return _hdf5_depth(path)
    try:
        with Image.open(path) as image:
            values = np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadImage(f"{path}: cannot be read as depth ({error}); give 16-bit PNGs") from error
    if values.ndim != 2 or values.dtype not in (np.uint16, np.int32):
        raise BadImage(f"{path}: {values.dtype} of shape {values.shape}; give 16-bit grey PNGs in millimetres")
    return (values.astype(np.float32) / 1000).clip(0, MAX_DEPTH)


def _hdf5_depth(path: Path) -> Float32:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            dataset = file["depth"]
            if dataset.ndim != 2 or dataset.size > MAX_PIXELS or dataset.external or dataset.is_virtual:
                raise ValueError(f"shape {dataset.shape}")
            values = np.asarray(dataset[()], np.float32)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise BadImage(f"{path}: cannot be read as depth ({error}); give a dataset `depth` of (H, W) floats") from error
    return np.where(np.isfinite(values) & (values > 0), values, 0)


@lru_cache(maxsize=128)
def _texture(path: Path) -> Texture:
    return Texture.of(read_grey(path))


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """Points of one frame in another: xy (N, 2) px there; seen: (N,) visible; unseen: (N,) certainly not."""

    xy: Float64
    seen: NDArray[np.bool_]
    unseen: NDArray[np.bool_]


class DepthPairs:
    """An endless stream of training pairs; pair(index) depends on (sequences, size, seed, index) alone."""

    def __init__(
        self,
        sequences: Sequence[DepthSequence],
        *,
        size: tuple[int, int] = (256, 320),
        seed: int = 0,
        difficulty: DepthDifficulty | None = None,
    ) -> None:
        """size: (H, W) px, multiples of 8. BadFile where no two frames overlap as asked."""
        self.size, self.seed = size, seed
        self.difficulty = difficulty or DepthDifficulty()
        self._sequences = tuple(sequences)
        self._pairs, weight = pairs_of_sequences(self._sequences, self.difficulty, seed=seed)
        self._cumulative = np.cumsum(weight)
        self._cumulative /= self._cumulative[-1]

    @property
    def pairs(self) -> tuple[tuple[DepthSequence, int, int], ...]:
        """All pairs that are drawn from, as rows of their sequence."""
        return tuple((self._sequences[number], i, j) for number, i, j in self._pairs)

    def pair(self, index: int) -> TrainingPair:
        """The pair of that index."""
        rng = np.random.default_rng([self.seed, index])
        number, *frames = self._pairs[min(int(np.searchsorted(self._cumulative, rng.random())), len(self._pairs) - 1)]
        sequence = self._sequences[number]
        if rng.random() < 0.5:
            frames.reverse()
        textures = [_texture(sequence.paths[i]) for i in frames]
        cuts = []
        for texture, own, other in zip(textures, frames, reversed(frames), strict=True):
            grid = _grid(texture.size)
            seen = _project(sequence, own, other, grid).seen
            about = grid[seen] if seen.any() else grid
            cuts.append(random_cut(rng, texture.size, about, self.size, self.difficulty))
        images = [cut_image(texture, cut, self.size) for texture, cut in zip(textures, cuts, strict=True)]
        (warp01, known0), (warp10, known1) = (
            self._warp(sequence, frames[side], frames[1 - side], cuts[side], cuts[1 - side]) for side in (0, 1)
        )
        return TrainingPair(images[0], images[1], warp01, warp10, known0, known1)

    def _warp(
        self, sequence: DepthSequence, own: int, other: int, cut: Float64, other_cut: Float64
    ) -> tuple[Float32, NDArray[np.bool_]]:
        """Where the anchors (H/8, W/8) lie in the other cut, NaN where not seen, and where that is certain."""
        anchors = anchor_xy(self.size)
        xy = (anchors.reshape(-1, 2) - cut[:, 2]) @ np.linalg.inv(cut[:, :2]).T
        there = _project(sequence, own, other, xy)
        net = there.xy @ other_cut[:, :2].T + other_cut[:, 2]
        inside = ((net > 0) & (net < (self.size[1], self.size[0]))).all(axis=1)
        in_image = ((xy > 0) & (xy < image_size(sequence.paths[own]))).all(axis=1)
        seen = there.seen & inside & in_image
        known = seen | ~in_image | there.unseen | (there.seen & ~inside)
        warp = np.where(seen[:, None], net, np.nan).astype(np.float32)
        return warp.reshape(anchors.shape), known.reshape(anchors.shape[:2])


def pairs_of_sequences(
    sequences: Sequence[DepthSequence], difficulty: DepthDifficulty, *, seed: int = 0
) -> tuple[list[tuple[int, int, int]], Float64]:
    """All pairs of frames that overlap as asked: (sequence, frame, frame), and their weights in the draw, of which each
    sequence has as much. BadFile where there is none."""
    found, weights = [], []
    for number, sequence in enumerate(sequences):
        pairs, weight = overlapping_pairs(sequence, difficulty, seed=seed)
        found += [(number, i, j) for i, j in pairs]
        weights.append(weight / max(weight.sum(), 1e-12))
    if not found:
        raise BadFile(f"{sequences[0].paths[0].parent}: no two frames overlap enough; give longer sequences")
    return found, np.concatenate(weights)


def overlapping_pairs(
    sequence: DepthSequence, difficulty: DepthDifficulty, *, seed: int = 0
) -> tuple[list[tuple[int, int]], Float64]:
    """Pairs of frames that overlap as asked, and their weights in the draw: the same for every range of rotations."""
    num = len(sequence.paths)
    pairs = list(combinations(range(num), 2))
    rng = np.random.default_rng([seed, num])
    if len(pairs) > MAX_PAIRS:
        pairs = [pairs[i] for i in np.sort(rng.choice(len(pairs), MAX_PAIRS, replace=False))]
    rotation = sequence.world_from_cam[:, :3, :3]
    kept, angles = [], []
    low, high = difficulty.overlap
    for i, j in pairs:
        angle = rotation_deg(rotation[i], rotation[j])
        if angle > difficulty.max_rotation_deg:
            continue
        grid = _grid(image_size(sequence.paths[i]))
        if low <= _project(sequence, i, j, grid).seen.mean() <= high:
            kept.append((i, j))
            angles.append(angle)
    bins = (np.array(angles) // 15).astype(np.int64)
    counts = np.bincount(bins, minlength=6) if len(bins) else np.ones(6)
    return kept, 1.0 / counts[bins]


def rotation_deg(a: Float64, b: Float64) -> float:
    """Angle between two rotations (3, 3)."""
    return float(np.degrees(np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1))))


def _grid(size: tuple[int, int]) -> Float64:
    rows, columns = GRID
    x, y = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows)
    return np.stack([x.ravel() * size[0], y.ravel() * size[1]], axis=1)


def _project(sequence: DepthSequence, own: int, other: int, xy: Float64) -> _Seen:
    """Pixels (N, 2) of a frame in another: by its depth, checked against the other's depth (occlusion)."""
    size, other_size = (np.array(image_size(sequence.paths[frame])) for frame in (own, other))
    depth, smooth = _depth_at(sequence, own, xy, size)
    rays = np.concatenate([xy, np.ones((len(xy), 1))], axis=1) @ np.linalg.inv(sequence.K[own]).T
    motion = np.linalg.inv(sequence.world_from_cam[other]) @ sequence.world_from_cam[own]
    local = (rays * depth[:, None]) @ motion[:3, :3].T + motion[:3, 3]
    front = local[:, 2] > (0.05 if sequence.metric else 1e-6)
    there = np.full_like(xy, -1.0)
    there[front] = (local[front] / local[front, 2:] @ sequence.K[other].T)[:, :2]
    inside = front & ((there > 0) & (there < other_size)).all(axis=1)
    depth_there, smooth_there = _depth_at(sequence, other, there, other_size)
    agrees = np.abs(depth_there - local[:, 2]) < np.maximum(AGREE * local[:, 2], AGREE_M if sequence.metric else 0)
    known = (depth > 0) & smooth
    hidden = (depth_there > 0) & (depth_there < HIDDEN * local[:, 2])
    return _Seen(there, known & smooth_there & inside & agrees, known & (~inside | hidden))


def _depth_at(
    sequence: DepthSequence, frame: int, xy: Float64, size: NDArray[np.int64]
) -> tuple[Float64, NDArray[np.bool_]]:
    """Depth (N,) m at pixels of a frame, 0 unknown or outside, and whether it is not on an edge."""
    depth = read_depth(sequence.depth_paths[frame])
    height, width = depth.shape
    step = size[0] / width
    column, row = (np.rint((xy - 0.5) / step).astype(np.int64)).T
    ok = (column >= 1) & (column < width - 1) & (row >= 1) & (row < height - 1)
    column, row = np.where(ok, column, 1), np.where(ok, row, 1)
    value = np.where(ok, depth[row, column], 0).astype(np.float64)
    around = np.stack([depth[row + dy, column + dx] for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0))])
    smooth = ok & (np.abs(around - value).max(axis=0) < SMOOTH * np.maximum(value, 1e-9))
    return value, smooth
