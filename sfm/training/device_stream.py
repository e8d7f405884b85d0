"""Batches of pairs that the training device makes itself, many at once, between the steps of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sfm.datasets.batched_pairs.batch import Difficulty, PairBatch
from sfm.datasets.batched_pairs.mixture import Mixture
from sfm.datasets.batched_pairs.scenes.scene_parts import Draws
from sfm.training.options import StreamOptions

ROUND = 8  # steps whose pairs are made at once
MIRRORS = 4  # every so manieth round has glossy things that mirror, which costs a second cast of rays


def device_batches(
    mixture: Mixture, options: StreamOptions, step: int, done: Callable[[int], float]
) -> Iterator[PairBatch]:
    """The batches from a step on, which depend on the sources, the options, the step and done(step) alone.

    done(step): the part of the run that is over at a step, 0 to 1; pairs become harder with it.
    """
    device = mixture.bank.texels.device
    while True:
        number, first = divmod(step, ROUND)
        draws = Draws.seeded(device, options.seed, options.rank, number, 1)  # 1: not the draws of a step
        made = mixture.batch(
            draws,
            mixture.shares(draws, ROUND * options.batch_size),
            options.size,
            Difficulty.at(done(number * ROUND)),
            samples=1 + number % 2,
            mirrors=number % MIRRORS == 1,
        )
        yield from made.split(options.batch_size, draws)[first:ROUND]
        step = (number + 1) * ROUND
