"""Disks that are full."""

from __future__ import annotations

import pytest

from sfm.errors import BadFile
from sfm.pipeline import stages
from sfm.pipeline.run import reconstruct
from tests.support.arc_scene import (
    OPTIONS,
)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "out/x"), "out/x: No space left on device; what was done is kept"),
        (
            RuntimeError("[sqlite3_utils.h:1] SQLite error: disk I/O error"),
            r"database.db: cannot be written \(disk I/O",
        ),
        (RuntimeError("No registered database factory succeeded."), r"database.db: cannot be written \(disk full\?\)"),
    ],
)
def test_full_disks_are_one_line(images, tmp_path, monkeypatch, error, words):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr(stages.mapping, "run", failing)
    with pytest.raises(BadFile, match=words):
        reconstruct(images, tmp_path / "out", OPTIONS)


def test_other_errors_stay_what_they_are(images, tmp_path, monkeypatch):
    def failing(*_, **__):
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(stages.mapping, "run", failing)
    with pytest.raises(RuntimeError, match="a bug of ours"):
        reconstruct(images, tmp_path / "out", OPTIONS)
