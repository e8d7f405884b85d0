"""Images as other programs read them: most do not apply the EXIF orientation, and many read few formats.

An image is copied as it is where that suffices, else as an upright copy.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from sfm.errors import BadFile, BadImage
from sfm.images.exif import TRANSPOSE_OF, orientation_left, read_exif
from sfm.images.files.formats import is_deep, opened
from sfm.images.files.value_range import Range, eight_bit

_ORIENTATION = 0x0112  # EXIF tag
_UNDISTORTABLE = ("JPEG", "PNG", "TIFF")  # what pycolmap reads by content
_WRITABLE = (".jpg", ".jpeg", ".png", ".tif", ".tiff")  # and writes by name
_WIDELY_READ = ("JPEG", "PNG", "TIFF", "WEBP")  # by what trains NeRFs and splats, through Pillow or OpenCV
MAX_NAME = 255  # bytes of a file's name, on any file system


def place_upright(
    source: Path,
    target: Path,
    size: tuple[int, int],
    *,
    format: str | None = None,
    value_range: Range | None = None,
) -> None:
    """Puts the image at `target`, upright: a plain copy, or a rewritten one where it must be rotated or converted.

    size: width and height that it must have when upright, px. format: Pillow's name, of 8 bits; None for the
    image's own. value_range: of an image of more than 8 bits, as in its ImageRecord. Raises BadImage naming the file,
    OSError where the target cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    kind = format
    with _opened(source, size) as (image, orientation):
        if orientation != 1 or format is not None:
            kind = format or str(image.format)
            transpose = TRANSPOSE_OF.get(orientation_left(image))
            exif, profile = _exif_without_rotation(image), image.info.get("icc_profile")
            pixels = eight_bit(image, "RGB", value_range) if format is not None else image
            pixels.load()
            upright = pixels.copy() if transpose is None else pixels.transpose(transpose)
    if kind is None:
        shutil.copyfile(source, target)
        return
    upright.info = {}
    how: dict[str, Any] = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    how |= {"lossless": True} if kind == "WEBP" else {}
    upright.save(target, kind, exif=exif, icc_profile=profile if upright.mode == image.mode else None, **how)


def copy_format(source: Path, size: tuple[int, int]) -> str | None:
    """Pillow's name of the format that a copy for NeRFs and splats must have, None for the image's own. As
    place_upright."""
    with _opened(source, size) as (image, _):
        return None if image.format in _WIDELY_READ and not is_deep(image) else _format_of_copy(image)


def format_for_pycolmap(source: Path, size: tuple[int, int]) -> str | None:
    """Pillow's name of the format of a copy that pycolmap reads and writes and others can read, None where the image
    is one itself. As place_upright."""
    with _opened(source, size) as (image, _):
        return _format_of_copy(image) if _is_foreign(source, image) else None


def _format_of_copy(image: Image.Image) -> str:
    """Of photos that were compressed with loss JPEG, else PNG."""
    return "PNG" if image.format in _WIDELY_READ or is_deep(image) else "JPEG"


def name_of_copy(name: str, format: str | None, taken: Iterable[str]) -> str:
    """The name of an image's copy: its own, NAME.jpg or NAME.png. taken: names of all images. Raises BadFile."""
    suffix = {"JPEG": ".jpg", "PNG": ".png"}.get(format or "")
    if suffix is None or PurePosixPath(name).suffix.lower() == suffix:
        return name
    fits = len(f"{PurePosixPath(name).name}{suffix}".encode()) <= MAX_NAME
    copy = f"{name}{suffix}" if fits else str(PurePosixPath(name).with_suffix(suffix))
    if copy in taken:
        raise BadFile(f"{name}: its copy would overwrite that of {copy}; rename one of them")
    return copy


def pycolmap_reads(path: Path, size: tuple[int, int]) -> bool:
    """False where pycolmap would read the image rotated, or not at all. size and errors as place_upright."""
    with _opened(path, size) as (image, orientation):
        return orientation == 1 and not _is_foreign(path, image)


def _is_foreign(path: Path, image: Image.Image) -> bool:
    plain = image.format in _UNDISTORTABLE and image.mode in ("L", "RGB")  # not deep grey, CMYK, alpha
    return not plain or path.suffix.lower() not in _WRITABLE


@contextmanager
def _opened(path: Path, size: tuple[int, int]) -> Iterator[tuple[Image.Image, int]]:
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


def _exif_without_rotation(image: Image.Image) -> bytes:
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
