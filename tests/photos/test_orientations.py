"""The same photos, stored in each of the eight EXIF orientations: the same matches bit for bit, the same model."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from sfm.cli.main import main
from sfm.storage.database import FeatureDatabase
from sfm.types import ImagePair
from tests.support.odd_photos import turned

pytestmark = pytest.mark.slow

QUICK = ("--weights", "compact", "--device", "cpu", "--offline", "--resize", "160", "--turns", "off", "--no-report")
MORE = ("--no-refine", "--threads", "1")  # one thread of the mapper repeats itself bit for bit
NAMES = ("a.png", "b.png", "c.png")  # whatever the format: content counts


def run(pictures: list[np.ndarray], folder: Path, orientation: int) -> Path:
    """The results of three photos that are stored in this orientation."""
    (folder / "photos").mkdir(parents=True)
    kind, how = (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True}))[orientation % 3]
    for name, picture in zip(NAMES, pictures, strict=False):
        turned(orientation, kind, **how)(folder / "photos" / name, picture)
    assert main([str(folder / "photos"), str(folder / "out"), *QUICK, *MORE]) in (
        0,
        4,
    )  # a model this small may be flagged
    return folder / "out"


@pytest.fixture(scope="module")
def upright(pictures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of photos that need no turn."""
    return run(pictures, tmp_path_factory.mktemp("upright"), 1)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_same_matches_and_same_model(pictures, upright: Path, tmp_path: Path, orientation: int) -> None:
    out = run(pictures, tmp_path, orientation)
    with (
        FeatureDatabase.open(upright / "features.h5", "r") as expected,
        FeatureDatabase.open(out / "features.h5", "r") as found,
    ):
        for pair in (ImagePair(*names) for names in combinations(NAMES, 2)):
            assert len(expected.read_matches(pair)) > 50
            for column in ("points0", "points1", "confidence", "cells0", "cells1"):
                np.testing.assert_array_equal(
                    getattr(found.read_matches(pair), column), getattr(expected.read_matches(pair), column)
                )
    model, other = (pycolmap.Reconstruction(path / "sparse" / "0") for path in (upright, out))
    assert model.num_reg_images() == other.num_reg_images() == 3
    assert model.num_points3D() == other.num_points3D()
    for name in NAMES:
        a, b = (one.find_image_with_name(name).cam_from_world().matrix() for one in (model, other))
        np.testing.assert_allclose(a, b, atol=1e-6)
