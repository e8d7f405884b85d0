"""A run by its name and a file of weights: from images to tracks, and two images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sfm
from sfm.two_view import match_images
from tests.support.efficient_loftr import matching_state, save_checkpoint, speckle

STEP = 32  # px between images: a cell of attention, so that random features are the same


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images/0.png, 1.png, 2.png: the same scene, each STEP further; tiny.ckpt."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "images").mkdir()
    scene = speckle(192, 256 + 2 * STEP, 8)
    for k in range(3):
        Image.fromarray(scene[:, k * STEP : k * STEP + 256]).save(folder / "images" / f"{k}.png")
    save_checkpoint(folder / "tiny.ckpt", matching_state())
    return folder


def moved(points0: np.ndarray, points1: np.ndarray, images: int) -> np.ndarray:
    """(M,) px: how far matches are from where the scene went over so many images."""
    return np.abs(points0 - points1 - (images * STEP, 0)).max(axis=1)


def test_a_run_reaches_tracks_through_cells(folder: Path) -> None:
    options = {"matcher": "efficient-loftr", "weights": str(folder / "tiny.ckpt"), "resize": 0, "device": "cpu"}
    with sfm.open_run(str(folder / "images"), str(folder / "out"), **options) as run:
        run.run_stage("matching")
        pairs = {(pair.name0, pair.name1): run.db.read_matches(pair) for pair in run.db.read_pairs()}
        matches = pairs["0.png", "1.png"]
        assert len(matches) >= 40
        right = moved(matches.points0, matches.points1, 1) < 1
        assert right.sum() >= 30
        assert (matches.cells0[right] - matches.cells1[right] == STEP // 8).mean() > 0.9
        assert run.run_stage("tracks").counts["tracks"] > 0


def test_two_images(folder: Path) -> None:
    paths = [str(folder / "images" / name) for name in ("0.png", "1.png")]
    result = match_images(*paths, matcher="efficient-loftr", weights=str(folder / "tiny.ckpt"), resize=0, device="cpu")
    found = result.matches
    assert (moved(found.points0, found.points1, 1) < 1).sum() >= 30
