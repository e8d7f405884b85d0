from __future__ import annotations

import json
import math

import pytest

from sfm.errors import BadFile
from sfm.system.tables import aligned, write_json


def test_columns_are_aligned() -> None:
    assert aligned([("name", "n"), ("a", "100"), ("longer", "2")]) == "name      n\na       100\nlonger    2"


def test_sides_and_gap() -> None:
    assert aligned([("a", "b", "c"), ("aa", "bb", "cc")], "rlr", gap=1) == " a b   c\naa bb cc"
    assert aligned([("key", "a long text"), ("", "b")], "ll") == "key  a long text\n     b"


def test_json_is_plain(tmp_path) -> None:
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"auc": {5.0: 0.5}, "worst": math.inf, "tuple": (1, None, True, math.nan), "path": tmp_path})
    assert json.loads(path.read_text()) == {
        "auc": {"5": 0.5},
        "worst": None,
        "tuple": [1, None, True, None],
        "path": str(tmp_path),
    }
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_unwritable_place_is_one_line(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadFile, match="cannot be written"):
        write_json(tmp_path / "file" / "a.json", {})
