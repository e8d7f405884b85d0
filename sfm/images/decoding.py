"""Pixels of image files: grey, colour, thumbnails and masks.

Everything downstream sees an image *as displayed*: its EXIF orientation is applied to the pixels, and
width and height are those after that rotation. (COLMAP's own reader does not rotate.) Masks
correspond to the image as displayed, and are not rotated.

A file is opened by its content (its first bytes), never by its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from sfm.errors import BadImage, one_line
from sfm.images.discovery import unusable_status
from sfm.images.exif import TRANSPOSE_OF, orientation_left
from sfm.types import ImageRecord

MAX_PIXELS = 500_000_000  # a larger image is refused: it would take gigabytes to decode
MAX_SCANS = 20 * MAX_PIXELS  # pixels times scans of a progressive JPEG, which takes some 10 s a 10 billion
MIN_SIDE = 16  # px; smaller pictures are icons

_FORMATS: tuple[tuple[str, bytes, type[ImageFile]], ...] = (
    ("JPEG", b"\xff\xd8\xff", JpegImageFile),
    ("PNG", b"\x89PNG\r\n\x1a\n", PngImageFile),
    ("TIFF", b"II*\0", TiffImageFile),
    ("TIFF", b"MM\0*", TiffImageFile),
    ("TIFF", b"II+\0", TiffImageFile),
    ("TIFF", b"MM\0+", TiffImageFile),
)
_MODES = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"}
_DEEP_MODES = {"I", "F", "I;16", "I;16L", "I;16B", "I;16N"}


def read_grey(folder: Path, record: ImageRecord) -> NDArray[np.uint8]:
    """(H, W) uint8 luma (Rec. 601) of the image as displayed. Raises BadImage naming the file."""
    return _read(folder / record.name, "L", record)


def read_rgb(folder: Path, record: ImageRecord) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of the image as displayed, alpha dropped. Raises BadImage naming the file."""
    return _read(folder / record.name, "RGB", record)


def read_thumbnail(folder: Path, name: str, size: tuple[int, int] | None, side: int) -> Image.Image:
    """The image as displayed, RGB, at most `side` px long; a JPEG is decoded hardly larger than that.

    size: width and height that the image must have, px; None for any. Raises BadImage naming the file.
    """
    path = folder / name
    with _naming(path), opened(path) as image:
        transpose = TRANSPOSE_OF.get(orientation_left(image))
        stored = image.size
        image.draft("RGB", (2 * side, 2 * side))
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
        values = np.asarray(eight_bit(image, "L"))
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
            image.draft("L", image.size)  # JPEG at full size, luma alone: half the time
        pixels = eight_bit(image, mode)
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


@contextmanager
def opened(path: Path) -> Iterator[ImageFile]:
    """The file as a Pillow image, pixels not yet decoded. Raises BadImage, the reason alone.

    Pillow's classes are called directly and not through Image.open, whose limit of 179 Mpx is a
    writable global of its module. Pillow answers a damaged file with almost any exception, so what is
    raised while the image is open is the file's fault: keep the block to Pillow's own calls.
    """
    kind = "image"
    try:
        if reason := unusable_status(path.stat()):
            raise BadImage(reason)
        with path.open("rb") as stream:
            kind, reader = _format_of(stream.read(16))
            stream.seek(0)
            with reader(stream) as image:
                _check_header(image)
                _check_scans(image, stream)
                yield image
    except BadImage:
        raise
    except FileNotFoundError as error:
        raise BadImage("no such file") from error
    except PermissionError as error:
        raise BadImage(f"cannot be read ({error.strerror})") from error
    except Exception as error:
        raise BadImage(f"{kind} cannot be decoded ({one_line(error, 100)})") from error


def _format_of(head: bytes) -> tuple[str, type[ImageFile]]:
    for kind, magic, reader in _FORMATS:
        if head.startswith(magic):
            return kind, reader
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP", WebPImageFile
    if head[4:8] == b"ftyp":
        raise BadImage(f"{'AVIF' if head[8:11] == b'avi' else 'HEIC'} is not supported: convert to JPEG")
    raise BadImage("the file is empty" if not head else "not a JPEG, PNG, TIFF or WebP image")


def _check_header(image: ImageFile) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadImage(f"{width}x{height} is over {MAX_PIXELS // 1_000_000} megapixels: reduce it")
    if min(width, height) < MIN_SIDE:
        raise BadImage(f"{width}x{height} is too small, at least {MIN_SIDE} px a side are needed")
    if image.mode not in _MODES | _DEEP_MODES:
        raise BadImage(f"colour mode {image.mode} is not supported: convert to RGB")


def _check_scans(image: ImageFile, stream: IO[bytes]) -> None:
    """A JPEG may go over all its pixels any number of times, 10 bytes a time: hours, from a small file."""
    if not isinstance(image, JpegImageFile):
        return
    position, num_scans = stream.tell(), 0
    stream.seek(0)
    while part := stream.read(1 << 24):
        num_scans += part.count(b"\xff\xda")
    stream.seek(position)
    if num_scans * image.width * image.height > MAX_SCANS:
        raise BadImage(f"JPEG of {num_scans} scans takes too long to decode: save it again")


def eight_bit(image: Image.Image, mode: str) -> Image.Image:
    """The image in mode "L" or "RGB". 16 bits become 8 by v / 257; 32-bit integers and floats that are
    not in [0, 65535] and [0, 1] have no range of their own and are stretched from least to greatest."""
    if image.mode not in _DEEP_MODES:
        return image.convert(mode)
    values = np.nan_to_num(np.asarray(image), posinf=0, neginf=0).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    top = 1.0 if image.mode == "F" else 65535.0
    if low >= 0 and high <= top:
        low, high = 0.0, top
    scaled = (values - low) * (255 / max(high - low, 1e-12))
    return Image.fromarray(np.rint(scaled).astype(np.uint8)).convert(mode)
