"""Photos: find them, check them, read them, and say what is known of their cameras.

Everything downstream sees a photo *as displayed*: its EXIF orientation is applied to the pixels, and
width and height are those of the turned photo. (COLMAP's own reader does not turn photos.) Masks are
files beside that: they are drawn over the photo as displayed, and are not turned.

A file is opened by its content (its first bytes), never by its name. One that cannot be used is left
out with a reason, so that one bad file never ends a run.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import IO, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from sfm.errors import BadFile, BadImage, BadOption, one_line
from sfm.images.camera_priors import Photo, cameras_of, read_exif
from sfm.images.discovery import find_images, unusable_file, unusable_status
from sfm.options import ImageOptions
from sfm.system.parallel import Workers
from sfm.system.progress import progress_bar
from sfm.system.untrusted_files import hash_into
from sfm.types import ImageRecord, StageSummary

MAX_PIXELS = 500_000_000  # a larger photo is refused: it would take gigabytes to decode
LARGE = 50_000_000  # pixels; larger photos are checked one at a time
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
TURNS = {  # EXIF orientation -> what makes the stored pixels look as displayed
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# --- reading ---------------------------------------------------------------------------------


def read_grey(folder: Path, record: ImageRecord) -> NDArray[np.uint8]:
    """(H, W) uint8 luma (Rec. 601) of the photo as displayed. Raises BadImage naming the file."""
    return _read(folder / record.name, "L", record)


def read_rgb(folder: Path, record: ImageRecord) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of the photo as displayed, alpha dropped. Raises BadImage naming the file."""
    return _read(folder / record.name, "RGB", record)


def read_thumbnail(folder: Path, name: str, size: tuple[int, int] | None, side: int) -> Image.Image:
    """The photo as displayed, RGB, at most `side` px long; a JPEG is decoded hardly larger than that.

    size: width and height that the photo must have, px; None for any. Raises BadImage naming the file.
    """
    path = folder / name
    with _naming(path), opened(path) as image:
        turn = TURNS.get(orientation_left(image))
        stored = image.size
        image.draft("RGB", (2 * side, 2 * side))
        pixels = eight_bit(image, "RGB")
        if isinstance(image, TiffImageFile):  # turned, and so given its size, as it is decoded
            stored = image.size
        small = pixels.copy() if turn is None else pixels.transpose(turn)
    displayed = stored if turn is None or turn.name.startswith(("FLIP", "ROTATE_180")) else stored[::-1]
    if size is not None and displayed != size:
        raise BadImage(f"{path}: has changed since it was indexed; run again")
    small.thumbnail((side, side), Image.Resampling.BOX if max(small.size) > 8 * side else Image.Resampling.LANCZOS)
    return small


def read_mask(folder: Path, record: ImageRecord) -> NDArray[np.bool_] | None:
    """(H, W) bool of the photo as displayed, False where the mask is black; None where the photo has no mask.

    folder: the masks' folder. The mask of `a/IMG.jpg` is `a/IMG.jpg.png` (COLMAP's convention) or else
    `a/IMG.png`. Raises BadImage if it cannot be read or its size is not the photo's.
    """
    path = _mask_path(folder, record.name)
    return None if path is None else _read_mask(path, record.name, (record.width, record.height))


def _mask_path(folder: Path, name: str) -> Path | None:
    candidates = (folder / f"{name}.png", (folder / name).with_suffix(".png"))
    return next((path for path in candidates if _is_file(path)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for the file system is nobody's
        return False


def _read_mask(path: Path, name: str, size: tuple[int, int]) -> NDArray[np.bool_]:
    with _naming(path), opened(path) as image:
        values = np.asarray(eight_bit(image, "L"))
    if values.shape != size[::-1]:
        raise BadImage(
            f"{path}: {values.shape[1]}x{values.shape[0]}, but its photo {name} is {size[0]}x{size[1]} as displayed; "
            "a mask must have its photo's size"
        )
    return values > 0


def _read(path: Path, mode: str, record: ImageRecord) -> NDArray[np.uint8]:
    with _naming(path), opened(path) as image:
        turn = TURNS.get(orientation_left(image))
        if mode == "L":
            image.draft("L", image.size)  # JPEG at full size, luma alone: half the time
        pixels = eight_bit(image, mode)
        array = np.array(pixels if turn is None else pixels.transpose(turn))
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


def orientation_left(image: ImageFile) -> int:
    """The EXIF orientation that is still to be applied: Pillow turns TIFF, and TIFF alone, as it decodes."""
    return 1 if isinstance(image, TiffImageFile) else read_exif(image).orientation


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
        raise BadImage(f"JPEG of {num_scans} scans takes too long to decode: save it anew")


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


# --- the index -------------------------------------------------------------------------------


class _Checked(NamedTuple):
    """A photo that is known to decode. digest: hex SHA-256 of it and of its mask."""

    photo: Photo
    digest: str
    has_mask: bool


def read_images_index(
    folder: Path, options: ImageOptions, *, keep_copies: bool = False
) -> tuple[tuple[ImageRecord, ...], tuple[tuple[str, str], ...]]:
    """The usable photos, sorted by name, and (name, reason) of every file that looked like one and is not.

    Of files of the same bytes (and mask) the first counts: a copy shows nothing new, but passes for a second
    view. keep_copies: all of them count. Raises BadFile if the folder is missing or holds no photos, BadImage if
    fewer than two are usable or a mask does not fit, BadOption if the options contradict the photos.
    """
    _check_masks_folder(folder, options.masks)
    found = find_images(folder, exclude=options.masks)
    if not found.names and not found.skipped:
        raise BadFile(f"{folder}: no photos in it (JPEG, PNG, TIFF or WebP)")
    checked, bad = _check_all(folder, found.names, options.masks)
    checked, copies = (checked, []) if keep_copies else _without_copies(checked)
    skipped = tuple(sorted((*found.skipped, *bad, *copies)))
    if len(checked) < 2:
        why = f" ({skipped[0][0]}: {skipped[0][1]})" if skipped else ""
        raise BadImage(
            f"{folder}: {len(checked)} usable photos of {len(checked) + len(skipped)}{why}; give at least two"
        )
    if options.masks is not None and not any(one.has_mask for one in checked):
        raise BadFile(f"{options.masks}: no mask for any photo; the mask of {found.names[0]} is {found.names[0]}.png")
    cameras = cameras_of([one.photo for one in checked], options)
    records = tuple(ImageRecord(p.name, *p.size, cameras[p.name], digest) for p, digest, _ in checked)
    return records, skipped


def _without_copies(checked: Sequence[_Checked]) -> tuple[list[_Checked], list[tuple[str, str]]]:
    first: dict[str, str] = {}
    for one in checked:
        first.setdefault(one.digest, one.photo.name)
    kept = [one for one in checked if first[one.digest] == one.photo.name]
    copies = [one for one in checked if first[one.digest] != one.photo.name]
    return kept, [(one.photo.name, f"a copy of {first[one.digest]}") for one in copies]


def _check_masks_folder(folder: Path, masks: Path | None) -> None:
    if masks is None:
        return
    if not masks.is_dir():
        raise BadFile(f"{masks}: no such folder of masks")
    if masks.resolve() == folder.resolve():
        raise BadOption(f"--masks {masks}: masks must be in a folder of their own, not among the photos")


def _check_all(folder: Path, names: Sequence[str], masks: Path | None) -> tuple[list[_Checked], list[tuple[str, str]]]:
    """Pillow decodes and hashlib hashes without the GIL, so a few threads check as many photos at once."""
    checked: list[_Checked] = []
    skipped: list[tuple[str, str]] = []
    large = Lock()
    with (
        Workers(min(4, os.cpu_count() or 1)) as pool,
        progress_bar(len(names), desc="checking photos", unit="photo") as bar,
    ):
        for name, result in zip(names, pool.map(lambda name: _check(folder, name, masks, large), names), strict=True):
            if isinstance(result, _Checked):
                checked.append(result)
            else:
                skipped.append((name, result))
            bar.update()
    return checked, skipped


def _check(folder: Path, name: str, masks: Path | None, large: Lock) -> _Checked | str:
    """The photo, known to decode, or the reason why it cannot be used. Raises BadImage for a bad mask.

    A JPEG is decoded at an eighth of its size, luma only: all of its bits are read, so whatever breaks
    a full decode breaks this one too, in a third of the time (12 Mpx: 52 ms instead of 149 ms). The
    other formats have no such shortcut and are decoded in full. large: held while a large one is, which
    may take two gigabytes.
    """
    path = folder / name
    try:
        with opened(path) as image, large if image.width * image.height > LARGE else nullcontext():
            if isinstance(image, PngImageFile):
                _check_sums(path)
            exif = read_exif(image)
            orientation = orientation_left(image)
            size = image.size
            image.draft("L", (1, 1))
            image.load()
            if isinstance(image, TiffImageFile):
                size = image.size
        digest = hashlib.sha256()
        hash_into(digest, path)
    except (BadImage, OSError) as error:
        return str(error)
    if orientation in (5, 6, 7, 8):
        size = size[::-1]
    mask = None if masks is None else _mask_path(masks, name)
    if mask is not None:
        _read_mask(mask, name, size)
        hash_into(digest, mask)
    return _Checked(Photo(name, size, exif), digest.hexdigest(), mask is not None)


def _check_sums(path: Path) -> None:
    """The checksums of a PNG, which decoding leaves unread. Raises BadImage."""
    with opened(path) as image:
        image.verify()


def check_unchanged(folder: Path, record: ImageRecord, masks: Path | None) -> None:
    """Raises BadImage unless a photo and its mask are the bytes that were indexed; a tenth of the time of decoding."""
    path, digest = folder / record.name, hashlib.sha256()
    mask = None if masks is None else _mask_path(masks, record.name)
    try:
        for file in (path, mask) if mask is not None else (path,):
            hash_into(digest, file)
    except OSError as error:
        raise BadImage(f"{path}: cannot be read ({error.strerror}); run again when it is there") from None
    if digest.hexdigest() != record.digest:
        raise BadImage(f"{path}: has changed since it was indexed; run again")


def check_photo(path: Path) -> tuple[Photo, str]:
    """A single photo, named by its path, and its hex SHA-256. Raises BadImage naming the file."""
    found = unusable_file(path, str(path)) or _check(Path(), str(path), None, Lock())
    if isinstance(found, str):
        raise BadImage(f"{path}: {found}")
    return found.photo, found.digest


class _ImageStore(Protocol):
    """What `run` needs of the feature database."""

    def write_images(self, records: Sequence[ImageRecord]) -> None: ...


def run(db: _ImageStore, folder: Path, options: ImageOptions) -> StageSummary:
    """Checks the photos of the folder and writes their records. Errors as read_images_index."""
    start = time.perf_counter()
    records, skipped = read_images_index(folder, options)
    db.write_images(records)
    counts: dict[str, int | float] = {
        "images": len(records),
        "skipped": len(skipped),
        "cameras": len({record.camera.group for record in records}),
        "focal_priors": sum(record.camera.has_focal_prior for record in records),
    }
    return StageSummary("images", counts, time.perf_counter() - start, skipped)
