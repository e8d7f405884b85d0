"""Pixels of image files: grey, colour, thumbnails and masks.

Everything downstream sees an image *as displayed*: its EXIF orientation is applied to the pixels, and
width and height are those after that rotation. (COLMAP's own reader does not rotate.) Masks
correspond to the image as displayed, and are not rotated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from sfm.errors import BadImage
from sfm.images.exif import TRANSPOSE_OF, orientation_left
from sfm.images.files.formats import is_deep, opened
from sfm.images.files.value_range import eight_bit
from sfm.types import ImageRecord


def read_grey(folder: Path, record: ImageRecord) -> NDArray[np.uint8]:
    """(H, W) uint8 luma (Rec. 601) of the image as displayed. Raises BadImage naming the file."""
    return _read(folder / record.name, "L", record)


def read_rgb(folder: Path, record: ImageRecord) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of the image as displayed, alpha dropped. Raises BadImage naming the file."""
    return _read(folder / record.name, "RGB", record)


def draft(image: Image.Image, mode: str, size: tuple[int, int]) -> None:
    """Has a JPEG decoded hardly larger than `size`. HEIC would give a thumbnail that lies in the file, whatever it
    shows."""
    if isinstance(image, JpegImageFile):
        image.draft(mode, size)


def read_thumbnail(folder: Path, name: str, size: tuple[int, int] | None, side: int) -> Image.Image:
    """The image as displayed, RGB, at most `side` px long; a JPEG is decoded hardly larger than that.

    size: width and height that the image must have, px; None for any. Raises BadImage naming the file.
    """
    path = folder / name
    with _naming(path), opened(path) as image:
        transpose = TRANSPOSE_OF.get(orientation_left(image))
        stored = image.size
        draft(image, "RGB", (2 * side, 2 * side))
        pixels = eight_bit(image, "RGB")
        if isinstance(image, TiffImageFile):  # rotated, and so given its size, as it is decoded
            stored = image.size
        small = pixels.copy() if transpose is None else pixels.transpose(transpose)
    displayed = stored if transpose is None or transpose.name.startswith(("FLIP", "ROTATE_180")) else stored[::-1]
    if size is not None and displayed != size:
        raise BadImage(f"{path}: has changed since it was indexed; run again")
    small.thumbnail((side, side), Image.Resampling.BOX if max(small.size) > 8 * side else Image.Resampling.LANCZOS)
    return small


def read_mask(folder: Path, record: ImageRecord) -> NDArray[np.bool_] | None:
    """(H, W) bool of the image as displayed, False where the mask is black; None where the image has no mask.

    folder: the masks' folder. The mask of `a/IMG.jpg` is `a/IMG.jpg.png` (COLMAP's convention) or else
    `a/IMG.png`. Raises BadImage if it cannot be read or its size is not the image's.
    """
    path = mask_path(folder, record.name)
    return None if path is None else read_mask_file(path, record.name, (record.width, record.height))


def mask_path(folder: Path, name: str) -> Path | None:
    """The mask of the image of this name, None where there is none."""
    candidates = (folder / f"{name}.png", (folder / name).with_suffix(".png"))
    return next((path for path in candidates if _is_file(path)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for the file system is nobody's
        return False


def read_mask_file(path: Path, name: str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool, False where the mask of the image of this name and size is black. Raises BadImage."""
    with _naming(path), opened(path) as image:
        values = np.asarray(image) if is_deep(image) else np.asarray(image.convert("L"))
    if values.shape != size[::-1]:
        raise BadImage(
            f"{path}: {values.shape[1]}x{values.shape[0]}, but its image {name} is {size[0]}x{size[1]} as displayed; "
            "a mask must have its image's size"
        )
    return values > 0


def _read(path: Path, mode: str, record: ImageRecord) -> NDArray[np.uint8]:
    with _naming(path), opened(path) as image:
        transpose = TRANSPOSE_OF.get(orientation_left(image))
        if mode == "L":
            draft(image, "L", image.size)  # JPEG at full size, luma alone: half the time
        pixels = eight_bit(image, mode, record.value_range)
        array = np.array(pixels if transpose is None else pixels.transpose(transpose))
    if array.shape[:2] != (record.height, record.width):
        raise BadImage(f"{path}: has changed since it was indexed; run again")
    return array


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except BadImage as error:
        raise BadImage(f"{path}: {error}") from error
