"""`loftr-sfm train`: photos in, weights of the compact network out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sfm.datasets.training_pairs import SyntheticPairs, TrainingPair
from sfm.errors import BadOption

if TYPE_CHECKING:
    from sfm.matchers.loftr.training.loop import Batch


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """What a run is made from. photos: folder of photos. size: (H, W) px of the pairs, multiples of 32.
    tracks: folder of COLMAP models with their photos, or None. tracks_every: one batch in so many is real."""

    photos: Path
    tracks: Path | None = None
    size: tuple[int, int] = (256, 320)
    batch_size: int = 4
    tracks_every: int = 5
    workers: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size[0] % 32 or self.size[1] % 32:
            raise BadOption(f"--size {self.size[0]} {self.size[1]}: both must be multiples of 32")


class _PairStream:
    """Pairs of the batches from a step on, as torch's DataLoader wants them: item k is pair k of the stream."""

    def __init__(self, run: TrainingRun) -> None:
        self.run = run
        self.synthetic = SyntheticPairs(run.photos, size=run.size, seed=run.seed)

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, step: int) -> list[TrainingPair]:
        first = step * self.run.batch_size
        return [self.synthetic.pair(index) for index in range(first, first + self.run.batch_size)]


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
        worker_init_fn=_single_threaded,
    )
    for pairs in loader:
        yield _collate(pairs, device)


def _unchanged(pairs: list[TrainingPair]) -> list[TrainingPair]:
    return pairs


def _single_threaded(worker: int) -> None:
    import torch

    torch.set_num_threads(1)
    os.nice(1)


def _collate(pairs: list[TrainingPair], device: str) -> Batch:
    import torch

    from sfm.matchers.loftr.training.loop import DenseBatch

    image0, image1 = (
        torch.from_numpy(np.stack(images)).to(device)[:, None].float() / 255
        for images in zip(*((p.image0, p.image1) for p in pairs), strict=True)
    )
    warp01, warp10 = (
        torch.from_numpy(np.stack(warps)).to(device)
        for warps in zip(*((p.warp01, p.warp10) for p in pairs), strict=True)
    )
    return DenseBatch(image0, image1, warp01, warp10)
