"""RAW images of cameras (DNG, CR2, CR3, NEF, ARW, ORF, RAF, RW2) through LibRaw.

The JPEG that the camera made and put into the file is taken where it is about as large as the RAW image; else the RAW
image is developed, with the camera's white balance and without automatic brightness, so that the images of a set go
together. Either is given upright, with the camera's EXIF.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, BinaryIO

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from sfm.errors import BadImage
from sfm.images.exif import TRANSPOSE_OF, read_exif

FULL_SIZE = 0.9  # of the RAW image's longer side: an embedded JPEG that is smaller is a preview
_EXIF, _GPS = 0x8769, 0x8825  # directories
_KEPT = (0x920A, 0xA405, 0xA434, 0x9003, 0x9011, 0x9291)  # focal lengths, lens, time
_ORIENTATION_OF_FLIP = {3: 3, 5: 8, 6: 6}  # LibRaw's flip -> EXIF orientation


def raw_image(stream: BinaryIO, max_pixels: int, check: Callable[[JpegImageFile, BinaryIO], None]) -> Image.Image:
    """The image, upright, RGB or grey, with EXIF of no orientation. check: of an embedded JPEG, before it is decoded.

    Raises BadImage for more pixels than `max_pixels` and for damaged files.
    """
    import rawpy

    try:
        return _upright(stream, max_pixels, check)
    except rawpy.LibRawError as error:
        said = error.args[0] if error.args else ""
        reason = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise BadImage(f"RAW cannot be decoded ({reason}): convert to JPEG") from error


def _upright(stream: BinaryIO, max_pixels: int, check: Callable[[JpegImageFile, BinaryIO], None]) -> Image.Image:
    import rawpy

    with rawpy.imread(stream) as raw:
        width, height = raw.sizes.width, raw.sizes.height
        if max(width * height, raw.sizes.raw_width * raw.sizes.raw_height) > max_pixels:
            raise BadImage(f"{width}x{height} is over {max_pixels // 1_000_000} megapixels: reduce it")
        embedded = _embedded(raw, check)
        exif = _exif_of(stream, embedded, raw)
        if embedded is not None and max(embedded.size) >= FULL_SIZE * max(width, height):
            turn = read_exif(embedded).orientation
            turn = _ORIENTATION_OF_FLIP.get(raw.sizes.flip, 1) if turn == 1 else turn
            transpose = TRANSPOSE_OF.get(turn)
            embedded.load()
            image = embedded.copy() if transpose is None else embedded.transpose(transpose)
        else:
            image = Image.fromarray(raw.postprocess(use_camera_wb=True, no_auto_bright=True, output_bps=8))
    image.info = {"exif": exif.tobytes()}
    return image


def _embedded(raw: Any, check: Callable[[JpegImageFile, BinaryIO], None]) -> JpegImageFile | None:
    """The JPEG in the file, not yet decoded; None where there is none."""
    import rawpy

    try:
        found = raw.extract_thumb()
    except rawpy.LibRawError:  # none, or of a kind that LibRaw does not know
        return None
    if found.format != rawpy.ThumbFormat.JPEG:
        return None
    stream = BytesIO(found.data)
    try:
        image = JpegImageFile(stream)
    except Exception:  # Pillow answers a damaged file with almost any; the RAW image is still there
        return None
    check(image, stream)
    return image


def _exif_of(stream: BinaryIO, embedded: JpegImageFile | None, raw: Any) -> Image.Exif:
    """The camera's EXIF, without orientation: of the embedded JPEG, else of the file, else what LibRaw knows."""
    found = Image.Exif()
    for source in (_of_jpeg(embedded), _of_tiff(stream)):
        main, inner = source.get(0x0110), source.get_ifd(_EXIF)
        if main or inner.get(0x920A):
            found[0x010F], found[0x0110] = str(source.get(0x010F, "")), str(main or "")
            found.get_ifd(_EXIF).update({tag: inner[tag] for tag in _KEPT if tag in inner})
            found.get_ifd(_GPS).update(source.get_ifd(_GPS))
            break
    focal = float(raw.other.focal_length or 0)
    if focal > 0 and 0x920A not in found.get_ifd(_EXIF):
        found.get_ifd(_EXIF)[0x920A] = focal
    return found


def _of_jpeg(embedded: JpegImageFile | None) -> Image.Exif:
    try:
        return Image.Exif() if embedded is None else embedded.getexif()
    except Exception:  # damaged EXIF counts as none
        return Image.Exif()


def _of_tiff(stream: BinaryIO) -> Image.Exif:
    found = Image.Exif()
    try:
        stream.seek(0)
        found.load_from_fp(stream)
        found.get_ifd(_EXIF)
        found.get_ifd(_GPS)
        return found
    except Exception:  # not a TIFF inside, or damaged: then the camera is unknown
        return Image.Exif()
