"""Which images are panoramas: equirectangular, of the whole sphere.

Three things hold of every one and hardly ever of another image: it is twice as wide as high; its last column continues
in its first one, as any column does in its neighbour; and its first and last rows are a single point each, the poles.
How far columns differ that are neighbours, and how far those that are not, the image itself says. Images of one size in
one folder are of one kind: the majority decides, so that a panorama whose seam is blurred is not lost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfm.errors import BadImage, BadOption
from sfm.images.files.formats import opened
from sfm.images.files.value_range import eight_bit
from sfm.types import Float64, ImageRecord

EQUIRECTANGULAR = "EQUIRECTANGULAR"  # COLMAP's camera model of panoramas
ROWS = 512  # of the reduced image that is looked at
APART = 0.125  # of the width, from which on two columns have nothing to do with each other
# Differences of columns, mean over rows: across the seam at most so many times that of neighbours (and a grey value,
# for rounding), and of columns apart at most so much of what the most alike hundredth of them has.
CONTINUED, ALIKE = 2.0, 0.5
POLE = 0.25  # deviation of a pole's row, of that of a row in the middle
TEXTURE = 4.0  # grey values, deviation of rows and of the edges below which nothing can be told


def is_twice_as_wide(width: int, height: int) -> bool:
    """Whether an image has the shape of a panorama; a pixel may be missing."""
    return abs(width - 2 * height) <= 2


def is_panorama(grey: NDArray[np.uint8]) -> bool:
    """Whether an image (H, W) of any size wraps around: see the module."""
    if not is_twice_as_wide(grey.shape[1], grey.shape[0]):
        return False
    pixels = _reduced(grey)
    rows = float(np.median(pixels.std(axis=1)))
    poles = max(float(pixels[0].std()), float(pixels[-1].std()))
    edges = min(float(pixels[:, 0].std()), float(pixels[:, -1].std()))
    if min(rows, edges) < TEXTURE or poles > POLE * rows:  # of a blank edge nothing can be told, nor of a frame
        return False
    neighbours = (_difference(pixels, 0, 1) + _difference(pixels, -1, -2)) / 2
    seam = _difference(pixels, 0, -1)
    return bool(seam <= CONTINUED * neighbours + 1.0 and seam <= ALIKE * np.percentile(_differences_apart(pixels), 1))


def _reduced(grey: NDArray[np.uint8]) -> Float64:
    height = min(ROWS, grey.shape[0])
    small = Image.fromarray(grey).resize((2 * height, height), Image.Resampling.BOX)
    return np.asarray(small, np.float64)


def _difference(pixels: Float64, column0: int, column1: int) -> float:
    return float(np.abs(pixels[:, column0] - pixels[:, column1]).mean())


def _differences_apart(pixels: Float64) -> Float64:
    """Mean differences of columns that are at least APART; every fourth column with every fourth."""
    columns = pixels[:, ::4].T
    num = len(columns)
    least = max(1, round(APART * num))
    steps = range(least, num - least + 1, 4)
    return np.concatenate([np.abs(columns - np.roll(columns, step, axis=0)).mean(axis=1) for step in steps])


def find_panoramas(folder: Path, records: Iterable[ImageRecord]) -> frozenset[str]:
    """Names of the panoramas among the images of a folder. Raises BadImage where one cannot be read any more.

    Only images of the right shape are opened.
    """
    sets: dict[tuple[str, int, int], list[str]] = defaultdict(list)
    for record in records:
        if is_twice_as_wide(record.width, record.height):
            sets[(record.name.rpartition("/")[0], record.width, record.height)].append(record.name)
    votes: Mapping[str, bool] = {name: is_panorama(_read(folder / name)) for own in sets.values() for name in own}
    return frozenset(name for own in sets.values() if 2 * sum(votes[n] for n in own) > len(own) for name in own)


def required_panoramas(records: Iterable[ImageRecord]) -> frozenset[str]:
    """All images, which the user says are panoramas. Raises BadOption where one cannot be."""
    names = []
    for record in records:
        if not is_twice_as_wide(record.width, record.height):
            raise BadOption(
                f"--camera-model {EQUIRECTANGULAR}: {record.name} is {record.width}x{record.height}, and a panorama of "
                "the whole sphere is twice as wide as high; leave the option out, panoramas are recognised"
            )
        names.append(record.name)
    return frozenset(names)


def _read(path: Path) -> NDArray[np.uint8]:
    """(H, W) grey, a JPEG decoded hardly larger than it is looked at."""
    try:
        with opened(path) as image:
            image.draft("L", (2 * ROWS, ROWS))
            return np.array(eight_bit(image, "L"))
    except BadImage as error:
        raise BadImage(f"{path}: {error}") from error
