"""Images as other programs read them: most do not apply the EXIF orientation, and many read few formats.

An image is copied as it is where that suffices, else as an upright copy.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from sfm.errors import BadImage
from sfm.images.decoding import eight_bit, opened
from sfm.images.exif import TRANSPOSE_OF, orientation_left, read_exif

_ORIENTATION = 0x0112  # EXIF tag
_UNDISTORTABLE = ("JPEG", "PNG", "TIFF")  # what pycolmap reads by content
_WRITABLE = (".jpg", ".jpeg", ".png", ".tif", ".tiff")  # and writes by name


def place_upright(source: Path, target: Path, size: tuple[int, int], *, format: str | None = None) -> None:
    """Puts the image at `target`, upright: a plain copy, or a rewritten one where it must be rotated or converted.

    size: width and height that it must have when upright, px. format: Pillow's name, of 8 bits; None for the
    image's own. Raises BadImage naming the file, OSError where the target cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    kind = format
    with _opened(source, size) as (image, orientation):
        if orientation != 1 or format is not None:
            kind = format or str(image.format)
            transpose = TRANSPOSE_OF.get(orientation_left(image))
            exif, profile = _exif_without_rotation(image), image.info.get("icc_profile")
            pixels = eight_bit(image, "RGB") if format is not None else image
            pixels.load()
            upright = pixels.copy() if transpose is None else pixels.transpose(transpose)
    if kind is None:
        shutil.copyfile(source, target)
        return
    upright.info = {}
    how: dict[str, Any] = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    how |= {"lossless": True} if kind == "WEBP" else {}
    upright.save(target, kind, exif=exif, icc_profile=profile if upright.mode == image.mode else None, **how)


def pycolmap_reads(path: Path, size: tuple[int, int]) -> bool:
    """False where pycolmap would read the image rotated, or not at all. size and errors as place_upright."""
    with _opened(path, size) as (image, orientation):
        return orientation == 1 and not _is_foreign(path, image)


def is_foreign(path: Path, size: tuple[int, int]) -> bool:
    """Whether pycolmap cannot read or write the image, or only in a way that others cannot read. As place_upright."""
    with _opened(path, size) as (image, _):
        return _is_foreign(path, image)


def _is_foreign(path: Path, image: ImageFile) -> bool:
    plain = image.format in _UNDISTORTABLE and image.mode in ("L", "RGB")  # not deep grey, CMYK, alpha
    return not plain or path.suffix.lower() not in _WRITABLE


@contextmanager
def _opened(path: Path, size: tuple[int, int]) -> Iterator[tuple[ImageFile, int]]:
    """The image and its stored EXIF orientation, checked to have this size once upright. Raises BadImage.

    A JPEG's and a WebP's pixels are not decoded yet.
    """
    try:
        with opened(path) as image:
            stored = read_exif(image).orientation
            if isinstance(image, TiffImageFile):
                image.load()
            width, height = image.size[::-1] if orientation_left(image) in (5, 6, 7, 8) else image.size
            if (width, height) != size:
                raise BadImage(f"{width}x{height} px, but its camera has {size[0]}x{size[1]}")
            yield image, stored if stored in TRANSPOSE_OF else 1
    except BadImage as error:
        raise BadImage(f"{path}: {error}; repair it, or give the folder that the model was made from") from error


def _exif_without_rotation(image: ImageFile) -> bytes:
    """EXIF for an upright copy; none where it is too damaged to be written again, and of a TIFF, where it
    is among the tags that describe the pixel layout."""
    if isinstance(image, TiffImageFile):
        return b""
    try:
        exif = image.getexif()
        exif.pop(_ORIENTATION, None)
        return exif.tobytes()
    except Exception:  # Pillow answers damaged EXIF with almost any
        return b""
