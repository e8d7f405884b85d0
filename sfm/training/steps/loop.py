"""The training loop: batches of pairs in, weights out; resumes where it was stopped.

The length of a run is a time or a number of steps; the learning rates rise and fall over it. What is kept is the
exponential moving average of the weights.
"""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from sfm.datasets.batched_pairs.batch import PairBatch
from sfm.datasets.batched_pairs.scenes.scene_parts import Draws
from sfm.matchers.loftr.model import LoFTR
from sfm.system.progress import progress_bar
from sfm.system.safe_paths import refuse_links
from sfm.training.steps.checkpoint import LAST, WEIGHTS, RunState, resume, save
from sfm.training.steps.losses import batch_losses
from sfm.training.steps.processes import Processes
from sfm.training.steps.rates import parameter_groups, rate_factor

LOG = "log.csv"
COLUMNS = ("step", "elapsed_s", "coarse_loss", "fine_loss", "learning_rate", "log_confidence", "gradient_norm")
WRITTEN = (LAST, f"{LAST}.part", WEIGHTS, f"{WEIGHTS}.part", LOG)

Done = Callable[[int], float]
Batches = Callable[[int, Done], Iterator[PairBatch]]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """out: folder of checkpoints. hours: length of the whole run, over all its sessions; steps: its length in steps,
    0 when the time decides. learning_rate: the peak of the transformers'; `rates` says how others follow. fine_matches:
    true matches refined per pair. ema: decay of the averaged weights. seed: of what a step draws. checkpoint_s:
    seconds between checkpoints. evaluations: how often `evaluate` is called in the run, the end included. processes:
    those that train together."""

    out: Path
    hours: float = 2.0
    steps: int = 0
    learning_rate: float = 1e-3
    fine_matches: int = 192
    ema: float = 0.999
    device: str = "cpu"
    seed: int = 0
    checkpoint_s: float = 120.0
    evaluations: int = 0
    processes: Processes = field(default_factory=Processes)


def train(
    model: LoFTR,
    batches: Batches,
    options: TrainingOptions,
    *,
    on_checkpoint: Callable[[], None] = lambda: None,
    evaluate: Callable[[LoFTR, int], None] = lambda average, step: None,
) -> Path:
    """Trains until the time is up, the steps are done or the stream ends, and returns the weights' file.

    batches(step, done) gives the stream from that step on, so that a resumed run goes on where it stopped; done(step)
    is the part of the run that is over at a step, 0 to 1, by the clock where the time decides.
    Writes last.pt (all that resuming needs), weights.safetensors (the average) and log.csv to options.out.
    on_checkpoint: called when these are written. evaluate: called with the average now and then; it leaves it as it is.
    Both in the first process only. A gradient that is not finite in any process is left out. Where the run's length is
    in steps, one that was interrupted ends as it would have without. Raises BadFile for a last.pt of something else.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    refuse_links(options.out, WRITTEN)
    state, group = _start(model, options), options.processes
    since, session_start = time.monotonic(), time.monotonic() - state.elapsed_s
    logged: list[Tensor] = []
    progress = progress_bar(options.steps or None, desc="training", unit="step", initial=state.step)
    with _kept_when_interrupted(state, options), progress as bar:
        stream = batches(state.step, partial(_done, state, options))
        while (done := _done(state, options, state.step)) < 1 and (batch := next(stream, None)) is not None:
            if state.evaluated < 1 + int(done * options.evaluations):
                state.evaluated = 1 + int(done * options.evaluations)
                _evaluate(state, evaluate, options)
            logged.append(_step(state, batch, done, options))
            state.elapsed_s = group.same(time.monotonic() - session_start, options.device)
            bar.update()
            if time.monotonic() - since > options.checkpoint_s:
                _checkpoint(state, logged, options, on_checkpoint)
                logged, since = [], time.monotonic()
    _evaluate(state, evaluate, options)
    _checkpoint(state, logged, options, on_checkpoint)
    return options.out / WEIGHTS


def _done(state: RunState, options: TrainingOptions, step: int) -> float:
    return step / options.steps if options.steps else state.elapsed_s / (3600 * options.hours)


@contextmanager
def _kept_when_interrupted(state: RunState, options: TrainingOptions) -> Iterator[None]:
    """Ctrl-C keeps the steps since the last checkpoint; in the middle of a step, those before it."""
    try:
        yield
    except KeyboardInterrupt:
        if options.processes.is_first:
            save(state, options.out)
        raise


def _evaluate(state: RunState, evaluate: Callable[[LoFTR, int], None], options: TrainingOptions) -> None:
    if options.processes.is_first and options.evaluations:
        evaluate(state.average, state.step)


def _checkpoint(
    state: RunState, logged: list[Tensor], options: TrainingOptions, on_checkpoint: Callable[[], None]
) -> None:
    if not options.processes.is_first:
        return
    save(state, options.out)
    if logged:
        _log(state, logged, options)
    on_checkpoint()


def _start(model: LoFTR, options: TrainingOptions) -> RunState:
    device = torch.device(options.device)
    model = model.to(device).train()
    if device.type == "cuda":  # bf16 convolutions are fastest so
        model.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = LoFTR(model.config).to(device)
    average.load_state_dict(model.state_dict())
    state = RunState(model, average, torch.optim.AdamW(parameter_groups(model), lr=0.0, betas=(0.9, 0.99)))
    if (options.out / LAST).exists():
        resume(state, options.out)
    return state


def _step(state: RunState, batch: PairBatch, done: float, options: TrainingOptions) -> Tensor:
    """One step; its coarse loss, fine loss, log confidence and norm of the gradient: (4,) f32."""
    model, group = state.model, options.processes
    for own in state.optimiser.param_groups:
        own["lr"] = options.learning_rate * own["part"] * rate_factor(done)
    device = batch.image0.device
    draws = Draws.seeded(device, options.seed, group.rank, state.step)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        losses = batch_losses(model, batch, draws, fine_matches=options.fine_matches)
    state.optimiser.zero_grad(set_to_none=True)
    (losses.coarse + losses.fine).backward()  # type: ignore[no-untyped-call]
    group.average_gradients(model.parameters())
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    if torch.isfinite(norm):
        state.optimiser.step()
    else:
        log.warning("step %d: its gradient is not finite and is left out", state.step)
    state.step += 1
    _follow(state, min(options.ema, (state.step + 1) / (state.step + 10)))
    return torch.stack([losses.coarse, losses.fine, losses.log_confidence, norm]).detach()


@torch.no_grad()
def _follow(state: RunState, decay: float) -> None:
    """The average moves towards the weights."""
    for mean, value in zip(state.average.parameters(), state.model.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)
    for old, new in zip(state.average.buffers(), state.model.buffers(), strict=True):
        old.copy_(new)  # running statistics are averages already


def _log(state: RunState, logged: list[Tensor], options: TrainingOptions) -> None:
    coarse, fine, confidence, norm = (f"{value:.4f}" for value in torch.stack(logged).mean(dim=0).tolist())
    group = state.optimiser.param_groups[0]
    rate = group["lr"] / group["part"]
    path = options.out / LOG
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        writer.writerow([state.step, round(state.elapsed_s), coarse, fine, rate, confidence, norm])
