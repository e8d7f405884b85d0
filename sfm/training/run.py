"""`loftr-sfm train`: images, models or sequences with depth in, weights out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from sfm.errors import BadFile, BadOption
from sfm.evaluation.pair_poses import THRESHOLDS_DEG
from sfm.matchers.registry import device_of
from sfm.options import MatchingOptions
from sfm.system.interrupts import end_at_sigterm
from sfm.training.curves import CURVES, EVALUATION, add_evaluation, draw_curves
from sfm.training.held_out import HeldOutPair, held_out_auc, held_out_pairs
from sfm.training.options import TrainOptions
from sfm.training.sources import Sources
from sfm.training.stream import PairStream, StreamOptions, batches

if TYPE_CHECKING:
    from sfm.matchers.loftr.model import LoFTR
    from sfm.matchers.loftr.training.processes import Processes

log = logging.getLogger(__name__)


def run_training(options: TrainOptions) -> str:
    """Builds the network, runs or resumes the training, and says where the weights are. Raises BadFile, BadOption.

    Started by torchrun, its processes train one network together.
    """
    import torch

    from sfm.matchers.loftr.training.loop import TrainingOptions, train
    from sfm.matchers.loftr.training.processes import Processes

    options.check()
    end_at_sigterm()
    device = device_of(MatchingOptions(device=options.device))
    group = Processes.join(device)
    if device == "cuda" and group.world > 1:
        device = f"cuda:{group.local_rank}"
    torch.manual_seed(options.seed)
    sources = _read_sources(options, group, device)
    model = network(options.init)
    made = StreamOptions(options.size, options.batch, options.workers, options.seed, group.rank, group.world)
    stream = PairStream(sources.training(), made)
    held_out = held_out_pairs(sources) if options.evaluations and group.is_first else ()
    weights = train(
        model,
        lambda step: batches(stream, made, step, device),
        TrainingOptions(
            options.out,
            options.hours,
            options.steps,
            options.learning_rate,
            0.3 * options.learning_rate,
            device=device,
            evaluations=options.evaluations,
            processes=group,
        ),
        on_checkpoint=lambda: draw_curves(options.out),
        evaluate=lambda average, step: _evaluate(average, step, held_out, options.out),
    )
    group.leave()
    return _said(weights, options.out, held_out)


def _read_sources(options: TrainOptions, group: Processes, device: str) -> Sources:
    """The first process makes what has to be made; the others wait, and find it."""
    sources = Sources.read(options) if group.is_first else None
    group.same(0.0, device)
    return sources or Sources.read(options)


def _evaluate(average: LoFTR, step: int, pairs: tuple[HeldOutPair, ...], out: Path) -> None:
    """Appends the AUC of held-out pairs; the network goes on as it was."""
    from copy import deepcopy

    from sfm.matchers.loftr.matcher import LoFTRMatcher

    if not pairs:
        return
    log.warning("step %d: evaluating %d held-out pairs", step, len(pairs))
    device = str(next(average.parameters()).device)
    matcher = LoFTRMatcher(deepcopy(average), name="training", checksum="", device=device)
    areas = held_out_auc(matcher, pairs)
    add_evaluation(out, step, areas, THRESHOLDS_DEG)
    shown = "/".join(f"{100 * area:.1f}" for area in areas)
    log.warning("step %d: AUC@5/10/20 of %d held-out pairs %s", step, len(pairs), shown)


def _said(weights: Path, out: Path, held_out: tuple[HeldOutPair, ...]) -> str:
    lines = [f"weights: {weights}", f"curves:  {out / CURVES}"]
    if held_out:
        lines.append(f"held-out pairs: {out / EVALUATION}")
    else:
        lines.append("no held-out AUC: images alone have no true poses")
    return "\n".join([*lines, f"next: loftr-sfm IMAGES OUT --weights {weights}"])


def network(init: str | None) -> LoFTR:
    """A network to train: a new compact one, named weights, a checkpoint of any configuration, or XFeat's CNN (.pt)."""
    from sfm.matchers.loftr import checkpoint
    from sfm.matchers.loftr.config import COMPACT
    from sfm.matchers.loftr.model import LoFTR
    from sfm.matchers.loftr.training.initialisation import start_from_xfeat

    if init is None:
        return LoFTR(COMPACT)
    if Path(init).suffix == ".pt":
        model = LoFTR(COMPACT)
        start_from_xfeat(model, Path(init))
        return model
    choice = checkpoint.choose(init, device="cpu")
    if choice.config.match_type != "dual_softmax":
        raise BadOption(f"--init {init}: optimal transport cannot be trained here; give weights of the dual softmax")
    model = LoFTR(choice.config)
    tensors = checkpoint.read_tensors(choice.path)
    if (fault := checkpoint.mismatch(model.state_dict(), tensors)) is not None:
        raise BadFile(f"{choice.path}: does not fit the network ({fault}); give a LoFTR checkpoint")
    model.load_state_dict(tensors)
    return model
