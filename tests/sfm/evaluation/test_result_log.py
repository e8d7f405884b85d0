from __future__ import annotations

import pytest

from sfm.errors import BadFile
from sfm.evaluation.result_log import ResultLog, result_id


def test_results_come_back(tmp_path) -> None:
    log = ResultLog(tmp_path / "new" / "log.jsonl")
    assert log.read(["a"]) == {}
    log.append({"a": {"x": [1.5, None]}, "b": {"x": []}})
    log.append({})
    assert ResultLog(log.path).read(["a", "c"]) == {"a": {"id": "a", "x": [1.5, None]}}


def test_a_line_that_was_cut_short_counts_as_absent(tmp_path) -> None:
    path = tmp_path / "log.jsonl"
    ResultLog(path).append({"a": {"x": 1}, "b": {"x": 2}})
    path.write_bytes(path.read_bytes()[:-5])
    log = ResultLog(path)
    assert log.read(["a", "b"]).keys() == {"a"}
    log.append({"b": {"x": 3}})
    assert log.read(["a", "b"])["b"]["x"] == 3


def test_what_is_no_result_is_passed_over(tmp_path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('[1]\n{"id": 3}\nnull\n{"no": "id"}\n\xff\n{"id": "a", "x": 1}\n', encoding="latin-1")
    assert ResultLog(path).read(["a"])["a"]["x"] == 1


def test_ids_tell_what_a_result_depends_on() -> None:
    assert result_id({"a": 1, "b": 2}, [0.5]) == result_id({"b": 2, "a": 1}, [0.5])
    assert result_id({"a": 1}, [0.5]) != result_id({"a": 1}, [0.25])


def test_unwritable_place_is_one_line(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadFile, match="cannot be written"):
        ResultLog(tmp_path / "file" / "log.jsonl")
