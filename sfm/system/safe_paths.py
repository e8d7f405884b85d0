"""Untrusted names and links, which must not lead out of their folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

from sfm.errors import BadFile


def is_path(text: str) -> bool:
    """Whether a file system can be asked for a path; it answers with errors of many kinds to others."""
    try:
        parts = text.encode().split(b"/")
    except UnicodeEncodeError:
        return False
    return b"\0" not in text.encode() and len(text) < 4096 and max(map(len, parts)) <= 255


def leads_out(name: str) -> bool:
    """Whether a name, taken as a path relative to a folder, is outside it."""
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
