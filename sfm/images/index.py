"""The index of a folder of images: which can be used, their digests, sizes and cameras.

A file that cannot be used is left out with a reason, so that one bad file never ends a run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from sfm.errors import BadFile, BadImage, BadOption
from sfm.images.camera_priors import ImageHeader, cameras_of
from sfm.images.decoding import draft, mask_path, read_mask_file
from sfm.images.discovery import FoundImages, find_images, unusable_file
from sfm.images.exif import orientation_left, read_exif
from sfm.images.files.formats import opened
from sfm.images.files.value_range import Range, Sketch, is_stretched, sketch, used_ranges
from sfm.images.notes import index_notes, masks_of_nothing
from sfm.options import ImageOptions
from sfm.system.hashing import files_digest, json_digest
from sfm.system.parallel import Workers
from sfm.system.progress import progress_bar
from sfm.types import CameraPrior, ImageRecord
from sfm.wording import some

LARGE = 50_000_000  # pixels; larger images are checked one at a time


class _Checked(NamedTuple):
    """An image that is known to decode. digest: hex SHA-256 of it and of its mask. mask: the mask's file. values: of
    more than 8 bits."""

    header: ImageHeader
    digest: str
    mask: Path | None
    values: Sketch | None


class ImagesIndex(NamedTuple):
    """records: the usable images, sorted by name. skipped: (name, reason) of every file that looked like one and is
    not. notes: what else the user should know of the folder, a line each. copies: of files of the same bytes (and mask)
    as an image, the image that they are copies of, by name."""

    records: tuple[ImageRecord, ...]
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    copies: Mapping[str, str]


def read_images_index(
    folder: Path, options: ImageOptions, *, keep_copies: bool = False
) -> tuple[tuple[ImageRecord, ...], tuple[tuple[str, str], ...]]:
    """The usable images of a folder, and what is skipped: index_images without its notes."""
    found = index_images(folder, options, keep_copies=keep_copies)
    return found.records, tuple(sorted((*found.skipped, *copy_reasons(found.copies))))


def index_images(
    folder: Path, options: ImageOptions, *, keep_copies: bool = False, exclude: Sequence[Path] = ()
) -> ImagesIndex:
    """The images of a folder.

    Of files of the same bytes (and mask) the first counts: a copy shows nothing new, but passes for a second
    view. keep_copies: all of them count, and none is a copy. exclude: folders below that are not searched. Raises
    BadFile if the folder is missing or holds no images, BadImage if fewer than two are usable or a mask does not fit,
    BadOption if the options contradict the images.
    """
    _check_masks_folder(folder, options.masks)
    found = find_images(folder, exclude=excluded(options, exclude))
    if not found.names and not found.skipped:
        raise BadFile(f"{folder}: no images in it (JPEG, PNG, TIFF, WebP, HEIC, AVIF, RAW){_instead(found)}")
    checked, bad = _check_all(folder, found.names, options.masks)
    checked, copies = (checked, {}) if keep_copies else _without_copies(checked)
    skipped = tuple(sorted((*found.skipped, *bad)))
    if len(checked) < 2:
        unusable = sorted((*skipped, *copy_reasons(copies)))
        why = f" ({unusable[0][0]}: {unusable[0][1]})" if unusable else ""
        raise BadImage(
            f"{folder}: {len(checked)} usable images of {len(checked) + len(unusable)}{why}; give at least two"
        )
    masks = [one.mask for one in checked if one.mask is not None]
    if options.masks is not None and not masks:
        raise BadFile(
            f"{options.masks}: no mask for any image; the mask of {found.names[0]} is {found.names[0]}.png"
            f"{masks_of_nothing(options.masks, masks)}"
        )
    cameras = cameras_of([one.header for one in checked], options)
    ranges = used_ranges(one.values for one in checked if one.values is not None)
    records = tuple(_record(one, cameras[one.header.name], ranges) for one in checked)
    depths = [one.values.kind for one in checked if one.values is not None]
    notes = index_notes(found, ranges, depths, options.masks, masks, len(records))
    return ImagesIndex(records, skipped, notes, copies)


def excluded(options: ImageOptions, more: Sequence[Path] = ()) -> tuple[Path, ...]:
    """Folders in which no images are searched: of the masks, and more."""
    return (*more, *([options.masks] if options.masks is not None else []))


def _instead(found: FoundImages) -> str:
    """What a folder without images holds."""
    if found.videos:
        return f", but videos: {some(found.videos)}"
    if found.results:
        return f" but results of earlier runs in {some(found.results)}"
    return f", but {some([name for name, _ in found.others])}" if found.others else ""


def _record(one: _Checked, camera: CameraPrior, ranges: Mapping[str, Range]) -> ImageRecord:
    value_range = None if one.values is None else ranges[one.values.kind]
    exif = one.header.exif
    digest = _ranged(one.digest, value_range)
    return ImageRecord(one.header.name, *one.header.size, camera, digest, exif.gps, exif.taken_at, value_range)


def _ranged(digest: str, value_range: Range | None) -> str:
    """The digest of an image of which a range of values is seen: with another range it is another image."""
    return digest if value_range is None or not is_stretched(value_range) else json_digest([digest, *value_range])


def copy_reasons(copies: Mapping[str, str]) -> list[tuple[str, str]]:
    """(name, reason) of each copy of an image, where it is left out."""
    return [(name, f"a copy of {of}") for name, of in copies.items()]


def _without_copies(checked: Sequence[_Checked]) -> tuple[list[_Checked], dict[str, str]]:
    first: dict[str, str] = {}
    for one in checked:
        first.setdefault(one.digest, one.header.name)
    kept = [one for one in checked if first[one.digest] == one.header.name]
    names = {one.header.name: first[one.digest] for one in checked}
    return kept, {name: of for name, of in names.items() if name != of}


def _check_masks_folder(folder: Path, masks: Path | None) -> None:
    if masks is None:
        return
    if not masks.is_dir():
        what = "is a file" if masks.exists() else "no such folder"
        raise BadFile(
            f"--masks {masks}: {what}; give the folder of masks, NAME.png for image NAME, or leave --masks out"
        )
    if masks.resolve() == folder.resolve():
        raise BadOption(f"--masks {masks}: masks must be in a folder of their own, not among the images")


def _check_all(folder: Path, names: Sequence[str], masks: Path | None) -> tuple[list[_Checked], list[tuple[str, str]]]:
    """Pillow decodes and hashlib hashes without the GIL, so a few threads check as many images at once."""
    checked: list[_Checked] = []
    skipped: list[tuple[str, str]] = []
    large = Lock()
    with (
        Workers(min(4, os.cpu_count() or 1)) as pool,
        progress_bar(len(names), desc="checking images", unit="image") as bar,
    ):
        for name, result in zip(names, pool.map(lambda name: _check(folder, name, masks, large), names), strict=True):
            if isinstance(result, _Checked):
                checked.append(result)
            else:
                skipped.append((name, result))
            bar.update()
    return checked, skipped


def _check(folder: Path, name: str, masks: Path | None, large: Lock) -> _Checked | str:
    """The image, known to decode, or the reason why it cannot be used. Raises BadImage for a bad mask.

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
            draft(image, "L", (1, 1))
            image.load()
            values = sketch(image)
            if isinstance(image, TiffImageFile) or image.format == "HEIF":
                size = image.size
    except (BadImage, OSError) as error:
        return str(error)
    if orientation in (5, 6, 7, 8):
        size = size[::-1]
    mask = None if masks is None else mask_path(masks, name)
    if mask is not None:
        read_mask_file(mask, name, size)
    try:
        digest = files_digest([path] if mask is None else [path, mask])
    except OSError as error:
        return str(error)
    return _Checked(ImageHeader(name, size, exif), digest, mask, values)


def _check_sums(path: Path) -> None:
    """The checksums of a PNG, which decoding leaves unread. Raises BadImage."""
    with opened(path) as image:
        image.verify()


def check_unchanged(folder: Path, record: ImageRecord, masks: Path | None) -> None:
    """Raises BadImage unless an image and its mask are the bytes that were indexed; a tenth of the time of decoding."""
    path = folder / record.name
    mask = None if masks is None else mask_path(masks, record.name)
    try:
        digest = files_digest([path] if mask is None else [path, mask])
    except OSError as error:
        raise BadImage(f"{path}: cannot be read ({error.strerror}); run again when it is there") from None
    if _ranged(digest, record.value_range) != record.digest:
        raise BadImage(f"{path}: has changed since it was indexed; run again")


def check_images(paths: Sequence[Path]) -> list[tuple[ImageHeader, str, Range | None]]:
    """Single images that belong together, named by their paths: size and EXIF, hex SHA-256, and of those of more than
    8 bits the range of values that they use. Raises BadImage naming the file."""
    checked = []
    for path in paths:
        found = unusable_file(path, str(path)) or _check(Path(), str(path), None, Lock())
        if isinstance(found, str):
            raise BadImage(f"{path}: {found}")
        checked.append(found)
    ranges = used_ranges(one.values for one in checked if one.values is not None)
    return [(one.header, one.digest, ranges[one.values.kind] if one.values else None) for one in checked]


def check_image(path: Path) -> tuple[ImageHeader, str]:
    """A single image, named by its path, and its hex SHA-256. Raises BadImage naming the file."""
    ((header, digest, _),) = check_images([path])
    return header, digest
