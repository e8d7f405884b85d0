"""Images as antialiased textures.

A Texture keeps one image at a ladder of sizes, each smaller than the last by the square root of two, so that
sampling it at any reduction meets a level whose pixels are about as large as the caller's. Coordinates are
texels of the image at full size, corner convention (first texel's centre at (0.5, 0.5)); beyond its borders the
image is mirrored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfm.errors import BadFile, BadImage

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"})
LEVELS_PER_OCTAVE = 2
SMALLEST_SIDE = 12


def find_images(folder: Path) -> tuple[Path, ...]:
    """Image files directly in the folder, sorted by name. BadFile where there are none."""
    if not folder.is_dir():
        raise BadFile(f"{folder}: no such folder; give a folder of images")
    images = tuple(sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES))
    if not images:
        raise BadFile(f"{folder}: holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return images


def read_grey(path: Path) -> UInt8:
    """(H, W) u8, the file's own pixels (no EXIF rotation). BadImage where it cannot be read."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadImage(f"{path}: cannot be read as an image ({error}); remove or replace it") from error


@lru_cache(maxsize=1 << 16)
def image_size(path: Path) -> tuple[int, int]:
    """(width, height) px, without decoding. BadImage where it cannot be read."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadImage(f"{path}: cannot be read as an image ({error}); remove or replace it") from error


@dataclass(frozen=True, slots=True, eq=False)
class Texture:
    """One image as a ladder of L levels, laid end to end.

    texels: (sum of level sizes,) f32, 0 to 255. start, widths, heights: (L,) i64. size: (width, height) of level 0.
    mean: mean grey value, at least 1.
    """

    texels: Float32
    start: NDArray[np.int64]
    widths: NDArray[np.int64]
    heights: NDArray[np.int64]
    mean: float

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the image, px."""
        return int(self.widths[0]), int(self.heights[0])

    @classmethod
    def of(cls, grey: UInt8, *, largest_footprint: float = 8.0) -> Texture:
        """The ladder of a grey image (H, W) u8, down to levels whose texels are `largest_footprint` wide."""
        height, width = grey.shape
        num_levels = 1 + max(0, math.ceil(LEVELS_PER_OCTAVE * math.log2(largest_footprint)))
        images = [Image.fromarray(grey)]
        for level in range(1, num_levels):
            scale = 2.0 ** (-level / LEVELS_PER_OCTAVE)
            size = max(SMALLEST_SIDE, round(width * scale)), max(SMALLEST_SIDE, round(height * scale))
            octave_above = level - LEVELS_PER_OCTAVE
            images.append(images[max(0, octave_above)].resize(size, Image.Resampling.HAMMING))
        levels = [np.asarray(image) for image in images]
        counts = [level.size for level in levels]
        return cls(
            np.concatenate([level.ravel() for level in levels]).astype(np.float32),
            np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64),
            np.array([image.width for image in images]),
            np.array([image.height for image in images]),
            max(1.0, float(levels[-1].mean())),
        )

    def sample(self, xy: Float32, footprint: Float32 | float) -> Float32:
        """Grey values (N,) f32 at xy (N, 2) texels; footprint: texels between neighbouring samples, (N,) or one."""
        level = np.rint(LEVELS_PER_OCTAVE * np.log2(np.maximum(footprint, 1.0))).astype(np.int64)
        level = np.minimum(level, len(self.widths) - 1)
        widths = self.widths[level]
        x0, x1, fx = _mirrored_neighbours(xy[:, 0] / np.float32(self.widths[0]), self.widths.astype(np.float32)[level])
        y0, y1, fy = _mirrored_neighbours(
            xy[:, 1] / np.float32(self.heights[0]), self.heights.astype(np.float32)[level]
        )
        row0 = self.start[level] + y0 * widths
        row1 = row0 + (y1 - y0) * widths
        top, bottom = self.texels[row0 + x0], self.texels[row1 + x0]
        top += (self.texels[row0 + x1] - top) * fx
        bottom += (self.texels[row1 + x1] - bottom) * fx
        return np.asarray(top + (bottom - top) * fy)


def _mirrored_neighbours(x: Float32, span: Float32) -> tuple[NDArray[np.int64], NDArray[np.int64], Float32]:
    """Indices of the two texels either side of x (in widths of the image) on an axis of `span` texels, and the
    weight of the second."""
    folded = x - 2 * np.rint(x * np.float32(0.5))  # one period, [-1, 1]
    folded = np.abs(folded) * span - np.float32(0.5)
    low = np.floor(folded)
    first = np.maximum(low, 0).astype(np.int64)
    second = np.minimum(low + 1, span - 1).astype(np.int64)
    return first, second, folded - low


def grid_xy(height: int, width: int) -> Float32:
    """Pixel centres of an image, row by row: (H W, 2) f32 px."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) + np.float32(0.5)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def to_u8(grey: Float32) -> UInt8:
    """Rounded and clipped to 8 bits."""
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)
