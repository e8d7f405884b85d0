"""Same in, same out: runs of their own processes, compared bit for bit."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfm.cli import main as cli
from sfm.colmap.model_reader import read_models
from sfm.mapping.inputs import read_input
from sfm.options import MappingOptions, RefinementOptions
from sfm.refinement.checkpoint import Refined
from sfm.refinement.rounds import Refiner
from sfm.refinement.rounds import refine as refine_rounds
from sfm.storage.database import FeatureDatabase
from tests.support.folders import ROOT

pytestmark = pytest.mark.slow

OPTIONS = ("--weights", "compact", "--device", "cpu", "--offline", "--resize", "224", "--rounds", "1", "--no-report")
PINNED = "import os, runpy, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); sys.argv = sys.argv[1:]; "


def start(images: Path, out: Path, *, one_core: bool = False) -> subprocess.Popen[bytes]:
    program = str(ROOT / "reconstruct.py")
    words = ["-c", PINNED + "runpy.run_path(sys.argv[0], run_name='__main__')", program] if one_core else [program]
    command = [sys.executable, *words, str(images), str(out), *OPTIONS]
    all_cores = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT, env=all_cores)


def matches_digest(out: Path) -> str:
    """Hash of all matches, in the pairs' order."""
    digest = hashlib.sha256()
    with FeatureDatabase.open(out / "features.h5", "r") as db:
        for pair in db.read_pairs():
            matches = db.read_matches(pair)
            for column in (matches.points0, matches.points1, matches.confidence):
                digest.update(column.tobytes())
    return digest.hexdigest()


def model_files(out: Path, kind: str = "sparse") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / kind / "0").glob("*.bin"))}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, synthetic_scene) -> Path:
    """A folder of runs over the same four images: first and second alike, third on one core, fourth with the matches
    of the first and another seed."""
    root = tmp_path_factory.mktemp("repeatable")
    (root / "photos").mkdir()
    for i, image in enumerate(synthetic_scene.images[:4]):
        Image.fromarray(image).save(root / "photos" / f"{i}.png")
    pinnable = hasattr(os, "sched_setaffinity")
    together = [start(root / "photos", root / name) for name in ("first", "second")]
    together += [start(root / "photos", root / "third", one_core=pinnable)]
    assert [run.wait(300) for run in together] == [0, 0, 0]
    shutil.copytree(root / "first", root / "fourth")
    assert (
        cli.main([str(root / "photos"), str(root / "fourth"), *OPTIONS, "--seed", "1", "--stop-after", "mapping"]) == 0
    )
    return root


def test_two_runs_give_the_same_matches_and_models_bit_for_bit(runs):
    assert matches_digest(runs / "first") == matches_digest(runs / "second")
    assert model_files(runs / "first") == model_files(runs / "second")
    assert (runs / "first" / "points.ply").read_bytes() == (runs / "second" / "points.ply").read_bytes()


def test_one_core_gives_the_same_matches_and_model_bit_for_bit(runs):
    """But for the calibration of cameras of five images and more: it multiplies matrices in parts, one a core."""
    assert matches_digest(runs / "first") == matches_digest(runs / "third")
    assert model_files(runs / "first") == model_files(runs / "third")


def test_another_seed_gives_another_model_of_the_same_matches(runs):
    assert matches_digest(runs / "first") == matches_digest(runs / "fourth")
    assert model_files(runs / "first", "unrefined") != model_files(runs / "fourth", "unrefined")


def test_refinement_that_was_killed_gives_the_same_model_bit_for_bit(runs, tmp_path):
    """A model that was read holds its points in another order than the one that was written."""
    with FeatureDatabase.open(runs / "first" / "features.h5", "r") as db:
        data = read_input(db, known_intrinsics=False)
    (start,) = read_models(runs / "first" / "unrefined")

    def refine(rounds: int, folder: Path) -> Refined:
        refiner = Refiner(
            data,
            RefinementOptions(rounds=rounds),
            MappingOptions(),
            lambda name: np.array(Image.open(runs / "photos" / name).convert("L")),
        )
        return refine_rounds(refiner, start, folder)

    undisturbed = refine(3, tmp_path / "undisturbed")
    refine(2, tmp_path / "killed")  # all that a kill leaves of it
    killed = refine(3, tmp_path / "killed")
    assert killed.rounds == undisturbed.rounds == 3
    for name in ("images.bin", "points3D.bin", "cameras.bin"):
        files = [tmp_path / run / "state" / name for run in ("undisturbed", "killed")]
        assert files[0].read_bytes() == files[1].read_bytes()
