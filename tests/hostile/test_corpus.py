"""Files that fuzzing found (benchmarks/fuzz.py): tests/hostile/corpus/READER/FILE--NUMBER, "/" in FILE as "__"."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.hostile_readers import READERS
from tests.support.read_limits import READ, REFUSED, attempt, guarded, replay

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(path for path in CORPUS.rglob("*--*") if path.is_file())


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_once_is_mended(path: Path, tmp_path: Path) -> None:
    assert replay(path.parent.name, path, tmp_path) in (READ, REFUSED)


@pytest.mark.parametrize("name", sorted(READERS.keys() - {"safetensors", "checkpoint-zip", "checkpoint-pickle"}))
def test_whole_files_are_read(name: str, tmp_path: Path) -> None:
    READERS[name].make(tmp_path)
    assert guarded(lambda: attempt(READERS[name].read, tmp_path)) == READ
