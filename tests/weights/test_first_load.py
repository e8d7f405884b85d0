"""A file whose checksum nobody publishes is held to that of its first load."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from sfm.errors import BadFile
from sfm.weights.first_load import held_to_first_load, record_of


def test_recorded_then_compared(tmp_path: Path):
    path = tmp_path / "w.ckpt"
    path.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert held_to_first_load(path) == (
        f"no checksum is published; SHA-256 {digest}, 7 bytes, recorded at this first load"
    )
    assert record_of(path).read_text() == f"{digest}  w.ckpt\n"
    assert held_to_first_load(path) == "no checksum is published; unchanged since it was first loaded"
    path.write_bytes(b"others")
    with pytest.raises(
        BadFile, match=r"w\.ckpt: differs from when it was first loaded; delete it, or delete w\.ckpt\.s"
    ):
        held_to_first_load(path)


@pytest.mark.parametrize("record", [b"", b"\xff\xfe", b"\n"])
def test_a_record_that_is_none_is_written_anew(record: bytes, tmp_path: Path):
    path = tmp_path / "w.ckpt"
    path.write_bytes(b"weights")
    record_of(path).write_bytes(record)
    assert "recorded at this first load" in held_to_first_load(path)


def test_a_folder_that_cannot_be_written(tmp_path: Path):
    path = tmp_path / "w.ckpt"
    path.write_bytes(b"weights")
    record_of(path).mkdir()
    assert held_to_first_load(path).endswith("which could not be recorded")
