"""Batches of pairs that worker processes make while the network trains."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from sfm.datasets.batched_pairs.batch import PairBatch
from sfm.datasets.training_pairs.depth_pairs import DepthPairs
from sfm.datasets.training_pairs.photometric import Photometric, changed
from sfm.datasets.training_pairs.synthetic_pairs import SyntheticPairs, TrainingPair
from sfm.datasets.training_pairs.track_pairs import SparseTrainingPair, TrackPairs
from sfm.training.options import StreamOptions
from sfm.training.sources import Sources

_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
MIX = ("warped", "depth") * 4 + ("tracks",)  # kinds of batches in turn; those without a source are left out

Pairs = list[TrainingPair] | list[SparseTrainingPair]


class PairStream:
    """The pairs of each batch, as torch's DataLoader wants them: item k is all of batch k."""

    def __init__(self, sources: Sources, options: StreamOptions) -> None:
        """Raises BadFile where a source gives no pair."""
        self._options = options
        size, seed = options.size, options.seed
        self._made: dict[str, Any] = {}
        if sources.images is not None:
            self._made["warped"] = SyntheticPairs(sources.images, size=size, seed=seed)
        if sources.sequences:
            self._made["depth"] = DepthPairs(sources.sequences, size=size, seed=seed)
        if sources.scenes:
            self._made["tracks"] = TrackPairs(sources.scenes, size=size, seed=seed)
        self._turns = [kind for kind in MIX if kind in self._made]

    def __getitem__(self, step: int) -> Pairs:
        options = self._options
        kind = self._turns[step % len(self._turns)]
        first = (step * options.world + options.rank) * options.batch_size
        pairs = [self._made[kind].pair(index) for index in range(first, first + options.batch_size)]
        if kind == "warped":  # it changes the light itself
            return pairs
        return [_in_other_light(pair, (options.seed, first + i)) for i, pair in enumerate(pairs)]


def _in_other_light(pair: Any, seed: tuple[int, int]) -> Any:
    rng = np.random.default_rng(seed)
    image0, image1 = (changed(rng, image.astype(np.float32), Photometric()) for image in (pair.image0, pair.image1))
    return replace(pair, image0=image0, image1=image1)


def worker_batches(stream: PairStream, options: StreamOptions, step: int, device: str) -> Iterator[PairBatch]:
    """The batches from a step on."""
    loader: Any = DataLoader(
        stream,  # type: ignore[arg-type]
        batch_size=None,
        sampler=range(step, 1 << 40),
        num_workers=options.workers,
        prefetch_factor=8 if options.workers else None,
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
    torch.set_num_threads(1)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _collate(pairs: Sequence[Any], device: str) -> PairBatch:
    def stacked(arrays: Sequence[Any]) -> torch.Tensor:
        return torch.from_numpy(np.stack(arrays)).to(device)

    image0, image1 = (
        stacked(images)[:, None].float() / 255 for images in ([p.image0 for p in pairs], [p.image1 for p in pairs])
    )
    if isinstance(pairs[0], TrainingPair):
        warps = stacked([p.warp01 for p in pairs]), stacked([p.warp10 for p in pairs])
        everywhere = np.ones(pairs[0].warp01.shape[:2], np.bool_)
        known0, known1 = (
            stacked([everywhere if mask is None else mask for mask in masks])
            for masks in ([p.known0 for p in pairs], [p.known1 for p in pairs])
        )
        return PairBatch.dense((image0, image1), warps, (known0, known1))
    points0, points1 = (
        torch.from_numpy(np.concatenate(points)).to(device)
        for points in ([p.points0 for p in pairs], [p.points1 for p in pairs])
    )
    b_ids = torch.repeat_interleave(torch.arange(len(pairs)), torch.tensor([len(p.points0) for p in pairs]))
    return PairBatch.sparse((image0, image1), (points0, points1), b_ids.to(device))
