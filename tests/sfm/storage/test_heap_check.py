from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest

from sfm.storage.heap_check import CheckedFile, check_heaps


def heap(*objects: tuple[int, int], size: int = 4096) -> bytes:
    """A heap with objects of a number and a length; the rest is zeros."""
    data = b"GCOL\1\0\0\0" + struct.pack("<Q", size)
    for number, length in objects:
        data += struct.pack("<HH4xQ", number, 1, length) + bytes(-(-length // 8) * 8 if number else max(length - 16, 0))
    return data.ljust(size, b"\0")


def check(content: bytes, start: int = 0, end: int | None = None) -> None:
    check_heaps(memoryview(content)[start:end], start, lambda at, size: content[at : at + size])


@pytest.mark.parametrize(
    "content", [b"", heap((0, 4080)), heap((1, 5), (2, 100), (0, 4080 - 24 - 120)), heap((1, 4064)), bytes(5000)]
)
def test_whole_heaps_pass(content: bytes) -> None:
    check(content)


@pytest.mark.parametrize(
    "content",
    [
        heap(),  # free space without a length: HDF5 never ends
        heap((1, 5), (0, 0)),
        heap((1, 5), (0, 8)),
        heap((1, 10_000)),
        heap((0, 10_000)),
        heap((1, 5), size=1 << 16)[:16] + struct.pack("<HH4xQ", 1, 1, 2**63),
        b"GCOL\1\0\0\0" + struct.pack("<Q", 1 << 60) + bytes(64),
        bytes(500) + heap((1, 5), (0, 0)),
    ],
)
def test_damaged_heaps_are_refused(content: bytes) -> None:
    with pytest.raises(OSError, match="is damaged"):
        check(content)


def test_the_part_that_is_not_read_is_looked_at_too() -> None:
    with pytest.raises(OSError, match="byte 100"):
        check(bytes(100) + heap((1, 3000), (0, 0)), 64, 200)


def test_much_data_is_not_searched() -> None:
    check(heap((0, 0)) + bytes(1 << 17))


def test_a_checked_file_is_read_as_any_other(tmp_path: Path) -> None:
    path, values = tmp_path / "a.h5", np.random.default_rng(0).random((5000, 3))
    with h5py.File(path, "w") as file:
        file["values"], file["text"] = values, np.array(["ä", "b" * 5000, ""], object)
        file.attrs["said"] = "something"
    with h5py.File(CheckedFile(path), "r") as file:
        assert (file["values"][()] == values).all()
        assert file["text"].asstr()[()].tolist() == ["ä", "b" * 5000, ""]
        assert file.attrs["said"] == "something"
