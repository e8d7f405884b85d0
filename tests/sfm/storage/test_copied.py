from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from sfm.errors import BadFile
from sfm.storage.database import FeatureDatabase
from sfm.types import CameraPrior, ImageRecord, StageSummary

CAMERA = CameraPrior("SIMPLE_RADIAL", np.array([500.0, 320, 240, 0]), False, "x")
RECORDS = [ImageRecord(name, 640, 480, CAMERA, name) for name in ("a.jpg", "b.jpg")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with FeatureDatabase.open(tmp_path / "features.h5") as db:
        db.write_images(RECORDS)
        db.write_copies({"c.jpg": "b.jpg", "x/a.jpg": "a.jpg"})
        db.commit("images", fingerprint="f", provenance={}, summary=StageSummary("images", {}, 0.0))
    return tmp_path / "features.h5"


def copies(path: Path) -> dict[str, str]:
    with FeatureDatabase.open(path, "r") as db:
        return db.read_copies()


def test_copies_are_kept(path: Path) -> None:
    assert copies(path) == {"c.jpg": "b.jpg", "x/a.jpg": "a.jpg"}


def test_older_files_have_none(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["copies"]
    assert copies(path) == {}


@pytest.mark.parametrize(("column", "value"), [("image_idx", 2), ("name", "../c.jpg"), ("name", "a.jpg")])
def test_copies_of_nothing_or_outside_are_damage(path: Path, column: str, value: object) -> None:
    with h5py.File(path, "a") as file:
        file["copies"][column][0] = value
    with pytest.raises(BadFile, match="copies"):
        copies(path)
