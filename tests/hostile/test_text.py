"""Text, tables and JSON that lie: pairs, the challenge's tables, run.json, journals and what else a run leaves."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.read_limits import READ, REFUSED

Said = Callable[[str], str]
Whole = Callable[[str], Path]
LONG = 30_000_000  # characters

PAIRS: dict[str, bytes] = {
    "no such photo": b"a.jpg x.jpg\n",
    "a name that climbs": b"a.jpg ../../../etc/passwd\n",
    "a name from the root": b"/etc/passwd a.jpg\n",
    "one name": b"a.jpg\n",
    "a photo with itself": b"a.jpg a.jpg\n",
    "no text": bytes(range(256)),
    "a line without end": b"a" * LONG,
    "words without end": b"a " * LONG,
    "NULs": bytes(LONG),
    "half a letter": b"a.jpg \xc3",
    "a terminal's escape": b"a.jpg \x1b]0;x\x07.jpg\n",
}


@pytest.mark.parametrize("case", PAIRS)
def test_lists_of_pairs_that_lie_are_refused(case: str, tmp_path: Path, said: Said) -> None:
    (tmp_path / "pairs.txt").write_bytes(PAIRS[case])
    assert said("pairs") == REFUSED


K, T = "300 0 160 0 300 120 0 0 1", "1 0 0 1 0 1 0 0 0 0 1 0 0 0 0 1"
POSED = {
    "no such photo": f"a.jpg ../x 0 0 {K} {K} {T}",
    "too few values": f"a.jpg b/e.jpg 0 0 {K} {K}",
    "nan": f"a.jpg b/e.jpg 0 0 {K} {K} {T}".replace("300", "nan"),
    "infinity": f"a.jpg b/e.jpg 0 0 {K} {K} {T}".replace("300", "1e999"),
    "a turn of infinity": f"a.jpg b/e.jpg inf 0 {K} {K} {T}",
    "no rotation": f"a.jpg b/e.jpg 0 0 {K} {K} {T.replace('1', '2')}",
    "no camera": f"a.jpg b/e.jpg 0 0 {K.replace('1', '0')} {K} {T}",
    "a number without end": f"a.jpg b/e.jpg {'9' * 60_000} 0 {K} {K} {T}",
    "a line without end": "a " * LONG,
}


@pytest.mark.parametrize("case", POSED)
def test_posed_pairs_that_lie_are_refused(case: str, tmp_path: Path, said: Said) -> None:
    (tmp_path / "posed.txt").write_text(POSED[case])
    assert said("posed-pairs") == REFUSED


SCENE = "train/s/calibration.csv"
CHALLENGE: dict[str, tuple[str, str, str]] = {
    "a photo that climbs": (SCENE, "\na,", "\n../../a,"),
    "a photo from the root": (SCENE, "\na,", "\n/etc/a,"),
    "a photo of Windows": (SCENE, "\na,", "\nC:a,"),
    "no camera": (SCENE, "300", "-1"),
    "nan": (SCENE, "300", "nan"),
    "infinity": (SCENE, "0.5", "1e999"),
    "a photo twice": (SCENE, "\nb-c,", "\na,"),
    "a missing column": (SCENE, "rotation_matrix", "x"),
    "a quote without end": (SCENE, "\na,", '\n"a,'),
    "a value too much": (SCENE, "\na,", "\na,,"),
    "a scene that climbs": ("train/scaling_factors.csv", "\ns,", "\n../s,"),
    "a scale of nothing": ("train/scaling_factors.csv", "2.5", "0"),
    "a scale below nothing": ("train/scaling_factors.csv", "2.5", "-1"),
    "a scale of nan": ("train/scaling_factors.csv", "2.5", "nan"),
    "a batch that climbs": ("test.csv", "x;1,x,", "x;1,..,"),
    "a photo of a batch that climbs": ("test.csv", ",a,b", ",../a,b"),
    "a matrix of few numbers": ("submission.csv", "1 0 0 0 1", "1"),
    "a matrix of nan": ("submission.csv", "1 0 0 0 1", "nan 0 0 0 1"),
    "a line without end": ("submission.csv", "1 0 0 0 1", "1 " * LONG),
    "a field of many lines": ("test.csv", "x;1", '"' + "x\n" * 200_000),
}


@pytest.mark.parametrize("case", CHALLENGE)
def test_tables_that_lie_are_refused(whole: Whole, case: str, tmp_path: Path, said: Said) -> None:
    whole("imc2022")
    name, old, new = CHALLENGE[case]
    text = (tmp_path / name).read_text()
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new, 1))
    assert said("imc2022") == REFUSED


def without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda record: record.pop(name)


def put(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda record: record.__setitem__(name, value)


RECORD: dict[str, Callable[[dict[str, Any]], object]] = {
    "no stages": without("stages"),
    "no figures": without("registered"),
    "stages that are text": put("stages", "all"),
    "a stage that is text": put("stages", ["matching"]),
    "a stage without a time": put("stages", [{"stage": "matching"}]),
    "a stage of infinite time": put("stages", [{"stage": "matching", "seconds": float("inf")}]),
    "a figure of nan": put("mean_track_length", float("nan")),
    "a figure without end": put("points3D", 10**400),
    "a figure that is text": put("registered", "all"),
    "a model that climbs": put("models", [{"path": "../../x", "images": 3}]),
    "a model from the root": put("models", [{"path": "/etc", "images": 3}]),
    "a model that is not there": put("models", [{"path": "sparse/7", "images": 3}]),
    "a model of too long a name": put("models", [{"path": "x" * 300, "images": 3}]),
    "a folder of too long a name": put("images_folder", "/" + "x" * 300),
    "a folder without end": put("images_folder", "/x" * 3000),
    "a folder with a NUL": put("images_folder", "/x\0"),
    "a folder that is no text": put("images_folder", 3),
    "a photo that is no text": put("unregistered", [{"image": 3, "reason": "none"}]),
    "a model without a path": put("models", [{"images": 3}]),
    "a photo without a reason": put("unregistered", [{"image": "a.jpg"}]),
    "a warning that is a number": put("warnings", [5]),
    "a warning without a text": put("warnings", [{"sign": "high error"}]),
    "a warning of before that is a number": put("doubts", [5]),  # as 0.1.0
    "options that are text": put("options", {"matching": "x"}),
    "versions that are text": put("versions", "x"),
    "a matcher that is a list": put("matcher", []),
}


@pytest.mark.parametrize("case", RECORD)
def test_a_run_json_that_lies_is_refused(whole: Whole, case: str, tmp_path: Path, said: Said) -> None:
    whole("run-json")
    path = tmp_path / "run.json"
    record = json.loads(path.read_text())
    RECORD[case](record)
    path.write_text(json.dumps(record))
    assert said("run-json") == REFUSED


JSON = {
    "nothing": b"",
    "a list": b"[]",
    "nesting without end": b"[" * 1_000_000,
    "objects without end": b'{"a":' * 1_000_000,
    "a number without end": b"9" * 1_000_000,
    "much text": b'"' + b"a" * (80 << 20) + b'"',
    "no text": bytes(range(256)),
    "half a pair": b'{"stages": [], "images_folder": "\\ud800"}',
}


@pytest.mark.parametrize("case", JSON)
def test_json_without_sense_is_refused(case: str, tmp_path: Path, said: Said) -> None:
    (tmp_path / "run.json").write_bytes(JSON[case])
    assert said("run-json") == REFUSED


@pytest.mark.parametrize("case", JSON)
@pytest.mark.parametrize(("reader", "name"), [("view-state", "state.json"), ("result-log", "pairs.jsonl")])
def test_what_only_saves_work_is_passed_over(reader: str, name: str, case: str, tmp_path: Path, said: Said) -> None:
    (tmp_path / name).write_bytes(JSON[case])
    assert said(reader) == READ


def test_a_page_runs_no_script_of_a_strangers_names(whole: Whole, tmp_path: Path) -> None:
    from sfm.report.run import write_report

    whole("run-json")
    path, script = tmp_path / "run.json", "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    record = json.loads(path.read_text())
    record |= {"images_folder": f"/{script}", "command": script, "error": script, "versions": {script: script}}
    path.write_text(json.dumps(record))
    page = write_report(tmp_path).read_text()
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert "<img src=x" not in page


JOURNALS: dict[str, Callable[[bytes], bytes]] = {
    "a page far beyond": lambda body: body[:24] + (1 << 50).to_bytes(8, "little") + body[32:],
    "a size without end": lambda body: body[:16] + (1 << 60).to_bytes(8, "little") + body[24:],
    "no size": lambda body: body[:16] + bytes(8) + body[24:],
    "pages of zeros": lambda body: body[:32] + bytes(4096) + body[32 + 4096 :],
}


@pytest.mark.parametrize("case", JOURNALS)
def test_a_journal_of_a_stranger_is_refused(whole: Whole, case: str, tmp_path: Path, said: Said) -> None:
    whole("journal")
    path = tmp_path / "features.h5.journal"
    body = JOURNALS[case](path.read_bytes()[:-32])
    path.write_bytes(body + hashlib.sha256(body).digest())
    assert said("journal") == REFUSED
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 1 << 31


def test_a_journal_of_holes_is_not_read(whole: Whole, tmp_path: Path, said: Said) -> None:
    whole("journal")
    os.truncate(tmp_path / "features.h5.journal", 1 << 40)
    assert said("journal") == REFUSED
