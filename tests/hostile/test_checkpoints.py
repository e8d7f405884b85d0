"""Weights that would run code, unpack without end, or declare more than they hold."""

from __future__ import annotations

import copy
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import sfm.matchers.loftr.matcher  # noqa: F401  (once, not in every child)
from sfm.matchers.loftr.config import COMPACT
from tests.support.hostile_readers import READERS
from tests.support.read_limits import REFUSED, attempt, guarded

Said = Callable[[str], str]
READER = "checkpoint-zip"  # reads the file w.*, of whatever kind


class Shell:
    """What a pickle makes of this is a call of the shell."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("name", ["w.ckpt", "w.pth", "w.bin", "w.safetensors"])
@pytest.mark.parametrize("how", ["plain", "zip", "old", "numpy"])
def test_no_code_runs(name: str, how: str, tmp_path: Path, said: Said) -> None:
    mark, path = tmp_path / "ran", tmp_path / name
    values = {"state_dict": {"backbone": Shell(mark)}}
    if how == "plain":
        path.write_bytes(pickle.dumps(values))
    elif how == "numpy":
        with path.open("wb") as file:
            np.save(file, np.array([values], object), allow_pickle=True)
    else:
        torch.save(values, path, _use_new_zipfile_serialization=how == "zip")
    assert said(READER) == REFUSED
    assert not mark.exists()


def test_a_bomb_is_not_unpacked(tmp_path: Path, said: Said) -> None:
    """A hundred names of one compressed member: 6 GB of 64 kB."""
    with zipfile.ZipFile(tmp_path / "w.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", pickle.dumps({}))
        archive.writestr("w/data/0", bytes(1 << 26))
        for i in range(1, 100):
            again = copy.copy(archive.getinfo("w/data/0"))
            again.filename = f"w/data/{i}"
            archive.filelist.append(again)
    assert said(READER) == REFUSED


def test_a_bomb_that_lies_of_its_size_is_not_unpacked(tmp_path: Path, said: Said) -> None:
    path = tmp_path / "w.ckpt"
    torch.save({"state_dict": {"a": torch.zeros(4)}}, path)
    names = [info.filename for info in zipfile.ZipFile(path).infolist()]
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in names}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, bytes(1 << 24) if name.endswith("data/0") else content)
    data = bytearray(path.read_bytes())
    while (at := data.find(struct.pack("<I", 1 << 24))) >= 0:
        data[at : at + 4] = struct.pack("<I", 16)
    path.write_bytes(bytes(data))
    assert said(READER) == REFUSED


@pytest.mark.parametrize("old", [False, True])
def test_tensors_larger_than_their_file_are_refused(old: bool, tmp_path: Path, said: Said) -> None:
    tensors = {"backbone.layer3_outconv.weight": torch.zeros(1).expand(10**12)}
    torch.save({"state_dict": tensors}, tmp_path / "w.ckpt", _use_new_zipfile_serialization=not old)
    assert said(READER) == REFUSED


@pytest.mark.parametrize(
    "value", [1, "text", [1], {}, {"a": 1}, {1: torch.zeros(1)}, {"state_dict": [torch.zeros(1)]}, None]
)
def test_what_is_no_state_dict_is_refused(value: Any, tmp_path: Path, said: Said) -> None:
    torch.save(value, tmp_path / "w.ckpt")
    assert said(READER) == REFUSED


@pytest.mark.parametrize("depth", [10_000, 200_000])
def test_deep_pickles_are_refused(depth: int, tmp_path: Path, said: Said) -> None:
    (tmp_path / "w.ckpt").write_bytes(b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".")
    assert said(READER) == REFUSED


def header(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text


def tensor(**members: Any) -> bytes:
    return json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | members}).encode()


SAFETENSORS = {
    "nothing": b"",
    "half a number": b"\0\0\0",
    "a header without end": header(b"{}", 2**63),
    "a header beyond the file": header(b"{}", 100),
    "no JSON": header(b"\xff" * 8),
    "JSON without end": header(b"[" * 100_000),
    "a tensor beyond the file": header(tensor()),
    "a tensor without end": header(tensor(shape=[10**12], data_offsets=[0, 4 * 10**12])),
    "a shape that wraps around": header(tensor(shape=[2**62, 4])) + bytes(16),
    "offsets that fall": header(tensor(data_offsets=[16, 0])) + bytes(16),
    "no such type": header(tensor(dtype="PICKLE")) + bytes(16),
    "metadata that is a list": header(b'{"__metadata__": []}'),
    "a configuration that is no JSON": header(b'{"__metadata__": {"config": "["}}'),
    "a configuration without end": header(json.dumps({"__metadata__": {"config": "[" * 50_000}}).encode()),
    "a configuration of others": header(json.dumps({"__metadata__": {"config": '{"__class__": 1}'}}).encode()),
}


@pytest.mark.parametrize("case", SAFETENSORS)
def test_safetensors_that_lie_are_refused(case: str, tmp_path: Path, said: Said) -> None:
    (tmp_path / "w.safetensors").write_bytes(SAFETENSORS[case])
    assert said(READER) == REFUSED


@pytest.mark.parametrize("value", [-1, 4096, 10**9])
def test_a_network_that_takes_all_memory_is_not_made(value: int, tmp_path: Path) -> None:
    def answers() -> str:
        found = []
        for field in sizes:
            config = json.dumps(asdict(COMPACT) | {field: value})
            save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors", metadata={"config": config})
            found.append(attempt(READERS[READER].read, tmp_path))
        return " ".join(found)

    sizes = [name for name, size in asdict(COMPACT).items() if type(size) is int]
    assert guarded(answers) == " ".join([REFUSED] * len(sizes))


def test_a_file_of_holes_is_not_read(tmp_path: Path, said: Said) -> None:
    for name in ("w.ckpt", "w.safetensors"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(1 << 42)
        assert said(READER) == REFUSED
        (tmp_path / name).unlink()


@pytest.mark.parametrize("old", [False, True])
def test_a_cut_checkpoint_is_refused(old: bool, tmp_path: Path, said: Said) -> None:
    path = tmp_path / "w.ckpt"
    torch.save({"state_dict": {"a": torch.zeros(400)}}, path, _use_new_zipfile_serialization=not old)
    whole = path.read_bytes()
    for tenth in range(10):
        path.write_bytes(whole[: len(whole) * tenth // 10])
        assert said(READER) == REFUSED
