"""`loftr-sfm train`: images in, weights of the compact network out."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sfm.datasets.training_pairs.photometric import Photometric, changed
from sfm.datasets.training_pairs.synthetic_pairs import SyntheticPairs, TrainingPair
from sfm.datasets.training_pairs.track_pairs import SparseTrainingPair, TrackPairs, TrackScene, reconstruct_scene
from sfm.errors import BadFile, BadOption
from sfm.matchers.registry import device_of
from sfm.options import MatchingOptions, require

if TYPE_CHECKING:
    from argparse import Namespace

    from sfm.matchers.loftr.model import LoFTR
    from sfm.matchers.loftr.training.loop import Batch


_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>

Pairs = list[TrainingPair] | list[SparseTrainingPair]


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """What a run is made from. images: folder of images. size: (H, W) px of the pairs, multiples of 32.
    scenes: reconstructed image sets, whose tracks are real pairs. scenes_every: one batch in so many is real."""

    images: Path
    scenes: tuple[TrackScene, ...] = ()
    size: tuple[int, int] = (256, 320)
    batch_size: int = 4
    scenes_every: int = 5
    workers: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size[0] % 32 or self.size[1] % 32:
            raise BadOption(f"--size {self.size[0]} {self.size[1]}: both must be multiples of 32")


def reconstruct_scenes(folder: Path, models: Path) -> tuple[TrackScene, ...]:
    """SIFT models of every image set NAME/images in a folder, made once and kept in models/NAME."""
    return tuple(
        reconstruct_scene(images, models / images.parent.name)
        for images in sorted(folder.glob("*/images"))
        if images.is_dir()
    )


class _PairStream:
    """The pairs of each batch, as torch's DataLoader wants them: item k is all of batch k."""

    def __init__(self, run: TrainingRun) -> None:
        self.run = run
        self.synthetic = SyntheticPairs(run.images, size=run.size, seed=run.seed)
        self.real = TrackPairs(run.scenes, size=run.size, seed=run.seed) if run.scenes else None

    def __getitem__(self, step: int) -> Pairs:
        indices = range(step * self.run.batch_size, (step + 1) * self.run.batch_size)
        if self.real is not None and step % self.run.scenes_every == self.run.scenes_every - 1:
            return [_in_other_light(self.real.pair(index), (self.run.seed, index)) for index in indices]
        return [self.synthetic.pair(index) for index in indices]


def _in_other_light(pair: SparseTrainingPair, seed: tuple[int, int]) -> SparseTrainingPair:
    rng = np.random.default_rng(seed)
    image0, image1 = (changed(rng, image.astype(np.float32), Photometric()) for image in (pair.image0, pair.image1))
    return replace(pair, image0=image0, image1=image1)


def batches(run: TrainingRun, step: int, device: str) -> Iterator[Batch]:
    """The stream of batches from a step on; made in worker processes while the network trains."""
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(
        _PairStream(run),  # type: ignore[arg-type]
        batch_size=None,
        sampler=range(step, 1 << 40),
        num_workers=run.workers,
        prefetch_factor=8 if run.workers else None,
        collate_fn=_unchanged,
        worker_init_fn=_begin_worker,
    )
    for pairs in loader:
        yield _collate(pairs, device)


def _unchanged(pairs: Pairs) -> Pairs:
    return pairs


def _begin_worker(worker: int) -> None:
    """One thread, and an end with the process that began it: torch's workers may otherwise outlive one that is killed,
    waiting for ever to hand over a batch."""
    import torch

    torch.set_num_threads(1)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _collate(pairs: Pairs, device: str) -> Batch:
    import torch

    from sfm.matchers.loftr.training.loop import DenseBatch, SparseBatch

    def stacked(arrays: list[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.stack(arrays)).to(device)

    image0, image1 = (
        stacked(images)[:, None].float() / 255 for images in ([p.image0 for p in pairs], [p.image1 for p in pairs])
    )
    dense = [pair for pair in pairs if isinstance(pair, TrainingPair)]
    if dense:
        return DenseBatch(image0, image1, stacked([p.warp01 for p in dense]), stacked([p.warp10 for p in dense]))
    sparse = [pair for pair in pairs if isinstance(pair, SparseTrainingPair)]
    points0, points1 = (
        torch.from_numpy(np.concatenate(points)).to(device)
        for points in ([p.points0 for p in sparse], [p.points1 for p in sparse])
    )
    b_ids = torch.repeat_interleave(torch.arange(len(sparse)), torch.tensor([len(p.points0) for p in sparse]))
    return SparseBatch(image0, image1, points0, points1, b_ids.to(device))


def run_training(args: Namespace) -> str:
    """The verb `train`: builds the network, runs or resumes the training, and says where the weights are."""
    import torch

    from sfm.matchers.loftr.training.loop import TrainingOptions, train

    _check(args)
    device = device_of(MatchingOptions(device=args.device))
    torch.manual_seed(args.seed)
    scenes = reconstruct_scenes(args.scenes, args.out / "scenes") if args.scenes else ()
    run = TrainingRun(args.photos, scenes, tuple(args.size), args.batch, workers=args.workers, seed=args.seed)
    rates = args.learning_rate, 0.3 * args.learning_rate
    options = TrainingOptions(args.out, args.hours, args.steps, *rates, device=device)
    weights = train(_network(args.init), lambda step: batches(run, step, device), options)
    return f"weights: {weights}\nnext: loftr-sfm IMAGES OUT --weights {weights}"


def _check(args: Namespace) -> None:
    """BadFile and BadOption for what would fail later, or train nothing."""
    if not args.photos.is_dir():
        raise BadFile(f"{args.photos}: no such folder; give a folder of images")
    if args.out.exists() and not args.out.is_dir():
        raise BadFile(f"{args.out}: is a file; give a folder for the weights")
    require(args.batch >= 1, f"--batch {args.batch}: must be at least 1")
    require(args.steps >= 0, f"--steps {args.steps}: must not be negative")
    require(args.hours > 0, f"--hours {args.hours}: must be positive")
    require(args.workers >= 0, f"--workers {args.workers}: must not be negative")
    require(args.learning_rate > 0, f"--learning-rate {args.learning_rate}: must be positive")
    require(min(args.size) > 0, f"--size {args.size[0]} {args.size[1]}: both must be multiples of 32")


def _network(init: Path | None) -> LoFTR:
    """The compact network: new, from weights of ours (.safetensors), or with XFeat's CNN (.pt)."""
    from sfm.matchers.loftr import checkpoint
    from sfm.matchers.loftr.config import COMPACT
    from sfm.matchers.loftr.model import LoFTR
    from sfm.matchers.loftr.training.initialisation import start_from_xfeat

    model = LoFTR(COMPACT)
    if init is not None and init.suffix == ".safetensors":
        model.load_state_dict(checkpoint.load_state_dict(checkpoint.choose(str(init), device="cpu", offline=True))[1])
    elif init is not None:
        start_from_xfeat(model, init)
    return model
