"""Image files as Pillow images: recognised by their first bytes, and checked before memory is spent on them.

A file is opened by its content, never by its name; RAW images alone, which are TIFF inside, are known by both.

JPEG, PNG, TIFF, WebP and AVIF are read by Pillow, HEIC and HEIF by libheif, RAW by LibRaw (the extra `raw`). libheif
applies the rotation that a HEIF file holds as it decodes, and EXIF's orientation is then no more to be applied
(ISO/IEC 23008-12, 6.5.10); pillow-heif sets it to 1. Pillow leaves an AVIF as it is stored, and gives the file's
rotation as EXIF's orientation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from sfm.errors import BadImage, one_line
from sfm.images.discovery import RAW_EXTRA, has_raw_extra, unusable_status
from sfm.images.files import suffixes

MAX_PIXELS = 500_000_000  # a larger image is refused: it would take gigabytes to decode
MAX_SCANS = 20 * MAX_PIXELS  # pixels times scans of a progressive JPEG, which takes some 10 s a 10 billion
MAX_WHOLE = 1 << 30  # bytes of a file that its library reads whole before it looks at its size
MIN_SIDE = 16  # px; smaller pictures are icons
_HEAD = 64  # bytes of a file by which it is recognised

Reader = Callable[[BinaryIO], AbstractContextManager[Image.Image]]
_PLAIN: tuple[tuple[str, bytes, type[ImageFile]], ...] = (
    ("JPEG", b"\xff\xd8\xff", JpegImageFile),
    ("PNG", b"\x89PNG\r\n\x1a\n", PngImageFile),
    ("TIFF", b"II*\0", TiffImageFile),
    ("TIFF", b"MM\0*", TiffImageFile),
    ("TIFF", b"II+\0", TiffImageFile),
    ("TIFF", b"MM\0+", TiffImageFile),
)
_RAW_HEADS = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0")  # RAF, ORF, RW2
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_DEEP_MODES = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
_MODES = _DEEP_MODES | {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"}


def is_deep(image: Image.Image) -> bool:
    """Whether an image has more than 8 bits a pixel as Pillow holds it."""
    return image.mode in _DEEP_MODES


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The file as a Pillow image, pixels not yet decoded. Raises BadImage, the reason alone.

    Pillow's classes are called directly and not through Image.open, whose limit of 179 Mpx is a
    writable global of its module. Pillow answers a damaged file with almost any exception, so what is
    raised while the image is open is the file's fault: keep the block to Pillow's own calls.
    """
    kind = "image"
    try:
        if reason := unusable_status(status := path.stat()):
            raise BadImage(reason)
        with path.open("rb") as stream:
            kind, reader = _format_of(stream.read(_HEAD), path.suffix.lower())
            if kind in ("HEIC", "AVIF") and status.st_size > MAX_WHOLE:
                raise BadImage(f"{status.st_size / 1e9:.0f} GB is too large for {kind}")
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


def _format_of(head: bytes, suffix: str) -> tuple[str, Reader]:
    """What a file is that begins with these bytes, and what reads it. Raises BadImage for what is no image."""
    if head.startswith(_RAW_HEADS) or (head.startswith((b"II*\0", b"MM\0*")) and suffix in suffixes.RAW):
        return "RAW", _raw
    for kind, magic, reader in _PLAIN:
        if head.startswith(magic):
            return kind, reader
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP", WebPImageFile
    if head[4:8] == b"ftyp":
        return _of_boxes(head)
    raise BadImage("the file is empty" if not head else "not a JPEG, PNG, TIFF, WebP, HEIC, AVIF or RAW image")


def _of_boxes(head: bytes) -> tuple[str, Reader]:
    """The format of a file of ISO boxes: its own brand, and those of the formats that it is compatible with."""
    end = int.from_bytes(head[:4], "big")
    brands = {head[i : i + 4] for i in (8, *range(16, min(end, len(head)) - 3, 4))}
    if head[8:12] == b"crx ":
        return "RAW", _raw
    if brands & _AVIF_BRANDS:
        return "AVIF", _avif
    if brands & _HEIF_BRANDS:
        return "HEIC", _heif
    raise BadImage("a video, no image: give it a video's extension")


def _heif(stream: BinaryIO) -> AbstractContextManager[Image.Image]:
    from pillow_heif import HeifImageFile  # loaded for these files alone

    reader: type[ImageFile] = HeifImageFile
    return reader(stream)


def _avif(stream: BinaryIO) -> AbstractContextManager[Image.Image]:
    try:
        from PIL.AvifImagePlugin import SUPPORTED, AvifImageFile
    except ImportError:
        SUPPORTED = False
    if not SUPPORTED:
        raise BadImage("AVIF needs a Pillow that was built with it: pip install -U pillow, or convert to JPEG")
    return AvifImageFile(stream)


def _raw(stream: BinaryIO) -> AbstractContextManager[Image.Image]:
    if not has_raw_extra():
        raise BadImage(f"RAW images need {RAW_EXTRA}")
    from sfm.images.files.raw import raw_image

    return raw_image(stream, MAX_PIXELS, _check_jpeg)


def _check_jpeg(image: JpegImageFile, stream: BinaryIO) -> None:
    """The checks of a JPEG that lies in a file of another format."""
    _check_header(image)
    _check_scans(image, stream)


def _check_header(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadImage(f"{width}x{height} is over {MAX_PIXELS // 1_000_000} megapixels: reduce it")
    if min(width, height) < MIN_SIDE:
        raise BadImage(f"{width}x{height} is too small, at least {MIN_SIDE} px a side are needed")
    if image.mode not in _MODES:
        raise BadImage(f"colour mode {image.mode} is not supported: convert to RGB")


def _check_scans(image: Image.Image, stream: BinaryIO) -> None:
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
