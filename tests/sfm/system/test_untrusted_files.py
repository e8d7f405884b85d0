"""Bounds on strangers' text and JSON; links and names are in tests/hostile/test_links.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfm.errors import BadFile
from sfm.system.safe_paths import is_path
from sfm.system.untrusted_files import (
    NUMBER,
    bounded_lines,
    has_shape,
    parse_json,
    read_arrays,
    read_json,
    refuse_holes,
)


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (3, NUMBER),
        (float("nan"), NUMBER),
        ("x", str),
        ([], [str]),
        (["x", "y"], [str]),
        ({"a": 1, "b": "more"}, {"a": NUMBER}),
        ({}, {str: NUMBER}),
        ({"x": [{"a": "y"}]}, {str: [{"a": str}]}),
    ],
)
def test_values_of_a_shape(value: Any, shape: Any) -> None:
    assert has_shape(value, shape)


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        ("3", NUMBER),
        (10**19, NUMBER),
        (float("-inf"), NUMBER),
        (None, str),
        ("xy", [str]),
        (["x", 3], [str]),
        ({"b": 1}, {"a": NUMBER}),
        ([], {"a": NUMBER}),
        ({"a": 1, "b": "x"}, {str: NUMBER}),
    ],
)
def test_values_of_another_shape(value: Any, shape: Any) -> None:
    assert not has_shape(value, shape)


def test_paths_that_a_file_system_can_be_asked_for() -> None:
    assert all(map(is_path, ["", "/", "a/b.jpg", "ä" * 127, "C:\\x", "/a" * 2000]))
    assert not any(map(is_path, ["a\0", "x" * 256, "ä" * 128, "/a" * 2100, "\ud800"]))


def test_json_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[1, 2]")
    assert read_json(path, limit=6) == [1, 2]
    with pytest.raises(ValueError, match="longer than 5"):
        read_json(path, limit=5)
    with pytest.raises(ValueError, match="nested too deep"):
        parse_json("[" * 100_000)


def test_lines_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\ufeffone\ntwo")
    assert list(bounded_lines(path, "a list")) == ["one\n", "two"]
    path.write_text("x" * 20)
    with pytest.raises(BadFile, match="longer than 10 characters; give a list"):
        list(bounded_lines(path, "a list", limit=10))


def test_arrays_come_back_and_compressed_ones_do_not(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.arange(3))
    assert read_arrays(path)["a"].tolist() == [0, 1, 2]
    np.savez_compressed(path, a=np.zeros(1000))
    with pytest.raises(ValueError, match="compressed"):
        read_arrays(path)


def test_files_of_holes(tmp_path: Path) -> None:
    whole, holes = tmp_path / "whole", tmp_path / "holes"
    whole.write_bytes(bytes(1 << 20))
    with holes.open("wb") as file:
        file.write(b"head")
        file.truncate(1 << 36)
    refuse_holes(whole)
    with pytest.raises(BadFile, match="of which the disk holds"):
        refuse_holes(whole, holes)
    with pytest.raises(BadFile, match="is no file"):
        refuse_holes(tmp_path)
