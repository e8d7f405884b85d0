from __future__ import annotations

from pathlib import Path

import pytest

from sfm.options import PairOptions
from sfm.pairs.stage import run
from sfm.types import ImagePair, ImageRecord, StageSummary
from tests.support.image_sets import image_set

NAMES = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pairs.txt"
    path.write_bytes(text.encode())
    return path


class Store:
    """The three methods of the feature database that the stage calls."""

    def __init__(self) -> None:
        self.pairs: tuple[ImagePair, ...] = ()

    def read_images(self) -> tuple[ImageRecord, ...]:
        return image_set(NAMES).records

    def summary(self, stage: str) -> StageSummary | None:
        return StageSummary(stage, {}, 0.0, (("corrupt.jpg", "the file is empty"),))

    def write_pairs(self, pairs: tuple[ImagePair, ...]) -> None:
        self.pairs = tuple(pairs)


def test_run_writes_the_pairs_and_counts_what_was_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    db = Store()
    summary = run(db, PairOptions(str(written(tmp_path, "a.jpg b.jpg\ncorrupt.jpg b.jpg\n"))), tmp_path)
    assert db.pairs == (ImagePair("a.jpg", "b.jpg"),)
    assert summary.counts == {"images": 4, "pairs": 1, "dropped": 1}
    assert "1 line(s)" in caplog.text
