"""Digests of values and of files. All are hex SHA-256; equal digests mean equal contents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_PIECE = 1 << 20  # bytes read at once


def json_bytes(value: Any, *, sort_keys: bool = True) -> bytes:
    """A JSON-able value as bytes. What JSON does not know is written as its str()."""
    return json.dumps(value, sort_keys=sort_keys, default=str).encode()


def json_digest(value: Any, *, sort_keys: bool = True) -> str:
    """Digest of a JSON-able value. sort_keys: the order of an object's members does not count."""
    return hashlib.sha256(json_bytes(value, sort_keys=sort_keys)).hexdigest()


def files_digest(paths: Iterable[Path], *, start: bytes = b"") -> str:
    """Digest of `start` and the contents of files of any size, one after the other.

    OSError where one cannot be read.
    """
    digest = hashlib.sha256(start)
    for path in paths:
        _hash_into(digest, path)
    return digest.hexdigest()


def named_files_digest(paths: Iterable[Path]) -> str:
    """Digest of the names and the contents of files, one after the other. OSError where one cannot be read."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0" + bytes.fromhex(files_digest([path])))
    return digest.hexdigest()


def size_and_time(path: Path) -> tuple[int, int]:
    """Bytes and modification time (ns) of a file, by which a change is noticed unread; zeros where there is none."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _hash_into(digest: Any, path: Path) -> None:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
