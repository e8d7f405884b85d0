"""Threads that do not hold up an error or Ctrl-C, and work on the CPU: one item a core.

A pair's many small operations gain little from being shared between cores, and wait for each other where another
program is busy on one of them. So each core gets items of its own, and torch one thread in each. The results are then
the same bit for bit on any number of cores: no sum is cut into parts by the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

CORES = "LOFTR_SFM_CORES"  # environment variable, for processes that share a machine: a number of cores
Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers(ThreadPoolExecutor):
    """A ThreadPoolExecutor that is left at once when something is raised: what was not begun is dropped.

    Without that, leaving it works off all that was submitted first.
    """

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown(wait=kind is None, cancel_futures=kind is not None)


def num_cores() -> int:
    """Cores that this process may use: as many as LOFTR_SFM_CORES says, else all that the system lets it."""
    given = os.environ.get(CORES, "")
    if given.isdecimal() and int(given):
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_on_cores(work: Callable[[Item], Result], items: Sequence[Item], *, cores: int) -> Iterator[Result]:
    """The work of each item, in order, with one thread of torch each. cores: 0 does it in this thread, as for a GPU."""
    if cores == 0 or not items:
        yield from map(work, items)
        return
    with workers_of_one_thread(min(cores, len(items))) as pool:
        yield from pool.map(work, items)


def workers_of_one_thread(num: int) -> Workers:
    """So many workers, with one thread of torch each."""
    import torch

    return Workers(num, initializer=torch.set_num_threads, initargs=(1,))
