"""Images in a folder: which files may be some, and which are known from the outside not to be.

No file is opened here. One that cannot be used is left out with a reason.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sfm.errors import BadFile

_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp"})
_UNSUPPORTED_SUFFIXES = frozenset(
    {".heic", ".heif", ".avif", ".gif", ".bmp", ".jp2", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2"}
)
MAX_BYTES = 16 << 30  # 500 megapixels at 16 bytes each, and more; a larger file would take minutes to read


class FoundImages(NamedTuple):
    """names: files that may be images, sorted POSIX paths relative to the folder. skipped: (name, reason)
    of those that are known not to be usable from the outside. ignored: how many other files there are."""

    names: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    ignored: int


def find_images(folder: Path, *, exclude: Path | None = None) -> FoundImages:
    """All files below the folder that bear the extension of an image format, without opening them.

    Hidden files and folders (macOS' `._*` among them) and `__MACOSX` do not count; links are followed,
    and a folder that is reached twice is searched once, so loops end. exclude: a folder below that is
    not searched (the masks). Raises BadFile if the folder is missing or is not one.
    """
    if not folder.is_dir():
        raise BadFile(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}; give a folder of images")
    names, skipped, ignored = [], [], 0
    unreadable: list[OSError] = []
    for path in _walk(folder, exclude, unreadable):
        name = path.relative_to(folder).as_posix()
        if path.suffix.lower() not in _SUFFIXES | _UNSUPPORTED_SUFFIXES:
            ignored += 1
        elif reason := _unusable_name(name) or unusable_file(path, name):
            skipped.append((_shown(name), reason))
        else:
            names.append(name)
    for error in unreadable:
        name = Path(error.filename).relative_to(folder).as_posix()
        skipped.append((_shown(name), f"the folder cannot be read ({error.strerror})"))
    return FoundImages(tuple(sorted(names)), tuple(sorted(skipped)), ignored)


def _walk(folder: Path, exclude: Path | None, unreadable: list[OSError]) -> Iterator[Path]:
    """Files, and into the list the folders that could not be looked into."""
    seen = {exclude.resolve()} if exclude is not None else set()
    for root, folders, files in os.walk(folder, onerror=unreadable.append, followlinks=True):
        place = Path(root).resolve()
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        yield from (Path(root, name) for name in sorted(files) if not name.startswith("."))


def _unusable_name(name: str) -> str | None:
    """Control characters and line breaks end a name in files of pairs and in COLMAP's text, and drive terminals."""
    if any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in name):
        return "its name has a line break or another control character: rename it"
    return None


def _shown(name: str) -> str:
    """The name in one line of valid UTF-8, what cannot be shown escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text
    )


def unusable_file(path: Path, name: str) -> str | None:
    """Why the file cannot be an image, without opening it; None if it may be one."""
    try:
        name.encode("utf-8")
        status = path.stat()
    except UnicodeEncodeError:
        return "its name is not valid UTF-8: rename it"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if reason := unusable_status(status):
        return reason
    if path.suffix.lower() in _UNSUPPORTED_SUFFIXES:
        return f"{path.suffix[1:].upper()} is not supported: convert to JPEG"
    return None


def unusable_status(status: os.stat_result) -> str | None:
    """Why such a file is not even to be opened: a pipe or a device may never end."""
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    if status.st_size == 0:
        return "the file is empty"
    if status.st_size > MAX_BYTES:
        return f"{status.st_size / 1e9:.0f} GB is too large for an image"
    return None
