"""A run's state and its files, each whole or not at all: last.pt, by which it goes on, and weights.safetensors."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from sfm.errors import BadFile
from sfm.matchers.loftr.model import LoFTR

LAST, WEIGHTS = "last.pt", "weights.safetensors"
VERSION = 2  # of what last.pt holds; 1 had another grouping of parameters, and no number


@dataclass
class RunState:
    """What a run is made of while it runs; saved and restored whole. average: the moving average of the weights.
    elapsed_s: over all sessions. evaluated: evaluations that are done."""

    model: LoFTR
    average: LoFTR
    optimiser: torch.optim.Optimizer
    step: int = 0
    elapsed_s: float = 0.0
    evaluated: int = 0


def save(state: RunState, out: Path) -> None:
    """Writes OUT/last.pt and OUT/weights.safetensors."""
    saved = {
        "version": VERSION,
        "model": state.model.state_dict(),
        "average": state.average.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "step": state.step,
        "elapsed_s": state.elapsed_s,
        "evaluated": state.evaluated,
    }
    part = out / f"{LAST}.part"
    torch.save(saved, part)
    os.replace(part, out / LAST)
    save_weights(state.average, out / WEIGHTS)


def resume(state: RunState, out: Path) -> None:
    """Restores the state from OUT/last.pt, in place. BadFile where that is of another version or another network."""
    path = out / LAST
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        version = saved.get("version", 1)
    except Exception as error:
        raise BadFile(f"{path}: not a checkpoint of a training; move it away to start again") from error
    if version != VERSION:
        raise BadFile(
            f"{path}: of another version of this program, which this one cannot carry on; give another --out, and "
            f"--init {out / WEIGHTS} to start from what was reached"
        )
    try:
        state.model.load_state_dict(saved["model"])
        state.average.load_state_dict(saved["average"])
        state.optimiser.load_state_dict(saved["optimiser"])
        state.step, state.elapsed_s, state.evaluated = saved["step"], saved["elapsed_s"], saved["evaluated"]
    except Exception as error:
        raise BadFile(f"{path}: a checkpoint of another network; move it away to start again") from error


def save_weights(model: LoFTR, path: Path) -> None:
    """Writes the weights with their configuration in the header; the file appears whole or not at all."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    part = path.with_name(path.name + ".part")
    save_file(tensors, part, metadata={"config": json.dumps(asdict(model.config))})
    os.replace(part, path)
