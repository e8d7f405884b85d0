"""Who has which job: handed out, given back when a worker dies, handed out twice when one is slow.

No Ray and no clock of its own, so that it can be tested, and simulated with measured times (benchmarks). The first
answer to a job counts; later ones are of no use.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Generic, NamedTuple, TypeVar

AHEAD = 2  # jobs that a worker has at most: one it works on, and one whose input is on its way
SLOW = 1.5  # times the median duration, after which a job is handed out to an idle worker as well
MAX_DEATHS = 4  # workers that may die at one job before it is given up
_RECENT = 100  # durations that are kept

Job = TypeVar("Job")


class Order(NamedTuple, Generic[Job]):
    """A job for a worker. number: of the job. deaths: workers that died at it before."""

    number: int
    job: Job
    deaths: int


@dataclass(slots=True)
class _State(Generic[Job]):
    """A job that is not done. holders: the workers that have it."""

    job: Job
    deaths: int = 0
    holders: set[Hashable] = field(default_factory=set)


class Ledger(Generic[Job]):
    """The jobs of one run, drawn one by one when they are first handed out."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._coming: Iterator[tuple[int, Job]] = enumerate(jobs)
        self._exhausted = False
        self._again: deque[int] = deque()  # given back
        self._open: dict[int, _State[Job]] = {}
        self._held: dict[Hashable, deque[int]] = {}  # by worker, in the order that it does them
        self._begun: dict[Hashable, float] = {}  # when the worker began with its first one
        self._durations: deque[float] = deque(maxlen=_RECENT)

    @property
    def done(self) -> bool:
        """All jobs were drawn and answered."""
        return self._exhausted and not self._open

    def num_held(self, worker: Hashable) -> int:
        """Jobs that the worker has."""
        return len(self._held.get(worker, ()))

    def is_open(self, number: int) -> bool:
        """Nobody has answered this job yet."""
        return number in self._open

    def job(self, number: int) -> Job:
        """A job that is not done."""
        return self._open[number].job

    def next_for(self, worker: Hashable, now: float) -> Order[Job] | None:
        """What a worker should do next, None where there is nothing for it. now: seconds on any clock."""
        number = None
        if self.num_held(worker) < AHEAD:
            number = self._again.popleft() if self._again else self._draw()
        if number is None and not self.num_held(worker):
            number = self._slowest(now)
        if number is None:
            return None
        state = self._open[number]
        state.holders.add(worker)
        self._held.setdefault(worker, deque()).append(number)
        self._begun.setdefault(worker, now)
        return Order(number, state.job, state.deaths)

    def answered(self, worker: Hashable, number: int, now: float) -> bool:
        """A worker has answered; whether it is the first answer to this job."""
        held = self._held.get(worker, deque())
        if number in held:
            if held[0] == number:
                self._durations.append(now - self._begun[worker])
            held.remove(number)
            self._restart_clock(worker, now)
        return self._open.pop(number, None) is not None

    def gave_back(self, worker: Hashable, number: int, now: float, *, at_fault: bool) -> int:
        """An answer was lost, or a worker could not do the job: it will be handed out again.

        at_fault: the job may be why. Returns how many workers have failed at it.
        """
        held = self._held.get(worker, deque())
        if number in held:
            held.remove(number)
            self._restart_clock(worker, now)
        state = self._open.get(number)
        if state is None:
            return 0
        state.holders.discard(worker)
        state.deaths += at_fault
        if not state.holders and number not in self._again:
            self._again.append(number)
        return state.deaths

    def died(self, worker: Hashable, now: float) -> tuple[int, ...]:
        """A worker is no more: what it had is handed out again. Returns that, first the job that it worked on."""
        had = tuple(self._held.get(worker, ()))
        for place, number in enumerate(had):
            self.gave_back(worker, number, now, at_fault=place == 0)
        self._held.pop(worker, None)
        self._begun.pop(worker, None)
        return had

    def deaths(self, number: int) -> int:
        """Workers that died at a job; 0 once it is done."""
        return self._open[number].deaths if number in self._open else 0

    def _restart_clock(self, worker: Hashable, now: float) -> None:
        if self._held.get(worker):
            self._begun[worker] = now
        else:
            self._begun.pop(worker, None)

    def _draw(self) -> int | None:
        number, job = next(self._coming, (None, None))
        if number is None or job is None:
            self._exhausted = True
            return None
        self._open[number] = _State(job)
        return number

    def _slowest(self, now: float) -> int | None:
        """A job that one worker has and another should do as well: one that waits behind another, or else one that has
        taken clearly longer than usual, the longest first."""
        waiting = [held[place] for held in self._held.values() for place in range(1, len(held))]
        single = [number for number in waiting if self._is_single(number)]
        if single:
            return min(single)
        usual = median(self._durations) if self._durations else float("inf")
        slow = [
            (self._begun[worker], held[0])
            for worker, held in self._held.items()
            if held and now - self._begun[worker] > SLOW * usual and self._is_single(held[0])
        ]
        return min(slow, default=(0.0, None))[1]

    def _is_single(self, number: int) -> bool:
        return number in self._open and len(self._open[number].holders) == 1
