from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from sfm.errors import BadFile
from sfm.storage.database import FeatureDatabase
from sfm.types import CameraPrior, ImageRecord, StageSummary

CAMERA = CameraPrior("SIMPLE_RADIAL", np.array([500.0, 320, 240, 0]), False, "x")
PLAIN = ImageRecord("a.jpg", 640, 480, CAMERA, "0")
DEEP = ImageRecord("b.tif", 640, 480, CAMERA, "1", value_range=(-3.5, 29_888.0))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "features.h5", [DEEP, PLAIN])
    return tmp_path / "features.h5"


def write(path: Path, records: list[ImageRecord]) -> None:
    with FeatureDatabase.open(path) as db:
        db.write_images(records)
        db.commit("images", fingerprint="f", provenance={}, summary=StageSummary("images", {}, 0.0))


def ranges(path: Path) -> list[tuple[float, float] | None]:
    with FeatureDatabase.open(path, "r") as db:
        return [record.value_range for record in db.read_images()]


def test_ranges_of_values_are_kept(path: Path) -> None:
    assert ranges(path) == [None, (-3.5, 29_888.0)]
    write(path, [PLAIN, replace(DEEP, value_range=None)])
    assert ranges(path) == [None, None]


def test_older_files_have_none(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["value_ranges"], file["positions"]
    assert ranges(path) == [None, None]


@pytest.mark.parametrize(("column", "value"), [("image_idx", 2), ("range", (5.0, 5.0)), ("range", (np.nan, 5.0))])
def test_ranges_of_no_image_or_without_extent_are_damage(path: Path, column: str, value: object) -> None:
    with h5py.File(path, "a") as file:
        file["value_ranges"][column][0] = value
    with pytest.raises(BadFile, match="value_ranges"):
        ranges(path)
