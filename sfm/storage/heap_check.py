"""HDF5's global heaps, which hold text, looked at before HDF5 parses them: on one whose free space has no length it
never ends (seen with HDF5 1.14).

A heap is "GCOL", version 1, three zeros and its length (u64), then objects: number and references (u16 each), four
bytes, length (u64), and the object, to a multiple of 8. Number 0 is free space, whose length counts its header too.
HDF5 File Format Specification 3.0, section III.E.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

_HEAD = b"GCOL\1\0\0\0"
_LENGTH, _OBJECT = struct.Struct("<Q"), struct.Struct("<HH4xQ")
_METADATA = 1 << 16  # bytes; reads of more are of data
_LARGEST = 1 << 24  # bytes of one heap; the longest text that a run writes is a list of images and reasons


def check_heaps(block: memoryview, start: int, read: Callable[[int, int], bytes]) -> None:
    """OSError where a heap begins in a block that HDF5 reads at `start` and is damaged. read(offset, size): bytes."""
    if len(block) > _METADATA:
        return
    content, at = bytes(block), -1
    while (at := content.find(_HEAD, at + 1)) >= 0:
        (size,) = _LENGTH.unpack(read(start + at + 8, 8))
        if size > _LARGEST or not _ends(read(start + at, size)):
            raise OSError(f"the text at byte {start + at} is damaged")


def _ends(heap: bytes) -> bool:
    """Whether the objects of a heap fill it."""
    at = 16
    while at + _OBJECT.size <= len(heap):
        number, _, length = _OBJECT.unpack_from(heap, at)
        if number == 0 and length < _OBJECT.size:
            return False
        at += length if number == 0 else _OBJECT.size + -(-length // 8) * 8
    return at <= len(heap)


class CheckedFile(io.FileIO):
    """A file that HDF5 reads through h5py, and nothing writes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "r")

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer; OSError for a damaged heap."""
        view, start = memoryview(buffer).cast("B"), self.tell()
        num = super().readinto(view) or 0
        check_heaps(view[:num], start, self._at)
        self.seek(start + num)
        return num

    def _at(self, offset: int, size: int) -> bytes:
        self.seek(offset)
        data = bytearray(size)
        super().readinto(data)
        return bytes(data)
