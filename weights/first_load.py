"""Files for which no checksum is published: theirs is recorded when they are first loaded, and held to from then on.

The record is PATH.sha256 beside the file, one line of `sha256sum`.
"""

from __future__ import annotations

from pathlib import Path

from sfm.errors import BadFile
from sfm.weights.download import sha256_of


def record_of(path: Path) -> Path:
    """Where the checksum of this file is recorded."""
    return path.with_name(path.name + ".sha256")


def held_to_first_load(path: Path) -> str:
    """In words, how the file was checked; BadFile where it is not what it was when it was first loaded."""
    digest, record = sha256_of(path), record_of(path)
    try:
        known = record.read_text(encoding="utf-8").split()[0] if record.is_file() else None
    except (OSError, ValueError, IndexError):
        known = None
    if known is None:
        try:
            record.write_text(f"{digest}  {path.name}\n", encoding="utf-8")
        except OSError:
            return f"no checksum is published; SHA-256 {digest}, which could not be recorded"
        return f"no checksum is published; SHA-256 {digest}, {path.stat().st_size} bytes, recorded at this first load"
    if known != digest:
        raise BadFile(
            f"{path}: differs from when it was first loaded; delete it, or delete {record.name} if that is right"
        )
    return "no checksum is published; unchanged since it was first loaded"
