"""`loftr-sfm train`: images, models or sequences with depth in, weights out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import torch

from sfm.datasets.batched_pairs.batch import PairBatch
from sfm.datasets.batched_pairs.reading import read_mixture
from sfm.evaluation.pair_poses import THRESHOLDS_DEG
from sfm.matchers.loftr.matcher import LoFTRMatcher
from sfm.matchers.loftr.model import LoFTR
from sfm.matchers.registry import device_of
from sfm.options import MatchingOptions
from sfm.system.interrupts import end_at_sigterm
from sfm.training.curves import CURVES, EVALUATION, add_evaluation, draw_curves
from sfm.training.device_stream import device_batches
from sfm.training.held_out import HeldOutPair, held_out_auc, held_out_pairs
from sfm.training.initialisation import network
from sfm.training.options import StreamOptions, TrainOptions
from sfm.training.sources import Sources
from sfm.training.steps.loop import Batches, Done, TrainingOptions, train
from sfm.training.steps.processes import Processes
from sfm.training.worker_stream import PairStream, worker_batches

log = logging.getLogger(__name__)


def run_training(options: TrainOptions) -> str:
    """Builds the network, runs or resumes the training, and says where the weights are. Raises BadFile, BadOption.

    Started by torchrun, its processes train one network together.
    """
    options.check()
    end_at_sigterm()
    device = device_of(MatchingOptions(device=options.device))
    group = Processes.join(device)
    if device == "cuda" and group.world > 1:
        device = f"cuda:{group.local_rank}"
    torch.manual_seed(options.seed)
    sources = _read_sources(options, group, device)
    model = network(options.init, wide=options.wide)
    batches = _stream(sources.training(), options, group, device)
    held_out = held_out_pairs(sources) if options.evaluations and group.is_first else ()
    weights = train(
        model,
        batches,
        TrainingOptions(
            options.out,
            options.hours,
            options.steps,
            options.learning_rate,
            device=device,
            seed=options.seed,
            evaluations=options.evaluations,
            processes=group,
        ),
        on_checkpoint=lambda: draw_curves(options.out),
        evaluate=lambda average, step: _evaluate(average, step, held_out, options.out),
    )
    group.leave()
    return _said(weights, options, held_out)


def _read_sources(options: TrainOptions, group: Processes, device: str) -> Sources:
    """The first process makes what has to be made; the others wait, and find it."""
    sources = Sources.read(options) if group.is_first else None
    group.same(0.0, device)
    return sources or Sources.read(options)


def _stream(sources: Sources, options: TrainOptions, group: Processes, device: str) -> Batches:
    """What is trained on, from workers or from the device. Raises BadFile where a source gives no pair."""
    made = StreamOptions(options.size, options.batch, options.workers, options.seed, group.rank, group.world)
    if options.on_device:
        mixture = read_mixture(sources.images, sources.scenes, sources.sequences, torch.device(device))
        return lambda step, done: device_batches(mixture, made, step, done)
    stream = PairStream(sources, made)

    def from_workers(step: int, done: Done) -> Iterator[PairBatch]:
        del done  # these are of one difficulty throughout
        return worker_batches(stream, made, step, device)

    return from_workers


def _evaluate(average: LoFTR, step: int, pairs: tuple[HeldOutPair, ...], out: Path) -> None:
    """Appends the AUC of held-out pairs; the network goes on as it was."""
    if not pairs:
        return
    log.warning("step %d: evaluating %d held-out pairs", step, len(pairs))
    device = str(next(average.parameters()).device)
    matcher = LoFTRMatcher(deepcopy(average), name="training", checksum="", device=device)
    areas = held_out_auc(matcher, pairs)
    add_evaluation(out, step, areas, THRESHOLDS_DEG)
    shown = "/".join(f"{100 * area:.1f}" for area in areas)
    log.warning("step %d: AUC@5/10/20 of %d held-out pairs %s", step, len(pairs), shown)


def _said(weights: Path, options: TrainOptions, held_out: tuple[HeldOutPair, ...]) -> str:
    lines = [f"weights: {weights}", f"curves:  {options.out / CURVES}"]
    if held_out:
        lines.append(f"held-out pairs: {options.out / EVALUATION}")
    elif options.evaluations:
        lines.append("no held-out AUC: images alone have no true poses")
    return "\n".join([*lines, f"next: loftr-sfm IMAGES OUT --weights {weights}"])
