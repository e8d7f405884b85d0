"""A model between the rounds of its refinement, and how it is kept on disk, so that a killed run loses one round."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from sfm.colmap.model_reader import has_foreign, read_reconstruction
from sfm.colmap.model_writer import save_model
from sfm.system.hashing import named_files_digest
from sfm.system.untrusted_files import NUMBER, has_shape, read_arrays, read_json, refuse_holes
from sfm.types import Float64

COUNTS = ("rounds", "num_registered", "num_rejected", "moved", "settled")  # what of a state is kept as JSON


@dataclass(frozen=True, slots=True)
class Refined:
    """A model after some rounds. covariances: by image id (P, 2, 2) px² of each of its points2D.

    moved: median over observations of how far the first round moved them, standard deviations
    of a match. settled: the last one moved few.
    """

    model: pycolmap.Reconstruction
    covariances: dict[int, Float64]
    rounds: int = 0
    num_registered: int = 0
    num_rejected: int = 0
    moved: float = 0.0
    settled: bool = False


def rounds_folder(out: Path, key: str) -> Path:
    """OUT/.refinement/KEY, where rounds are kept. key: of all that they depend on; rounds of other keys go."""
    folder = out / ".refinement" / key
    for other in folder.parent.glob("*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def save_round(state: Refined, folder: Path) -> None:
    """Keeps a state in a folder, in place of the one before; whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".round-", dir=folder) as scratch:
        fresh = Path(scratch) / "state"
        fresh.mkdir()
        save_model(state.model, fresh)
        arrays: dict[str, Any] = {str(i): own for i, own in state.covariances.items()}
        np.savez(fresh / "covariances.npz", **arrays)
        counts = {name: getattr(state, name) for name in COUNTS}
        (fresh / "counts.json").write_text(json.dumps({**counts, "digest": digest_of_state(fresh)}), encoding="utf-8")
        if (folder / "state").exists():
            os.replace(folder / "state", Path(scratch) / "before")
        os.replace(fresh, folder / "state")


def digest_of_state(folder: Path) -> str:
    """Hash of a kept model and its covariances."""
    refuse_holes(*folder.glob("*"))
    return named_files_digest(sorted([*folder.glob("*.bin"), *folder.glob("*.npz")]))


def load_round(folder: Path, names: Collection[str]) -> Refined | None:
    """The state that an interrupted run of images of these names kept, None where there is none that is whole."""
    try:
        counts = read_json(folder / "state" / "counts.json")
        same = counts.pop("digest") == digest_of_state(folder / "state")
        if not same or not has_shape(counts, dict.fromkeys(COUNTS, NUMBER)):
            return None
        model = read_reconstruction(folder / "state")
        arrays = read_arrays(folder / "state" / "covariances.npz")
        covariances = {int(name): np.asarray(array, np.float64) for name, array in arrays.items()}
        shapes = {i: (len(model.images[i].points2D), 2, 2) for i in model.reg_image_ids()}
        if {i: own.shape for i, own in covariances.items()} != shapes or has_foreign([model], names):
            return None
        return Refined(model, covariances, **counts)
    except Exception:  # whatever is wrong with it, it is made again
        return None
