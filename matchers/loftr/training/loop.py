"""The training loop: exact synthetic pairs and real tracks in, weights out; resumes where it was stopped.

The length of a run is a time or a number of steps; the learning rate warms up and falls along a
cosine over that length. What is kept is the exponential moving average of the weights.
"""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sfm.errors import BadFile
from sfm.matchers.loftr.config import COARSE_STRIDE, FINE_STRIDE
from sfm.matchers.loftr.fine_matching import FineOffsets, fine_offsets, padded_fine_map, windows_at
from sfm.matchers.loftr.model import LoFTR
from sfm.matchers.loftr.training.losses import coarse_loss, fine_loss, sparse_coarse_loss
from sfm.matchers.loftr.training.processes import Processes
from sfm.matchers.loftr.training.supervision import Supervision, nearest_cells, supervise
from sfm.system.progress import progress_bar
from sfm.system.safe_paths import refuse_links

WRITTEN = ("last.pt", "last.pt.part", "weights.safetensors", "weights.safetensors.part", "log.csv")


@dataclass(frozen=True, slots=True)
class DenseBatch:
    """B pairs with exact warps. image0, image1: (B, 1, H, W) f32; warp01, warp10: (B, H/8, W/8, 2) f32, NaN unseen.
    known0, known1: (B, H/8, W/8) bool, where that is certain; None where it is everywhere."""

    image0: Tensor
    image1: Tensor
    warp01: Tensor
    warp10: Tensor
    known0: Tensor | None = None
    known1: Tensor | None = None


@dataclass(frozen=True, slots=True)
class SparseBatch:
    """B pairs with true points. image0, image1: (B, 1, H, W) f32; points0, points1: (M, 2) f32 px; b_ids: (M,)."""

    image0: Tensor
    image1: Tensor
    points0: Tensor
    points1: Tensor
    b_ids: Tensor


Batch = DenseBatch | SparseBatch


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """out: folder of checkpoints. hours: length of the whole run, over all its sessions; steps: its length in steps,
    0 when the time decides. Rates: of new layers and of the pretrained backbone. fine_matches: true matches refined
    per pair. ema: decay of the averaged weights. checkpoint_s: seconds between checkpoints. evaluations: how often
    `evaluate` is called in the run, the end included. processes: those that train together."""

    out: Path
    hours: float = 2.0
    steps: int = 0
    learning_rate: float = 1e-3
    backbone_rate: float = 3e-4
    warmup_steps: int = 100
    fine_matches: int = 192
    fine_weight: float = 1.0
    ema: float = 0.998
    device: str = "cpu"
    checkpoint_s: float = 120.0
    evaluations: int = 0
    processes: Processes = field(default_factory=Processes)


@dataclass
class _State:
    """What a run is made of while it runs; saved and restored whole."""

    model: LoFTR
    average: LoFTR
    optimiser: torch.optim.Optimizer
    step: int = 0
    elapsed_s: float = 0.0
    evaluated: int = 0  # evaluations that are done


def train(
    model: LoFTR,
    batches: Callable[[int], Iterator[Batch]],
    options: TrainingOptions,
    *,
    on_checkpoint: Callable[[], None] = lambda: None,
    evaluate: Callable[[LoFTR, int], None] = lambda average, step: None,
) -> Path:
    """Trains until the time is up, the steps are done or the stream ends, and returns the weights' file.

    batches(step) gives the stream from that step on, so that a resumed run goes on where it stopped.
    Writes last.pt (all that resuming needs), weights.safetensors (the average) and log.csv to options.out.
    on_checkpoint: called when these are written. evaluate: called with the average now and then; it leaves it as it is.
    Both in the first process only.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    refuse_links(options.out, WRITTEN)
    state, group = _start(model, options), options.processes
    since, session_start = time.monotonic(), time.monotonic() - state.elapsed_s
    losses: list[tuple[float, float]] = []
    progress = progress_bar(options.steps or None, desc="training", unit="step", initial=state.step)
    with _kept_when_interrupted(state, options), progress as bar:
        for batch in batches(state.step):
            state.elapsed_s = time.monotonic() - session_start
            by_time = group.same(state.elapsed_s, options.device) / (3600 * options.hours)
            done = state.step / options.steps if options.steps else by_time
            if done >= 1:
                break
            if state.evaluated < 1 + int(done * options.evaluations):
                state.evaluated = 1 + int(done * options.evaluations)
                _evaluate(state, evaluate, options)
            losses.append(_step(state, batch, done, options))
            bar.update()
            if time.monotonic() - since > options.checkpoint_s:
                _checkpoint(state, losses, options, on_checkpoint)
                losses, since = [], time.monotonic()
    _evaluate(state, evaluate, options)
    _checkpoint(state, losses, options, on_checkpoint)
    return options.out / "weights.safetensors"


@contextmanager
def _kept_when_interrupted(state: _State, options: TrainingOptions) -> Iterator[None]:
    """Ctrl-C keeps the steps since the last checkpoint; in the middle of a step, those before it."""
    try:
        yield
    except KeyboardInterrupt:
        if options.processes.is_first:
            _save(state, options)
        raise


def _evaluate(state: _State, evaluate: Callable[[LoFTR, int], None], options: TrainingOptions) -> None:
    if options.processes.is_first and options.evaluations:
        evaluate(state.average, state.step)


def _checkpoint(
    state: _State, losses: list[tuple[float, float]], options: TrainingOptions, on_checkpoint: Callable[[], None]
) -> None:
    if not options.processes.is_first:
        return
    _save(state, options)
    if losses:
        _log(state, losses, options)
    on_checkpoint()


def _start(model: LoFTR, options: TrainingOptions) -> _State:
    device = torch.device(options.device)
    model = model.to(device).train()
    average = LoFTR(model.config).to(device)
    average.load_state_dict(model.state_dict())
    backbone = {
        id(p)
        for name, p in model.backbone.named_parameters()
        if name.startswith(("skip1", "stem", "down", "block", "fusion"))
    }
    groups = [
        {"params": [p for p in model.parameters() if id(p) not in backbone], "rate": options.learning_rate},
        {"params": [p for p in model.parameters() if id(p) in backbone], "rate": options.backbone_rate},
    ]
    state = _State(model, average, torch.optim.AdamW(groups, lr=0.0, weight_decay=0.01, betas=(0.9, 0.98)))
    last = options.out / "last.pt"
    if last.exists():
        _resume(state, last)
    return state


def _resume(state: _State, path: Path) -> None:
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        state.model.load_state_dict(saved["model"])
        state.average.load_state_dict(saved["average"])
        state.optimiser.load_state_dict(saved["optimiser"])
        state.step, state.elapsed_s = saved["step"], saved["elapsed_s"]
        state.evaluated = saved.get("evaluated", 0)
    except Exception as error:
        raise BadFile(f"{path}: not a checkpoint of this network's training; move it away to start again") from error


def _step(state: _State, batch: Batch, done: float, options: TrainingOptions) -> tuple[float, float]:
    factor = min(1.0, (state.step + 1) / options.warmup_steps) * 0.5 * (1 + math.cos(math.pi * done))
    for group in state.optimiser.param_groups:
        group["lr"] = group["rate"] * factor
    coarse, fine = batch_losses(state.model, batch, options)
    state.optimiser.zero_grad(set_to_none=True)
    (coarse + options.fine_weight * fine).backward()  # type: ignore[no-untyped-call]
    options.processes.average(p.grad for p in state.model.parameters() if p.grad is not None)
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
    if torch.isfinite(norm):
        state.optimiser.step()
    state.step += 1
    decay = min(options.ema, (state.step + 1) / (state.step + 10))
    with torch.no_grad():
        for mean, value in zip(state.average.parameters(), state.model.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
        for old, new in zip(state.average.buffers(), state.model.buffers(), strict=True):
            old.copy_(new)  # running statistics are averages already
    return coarse.item(), fine.item()


def batch_losses(model: LoFTR, batch: Batch, options: TrainingOptions) -> tuple[Tensor, Tensor]:
    """Coarse and fine loss of a batch; the fine loss of sparse pairs is zero."""
    num = len(batch.image0)
    coarse, fine = model.backbone(torch.cat([batch.image0, batch.image1]))
    hw = (coarse.shape[2], coarse.shape[3])
    tokens = model.loftr_coarse.encode(model.tokens(coarse))
    feat0, feat1 = model.pair_tokens(tokens[:num], tokens[num:], hw, hw)
    log_confidence = model.coarse_matching.log_confidence_matrix(feat0, feat1)
    if isinstance(batch, SparseBatch):
        return _sparse_loss(log_confidence, batch, hw), log_confidence.new_zeros(())
    ground_truth = supervise(batch.warp01, batch.warp10, batch.known0, batch.known1)
    chosen = torch.randperm(len(ground_truth.b_ids), device=fine.device)[: options.fine_matches * num].sort().values
    offsets = _fine_offsets(model, (feat0, feat1), fine, ground_truth, chosen, hw[1])
    reach = model.config.fine_window // 2 * FINE_STRIDE
    return coarse_loss(log_confidence, ground_truth), fine_loss(offsets, ground_truth, chosen, reach)


def _sparse_loss(log_confidence: Tensor, batch: SparseBatch, hw: tuple[int, int]) -> Tensor:
    i_ids, j_ids = nearest_cells(batch.points0, hw), nearest_cells(batch.points1, hw)
    inside = (i_ids >= 0) & (j_ids >= 0)
    points = torch.cat([batch.points0, batch.points1], dim=1)[inside] - 0.5
    off_anchor = (points - COARSE_STRIDE * torch.round(points / COARSE_STRIDE)).square().sum(dim=1)  # (M,) px²
    ids = (batch.b_ids[inside], i_ids[inside], j_ids[inside])
    return sparse_coarse_loss(log_confidence, ids, torch.exp(-off_anchor / 32))


def _fine_offsets(
    model: LoFTR, feats: tuple[Tensor, Tensor], fine: Tensor, ground_truth: Supervision, chosen: Tensor, columns: int
) -> FineOffsets:
    """The fine stage on the chosen true matches, which are sorted by pair."""
    window, num = model.config.fine_window, len(feats[0])
    b_ids, sides = ground_truth.b_ids[chosen], []
    for feat, maps, cells in (
        (feats[0], fine[:num], ground_truth.i_ids[chosen]),
        (feats[1], fine[num:], ground_truth.j_ids[chosen]),
    ):
        windows = torch.cat(
            [windows_at(padded_fine_map(maps[b], window), cells[b_ids == b], columns, window) for b in range(num)]
        )
        sides.append(model.fine_preprocess(windows, feat[b_ids, cells]))
    return fine_offsets(sides[0], sides[1], model.loftr_fine)


def _save(state: _State, options: TrainingOptions) -> None:
    saved = {
        "model": state.model.state_dict(),
        "average": state.average.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "step": state.step,
        "elapsed_s": state.elapsed_s,
        "evaluated": state.evaluated,
    }
    part = options.out / "last.pt.part"
    torch.save(saved, part)
    os.replace(part, options.out / "last.pt")
    save_weights(state.average, options.out / "weights.safetensors")


def save_weights(model: LoFTR, path: Path) -> None:
    """Writes the weights with their configuration in the header; the file appears whole or not at all."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    part = path.with_name(path.name + ".part")
    save_file(tensors, part, metadata={"config": json.dumps(asdict(model.config))})
    os.replace(part, path)


def _log(state: _State, losses: list[tuple[float, float]], options: TrainingOptions) -> None:
    coarse, fine = (sum(column) / max(1, len(losses)) for column in zip(*losses, strict=True))
    row = [state.step, round(state.elapsed_s), f"{coarse:.4f}", f"{fine:.4f}", state.optimiser.param_groups[0]["lr"]]
    path = options.out / "log.csv"
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["step", "elapsed_s", "coarse_loss", "fine_loss", "learning_rate"])
        writer.writerow(row)
