"""The database's HDF5 file itself: how it is made, and by what it is known."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py

from sfm.errors import BadFile
from sfm.storage.hdf5_columns import writing
from sfm.storage.journal import replace_durably
from sfm.storage.schema import SCHEMA_VERSION

LIBVER = ("v108", "v108")  # superblock 2: no "open for writing" flag that a killed process would leave behind
REMEDY = "restore it from a copy, or delete it to start afresh"
_FORMAT = "loftr-sfm"


def new_path(path: Path) -> Path:
    """Where a file that will replace the database is written."""
    return path.with_name(path.name + ".new")


def create(path: Path) -> None:
    """Makes an empty database."""
    temporary = new_path(path)
    with writing(path):
        with h5py.File(temporary, "w", libver=LIBVER) as file:
            file.attrs.update({"format": _FORMAT, "schema": SCHEMA_VERSION})
        replace_durably(temporary, path)


def committed_size(path: Path, head: bytes, size: int) -> int:
    """End of the file by HDF5's superblock (version 2, 8-byte addresses). head: its first bytes. size: its size now."""
    if head[:8] != b"\x89HDF\r\n\x1a\n" or head[8] != 2 or head[9] != 8:
        raise BadFile(f"{path}: not a feature database of this program; {REMEDY}")
    end: int = struct.unpack_from("<Q", head, 28)[0]
    if end > size:
        raise BadFile(f"{path}: truncated ({size} of {end} bytes); {REMEDY}")
    return end


def check_schema(path: Path, file: h5py.File) -> None:
    """BadFile unless the file is of this program and of this version of the schema."""
    found = file.attrs.get("format"), int(file.attrs.get("schema", 0))
    if found != (_FORMAT, SCHEMA_VERSION):
        raise BadFile(
            f"{path}: {found[0]} schema {found[1]}, this program reads {_FORMAT} schema {SCHEMA_VERSION}; "
            "use the version that wrote it, or delete it to start afresh"
        )
