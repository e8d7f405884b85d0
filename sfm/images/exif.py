"""EXIF entries of an image file that are used here, without faulty ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from sfm.images.gps import gps_and_time
from sfm.types import GPSTag

MAX_TEXT = 100  # characters; a longer name in EXIF is a faulty entry, and no camera's in COLMAP's database
TRANSPOSE_OF = {  # EXIF orientation -> what makes the stored pixels look as displayed
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_MM_PER_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # EXIF FocalPlaneResolutionUnit


@dataclass(frozen=True, slots=True)
class Exif:
    """The EXIF entries of an image; empty strings and zeros where absent. pixels_per_mm: of the
    focal plane, for the file's present size. gps, taken_at: as in ImageRecord."""

    orientation: int = 1
    make: str = ""
    model: str = ""
    lens: str = ""
    focal_mm: float = 0.0
    focal_35mm: float = 0.0
    pixels_per_mm: float = 0.0
    gps: GPSTag | None = None
    taken_at: float | None = None


def read_exif(image: Image.Image) -> Exif:
    """EXIF of an opened image. An image with damaged EXIF still has its pixels: it counts as one without.

    A PNG is decoded, as its EXIF may come after the pixels. Whatever Pillow raises for damaged ones is propagated.
    """
    if isinstance(image, PngImageFile):
        image.load()  # or else getexif would, and a second load after one that failed passes
    try:
        main = image.getexif()
        exif_ifd = main.get_ifd(0x8769)
    except Exception:
        return Exif()
    try:
        gps, taken_at = gps_and_time(image, main)
    except Exception:
        gps, taken_at = None, None
    return Exif(
        orientation=int(_number(main.get(0x0112))) or 1,
        make=_text(main.get(0x010F)),
        model=_text(main.get(0x0110)),
        lens=_text(exif_ifd.get(0xA434)),
        focal_mm=_number(exif_ifd.get(0x920A)),
        focal_35mm=_number(exif_ifd.get(0xA405)),
        pixels_per_mm=_pixels_per_mm(exif_ifd, image.size),
        gps=gps,
        taken_at=taken_at,
    )


def orientation_left(image: Image.Image) -> int:
    """The EXIF orientation that is still to be applied: TIFF and HEIC are rotated as they are decoded."""
    return 1 if isinstance(image, TiffImageFile) or image.format == "HEIF" else read_exif(image).orientation


def _pixels_per_mm(exif_ifd: dict[int, Any], size: tuple[int, int]) -> float:
    mm = _MM_PER_UNIT.get(int(_number(exif_ifd.get(0xA210))), 0.0)
    resolution = _number(exif_ifd.get(0xA20E))
    if not mm or not resolution:
        return 0.0
    # The resolution is the original's; PixelX/YDimension say how large that was before any reduction.
    original = max(_number(exif_ifd.get(0xA002)), _number(exif_ifd.get(0xA003)))
    return resolution / mm * (max(size) / original if original else 1.0)


def _number(value: Any) -> float:
    """A finite positive number, or 0."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0


def _text(value: Any) -> str:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value if isinstance(value, str) else ""
    return " ".join("".join(c if c.isprintable() else " " for c in text.split("\0")[0][:MAX_TEXT]).split())
