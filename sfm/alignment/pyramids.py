"""Images as alignment sees them: reduced, a little blurred, at 1, 1/2, 1/4, ... of their size; the last are kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sfm.system.memory import give_back
from sfm.types import Float64

NUM_LEVELS = 5
BLUR_SIGMA = 0.8  # px; bilinear interpolation between blurred pixels is nearly exact
GIVEN_BACK = 0.25  # of the pyramids' memory: when so much was dropped, it goes back to the system


@dataclass(frozen=True, slots=True)
class Pyramid:
    """One image at 1, 1/2, 1/4, ... of its size, blurred a little: (H, W) f32 each. Level l is in px of 2**l."""

    levels: tuple[Tensor, ...]

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return sum(level.nbytes for level in self.levels)

    @classmethod
    def of(cls, grey: NDArray[np.floating] | NDArray[np.uint8], num_levels: int, device: str = "cpu") -> Pyramid:
        """grey: (H, W), 0 to 255."""
        image = torch.from_numpy(np.array(grey, np.float32)).to(device)
        levels = [_blurred(image)]
        while len(levels) < num_levels:
            if min(image.shape) >= 4:
                image = F.avg_pool2d(image[None, None], 2)[0, 0]
            levels.append(_blurred(image))
        return cls(tuple(levels))

    def sample(self, level: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Bilinear values (N, K) at full-size px x, y (N, K), row n in level[n]; the border is repeated outwards."""
        values = torch.empty_like(x)
        for index in torch.unique(level).tolist():
            rows = torch.nonzero(level == index)[:, 0]
            whole = len(rows) == len(level)
            image = self.levels[index]
            height, width = image.shape
            scale_x, scale_y = 2 / (width * 2**index), 2 / (height * 2**index)
            grid_x, grid_y = (x, y) if whole else (x[rows], y[rows])
            grid = torch.stack([grid_x * scale_x - 1, grid_y * scale_y - 1], dim=-1)[None]
            found = F.grid_sample(image[None, None], grid, padding_mode="border", align_corners=False)[0, 0]
            if whole:
                return found
            values[rows] = found
        return values


def _blurred(image: Tensor) -> Tensor:
    """(H, W) under a Gaussian of BLUR_SIGMA, the border repeated; a sum of shifted images is faster than conv2d."""
    radius = 2
    weights = [float(np.exp(-0.5 * (step / BLUR_SIGMA) ** 2)) for step in range(radius + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    for axis in (0, 1):
        size = image.shape[axis]
        pad = (0, 0, radius, radius) if axis == 0 else (radius, radius, 0, 0)
        padded = F.pad(image[None, None], pad, mode="replicate")[0, 0]
        shifted = [padded.narrow(axis, start, size) for start in range(2 * radius + 1)]
        image = shifted[radius] * (weights[0] / total)
        for step in range(1, radius + 1):
            image = image.add(shifted[radius - step] + shifted[radius + step], alpha=weights[step] / total)
    return image


ReadPyramid = Callable[[int], Pyramid]


class PyramidCache:
    """The pyramids used last, as many as fit; safe to use from several threads."""

    def __init__(self, read: ReadPyramid, max_bytes: int) -> None:
        self._read = read
        self._max_bytes = max_bytes
        self._held: OrderedDict[int, Pyramid] = OrderedDict()
        self._dropped = 0  # bytes, since memory was last given back
        self._lock = Lock()

    def __call__(self, row: int) -> Pyramid:
        """The pyramid of that image."""
        with self._lock:
            if row in self._held:
                self._held.move_to_end(row)
                return self._held[row]
            pyramid = self._held[row] = self._read(row)
            while len(self._held) > 1 and sum(p.nbytes for p in self._held.values()) > self._max_bytes:
                self._dropped += self._held.popitem(last=False)[1].nbytes
            if self._dropped > GIVEN_BACK * self._max_bytes:
                self._dropped = 0
                give_back()
            return pyramid


def reduced_size(width: int, height: int, max_size: int) -> tuple[int, int]:
    """Size (width, height) of an image reduced so that no side is longer than max_size px; 0 leaves it as it is."""
    factor = min(1.0, max_size / max(width, height)) if max_size else 1.0
    return max(1, round(width * factor)), max(1, round(height * factor))


def reduced_grey(grey: NDArray[np.uint8], max_size: int) -> NDArray[Any]:
    """An image (H, W) u8 at its reduced size, antialiased: f32, or as it was."""
    width, height = reduced_size(grey.shape[1], grey.shape[0], max_size)
    if (height, width) == grey.shape:
        return grey
    image = torch.from_numpy(np.array(grey, np.float32))[None, None]
    reduced = torch.nn.functional.interpolate(image, size=(height, width), mode="bilinear", antialias=True)
    return np.asarray(reduced[0, 0].numpy())


@dataclass(frozen=True, slots=True)
class AlignmentImages:
    """How images are read for alignment. read: pyramid by row. scale: (N, 2) pyramid px per image px in x and y. unit:
    (N,) pyramid px: standard deviation of the matcher's positions."""

    read: ReadPyramid
    scale: Float64
    unit: Float64

    @classmethod
    def of(
        cls,
        read: Callable[[int], NDArray[np.uint8]],
        sizes: Sequence[tuple[int, int]],
        sigmas: Sequence[float],
        *,
        align_size: int,
        device: str = "cpu",
    ) -> Self:
        """read: (H, W) grey of an image by its row. sizes: (width, height). sigmas: standard deviation of the matcher's
        positions, px of the images. align_size: longer side of what is aligned, px; 0 keeps the images' sizes."""
        scale = np.array([reduced_size(*size, align_size) for size in sizes]) / np.array(sizes, np.float64)

        def pyramid(row: int) -> Pyramid:
            return Pyramid.of(reduced_grey(read(row), align_size), NUM_LEVELS, device)

        return cls(pyramid, scale, np.array(sigmas) * scale.mean(axis=1))

    @property
    def unit_px(self) -> Float64:
        """(N,) px: standard deviation of the matcher's positions."""
        return np.asarray(self.unit / self.scale.mean(axis=1))

    def first_level(self, *rows: int) -> int:
        """Of the pyramids of some images, or of all, where a match's deviation is a pixel or less: alignment begins
        there."""
        unit = float(np.median(self.unit[list(rows)] if rows else self.unit))
        return min(max(1, int(np.ceil(np.log2(unit)))), NUM_LEVELS - 1)
