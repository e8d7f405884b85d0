from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from sfm.system.hashing import files_digest, json_bytes, json_digest, named_files_digest


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_digest_of_a_value_is_of_its_json():
    """These values are in databases that exist: what is committed with them must be found again."""
    assert json_digest(["a", 1, None, {"b": 0.5, "a": True}]) == sha256(b'["a", 1, null, {"a": true, "b": 0.5}]')
    assert json_digest({"b": 1, "a": 2}, sort_keys=False) == sha256(b'{"b": 1, "a": 2}')
    assert json_digest(Path("a/b")) == sha256(b'"a/b"')
    assert json_digest("\u00e9") == sha256(b'"\\u00e9"')
    assert json_bytes((1, "x")) == b'[1, "x"]'


def test_digest_of_files_is_of_their_contents_in_a_row(tmp_path):
    large = bytes(range(256)) * 8192  # 2 MiB
    (tmp_path / "a").write_bytes(large)
    (tmp_path / "b").write_bytes(b"end")
    assert files_digest([tmp_path / "a", tmp_path / "b"]) == sha256(large + b"end")
    assert files_digest([tmp_path / "b"], start=b"begin ") == sha256(b"begin end")
    assert files_digest([]) == sha256(b"")
    with pytest.raises(FileNotFoundError):
        files_digest([tmp_path / "c"])


def test_digest_of_named_files_is_of_their_names_too(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    one, two = (name + b"\0" + hashlib.sha256(content).digest() for name, content in ((b"a", b"1"), (b"b", b"2")))
    assert named_files_digest([tmp_path / "a", tmp_path / "b"]) == sha256(one + two)
    (tmp_path / "b").rename(tmp_path / "c")
    assert named_files_digest([tmp_path / "a", tmp_path / "c"]) != sha256(one + two)
