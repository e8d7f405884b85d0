from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sfm.match_graph import Candidates
from sfm.options import PairOptions
from sfm.pairs import stage
from sfm.pairs.base import ChosenPairs
from sfm.pairs.stage import run
from sfm.types import CameraRig, ImagePair, ImageRecord, StageSummary
from tests.support.image_sets import image_set

NAMES = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pairs.txt"
    path.write_bytes(text.encode())
    return path


class Store:
    """The methods of the feature database that the stage calls."""

    def __init__(self) -> None:
        self.pairs: tuple[ImagePair, ...] = ()
        self.candidates: Candidates | None = None

    def read_images(self) -> tuple[ImageRecord, ...]:
        return image_set(NAMES).records

    def read_copies(self) -> dict[str, str]:
        return {"copy.jpg": "a.jpg"}

    def summary(self, stage: str) -> StageSummary | None:
        return StageSummary(stage, {}, 0.0, (("corrupt.jpg", "the file is empty"),))

    def write_pairs(self, pairs: tuple[ImagePair, ...]) -> None:
        self.pairs = tuple(pairs)

    def write_candidates(self, candidates: Candidates | None) -> None:
        self.candidates = candidates


def test_run_writes_the_pairs_and_counts_what_was_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    db = Store()
    summary = run(db, PairOptions(str(written(tmp_path, "a.jpg b.jpg\ncorrupt.jpg b.jpg\ncopy.jpg b.jpg\n"))), tmp_path)
    assert db.pairs == (ImagePair("a.jpg", "b.jpg"),)
    assert summary.counts == {"images": 4, "pairs": 1, "dropped": 2}
    assert "2 line(s)" in caplog.text


IN_PLACE = tuple(np.eye(4)[:3] for _ in range(2))
TIMES = (("a.jpg", "c.jpg"), ("b.jpg", "d.jpg"))


def of(*names: str) -> set[ImagePair]:
    return {ImagePair(*name.replace("-", ".jpg ").split()) for name in (f"{n}.jpg" for n in names)}


def test_cameras_in_one_place_are_not_matched_with_each_other_at_one_time(tmp_path: Path) -> None:
    db = Store()
    summary = run(db, PairOptions(), tmp_path, rigs=[CameraRig(("x", "y"), TIMES, IN_PLACE, fixed=True)])
    assert set(db.pairs) == of("a-b", "a-d", "b-c", "c-d")
    assert summary.counts["pairs"] == 4
    run(db, PairOptions(), tmp_path, rigs=[CameraRig(("x", "y"), TIMES)])  # between others there is parallax
    assert len(db.pairs) == 6


def test_candidates_are_without_cameras_in_one_place_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.array([(0, 1), (0, 2), (1, 3), (2, 3)])
    found = Candidates(rows, np.ones(4, np.float32), np.zeros(4, np.int64), 9)
    chosen = ChosenPairs((ImagePair("a.jpg", "b.jpg"),), candidates=found)
    monkeypatch.setattr(stage, "choose", lambda spec, images: chosen)
    db = Store()
    run(db, PairOptions(), tmp_path, rigs=[CameraRig(("x", "y"), TIMES, IN_PLACE, fixed=True)])
    assert db.candidates is not None
    assert db.candidates.rows.tolist() == [[0, 1], [2, 3]]
    assert db.candidates.budget == 9


def test_images_in_a_row_follow_each_other_in_all_cameras_of_a_rig(tmp_path: Path) -> None:
    db = Store()
    run(db, PairOptions("sequential:1"), tmp_path)
    assert set(db.pairs) == of("a-b", "b-c", "c-d")
    run(db, PairOptions("sequential:1"), tmp_path, rigs=[CameraRig(("x", "y"), TIMES)])
    assert set(db.pairs) == of("a-b", "b-c", "c-d", "a-c", "b-d", "a-d")
