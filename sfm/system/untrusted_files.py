"""Files that a stranger may have made: text and JSON within bounds, and links that must not lead a writer astray."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from sfm.errors import BadFile

MAX_JSON = 1 << 26  # characters of a file that one run wrote
MAX_LINE = 1 << 16  # characters
NUMBER = "a number, no larger than makes sense"
_MAX_NUMBER = 1e18
_MAX_HOLES = 1 << 26  # bytes of a file that need not be on the disk


def refuse_holes(*paths: Path) -> None:
    """BadFile where one is no file, or says that it is very much longer than what the disk holds of it."""
    for path in paths:
        try:
            found = path.stat()
        except OSError as error:
            raise BadFile(f"{path}: cannot be read ({error.strerror}); check the path") from None
        if not stat.S_ISREG(found.st_mode):
            raise BadFile(f"{path}: is no file; give the file itself")
        held = getattr(found, "st_blocks", 0) * 512  # 0: some file systems do not say
        if held and found.st_size > _MAX_HOLES + 100 * held:
            raise BadFile(f"{path}: {found.st_size} bytes, of which the disk holds {held}; copy it again")


def hash_into(digest: Any, path: Path) -> None:
    """A file of any size into one of hashlib's hashes, piece by piece. OSError where it cannot be read."""
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)


def read_json(path: Path, *, limit: int = MAX_JSON) -> Any:
    """The plain values in a file. OSError where it cannot be read, ValueError where it is damaged or too long."""
    with path.open(encoding="utf-8") as file:
        text = file.read(limit + 1)
    if len(text) > limit:
        raise ValueError(f"longer than {limit} characters")
    return parse_json(text)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays that numpy.savez wrote, by name. OSError, ValueError or BadZipFile where that is not what it is."""
    with ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
            raise ValueError("compressed, as savez is not")
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def parse_json(text: str) -> Any:
    """The plain values in a text; ValueError for whatever is wrong with it, nesting without end among it."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def has_shape(value: Any, shape: Any) -> bool:
    """Whether plain values are as a shape says: a type; NUMBER; [shape of all items]; {name: shape of a member that
    must be there}; {str: shape of all members}."""
    if isinstance(shape, list):
        return isinstance(value, list) and all(has_shape(item, shape[0]) for item in value)
    if isinstance(shape, dict) and isinstance(value, dict):
        if str in shape:
            return all(has_shape(own, shape[str]) for own in value.values())
        return all(name in value and has_shape(value[name], own) for name, own in shape.items())
    if shape == NUMBER:
        return isinstance(value, int | float) and not abs(value) >= _MAX_NUMBER
    return isinstance(shape, type) and isinstance(value, shape)


def bounded_lines(path: Path, what: str, *, limit: int = MAX_LINE) -> Iterator[str]:
    """The lines of a text file one by one. what: it should be, for messages. Raises BadFile, also for endless lines."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            while line := file.readline(limit):
                if len(line) == limit:
                    raise BadFile(f"{path}: a line is longer than {limit} characters; give {what}")
                yield line
    except UnicodeDecodeError:
        raise BadFile(f"{path}: not a text file; give {what}") from None
    except OSError as error:
        raise BadFile(f"{path}: cannot be read ({error.strerror}); give {what}") from None


def is_path(text: str) -> bool:
    """Whether a file system can be asked for a path; it answers with errors of many kinds to others."""
    try:
        parts = text.encode().split(b"/")
    except UnicodeEncodeError:
        return False
    return b"\0" not in text.encode() and len(text) < 4096 and max(map(len, parts)) <= 255


def leads_out(name: str) -> bool:
    """Whether a name, taken as a path relative to a folder, stands for something outside it."""
    path = PurePath(name)
    return bool(path.drive or path.root) or not path.parts or ".." in path.parts or "\0" in name


def leads_out_anywhere(name: str) -> bool:
    """Whether a name leads out on any system, or holds what no text file should: for names that are handed on."""
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    outside = windows.drive or windows.root or posix.is_absolute() or ".." in windows.parts or ".." in posix.parts
    return bool(outside) or not posix.parts or any(ord(c) < 32 for c in name)


def refuse_links(folder: Path, names: Iterable[str]) -> None:
    """BadFile where what will be written in a folder is, or holds, a link that leads out of it.

    names: of the files and folders that will be written; folders are looked through.
    """
    root = folder.resolve()
    for name in names:
        for path in _with_members(folder / name):
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise BadFile(f"{path}: a link out of {folder}, nothing is written through it; remove the link")


def _with_members(path: Path) -> Iterator[Path]:
    yield path
    if not path.is_symlink():
        for place, folders, files in os.walk(path):  # links are not followed
            yield from (Path(place, name) for name in (*folders, *files))
