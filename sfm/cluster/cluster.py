"""Jobs done by the workers of a cluster: handed out, collected, handed out again when workers die or are slow."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Any, TypeVar

from sfm.cluster.connection import connected
from sfm.cluster.ledger import MAX_DEATHS, Ledger, Order
from sfm.cluster.staff import Hand, Staff
from sfm.cluster.worker import Shared
from sfm.errors import SfMError
from sfm.system import memory

log = logging.getLogger(__name__)

_WAIT_S = 0.5  # for an answer, before the nodes are looked at again
_SHARE = 0.4  # of the object store of the driver's node, that may be on its way to workers
_STORE = 1_000_000_000  # bytes of an object store that does not say its size

Job = TypeVar("Job")
Item = TypeVar("Item")
Result = TypeVar("Result")


class Cluster(AbstractContextManager["Cluster"]):
    """A connection with its workers, until it is closed. One run of jobs at a time."""

    def __init__(self, address: str, *, device: str = "auto") -> None:
        """address: `local`, or a cluster's. device: auto, cpu or cuda. Raises BadOption where it cannot be had."""
        with ExitStack() as stack:
            stack.enter_context(connected(address))
            self._staff = Staff(device)
            self.budget = int(_SHARE * _store_bytes())
            self._stack = stack.pop_all()

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; workers end with it."""
        self._stack.close()

    @property
    def num_workers(self) -> int:
        """Places for workers on the nodes that there are now."""
        return max(1, len(self._staff.places))

    @property
    def num_ready(self) -> int:
        """Workers that have said that they are ready; more may be on their way."""
        return len(self._staff.ready)

    @property
    def notes(self) -> tuple[str, ...]:
        """Which nodes are left out, and why."""
        return self._staff.notes

    def run(
        self,
        jobs: Iterable[Job],
        send: Callable[[Any, Order[Job]], Any],
        *,
        has_room: Callable[[], bool] = lambda: True,
    ) -> Iterator[tuple[int, Job, Any]]:
        """(number, job, answer) of every job, each once, as they are answered.

        jobs: drawn when they are first handed out. send: gives a job to an actor, returns the answer's reference.
        has_room: whether another job may be drawn while others are on their way. Raises what a job raises, and SfMError
        where workers die at one again and again, or there is no worker.
        """
        import ray

        ledger, sent = Ledger(jobs), dict[Any, tuple[Hand, int]]()
        try:
            while True:
                self._staff.refresh()
                self._hand_out(ledger, sent, send, has_room)
                if ledger.done:
                    return
                for reference in _ready([*sent, *self._staff.waiting_for]):
                    if reference not in sent:
                        if reference in self._staff.waiting_for:
                            self._staff.welcome(reference)
                        continue
                    hand, number = sent.pop(reference)
                    job, found = ledger.job(number) if ledger.is_open(number) else None, self._answer(reference, hand)
                    if isinstance(found, _Nothing):
                        self._lost(ledger, sent, hand, number, found)
                    elif ledger.answered(hand, number, time.monotonic()) and job is not None:
                        _cancel([other for other, (_, same) in sent.items() if same == number])
                        yield number, job, found
        finally:
            with suppress(ray.exceptions.RayError):
                _cancel(list(sent))

    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        nbytes: Callable[[Item], int] = lambda item: 0,
    ) -> Iterator[Result]:
        """As the built-in map, in its order, by the workers: function and items must be picklable.

        items: drawn as workers need them. nbytes: of an item, where many together could be too large.
        """
        import ray

        shared, flying = Shared(secrets.token_hex(8), [ray.put(function)]), dict[int, int]()

        def send(actor: Any, order: Order[Item]) -> Any:
            flying[order.number] = nbytes(order.job)
            return actor.call.remote(shared, order.job)

        waiting: dict[int, Result] = {}
        first = 0
        for number, _, result in self.run(items, send, has_room=lambda: sum(flying.values()) < self.budget):
            flying.pop(number, None)
            waiting[number] = result
            while first in waiting:
                yield waiting.pop(first)
                first += 1

    def _hand_out(
        self,
        ledger: Ledger[Job],
        sent: dict[Any, tuple[Hand, int]],
        send: Callable[[Any, Order[Job]], Any],
        has_room: Callable[[], bool],
    ) -> None:
        """Jobs to workers that have none first, then one ahead to each."""
        for num_held in (0, 1):
            for hand in [hand for hand in self._staff.ready if ledger.num_held(hand) == num_held]:
                if sent and not has_room():
                    return
                order = ledger.next_for(hand, time.monotonic())
                if order is None:
                    break
                sent[send(hand.actor, order)] = hand, order.number

    def _answer(self, reference: Any, hand: Hand) -> Any:
        """What a worker found, or why there is nothing. Raises what the job itself raised."""
        import ray
        from ray import exceptions

        try:
            return ray.get(reference)
        except exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, exceptions.ObjectLostError):
                return _Nothing(worker_died=False, at_fault=False, reason="its input was lost")
            if isinstance(cause, SfMError):
                raise type(cause)(f"node {hand.place.host}: {cause}") from error
            if isinstance(cause, Exception) and memory.is_exhausted(cause):
                return _Nothing(worker_died=False, at_fault=True, reason="out of memory")
            raise
        except exceptions.TaskCancelledError:
            return _Nothing(worker_died=False, at_fault=False, reason="cancelled")
        except exceptions.ObjectLostError:
            return _Nothing(worker_died=False, at_fault=False, reason="its answer was lost")
        except exceptions.RayError as error:  # the worker, its node, or the connection to it
            return _Nothing(worker_died=True, at_fault=True, reason=_why(error))

    def _lost(
        self, ledger: Ledger[Job], sent: dict[Any, tuple[Hand, int]], hand: Hand, number: int, found: _Nothing
    ) -> None:
        """Has what was lost done again."""
        now = time.monotonic()
        if found.worker_died:
            log.debug("a worker on %s is gone (%s)", hand.place.host, found.reason)
            self._staff.remove(hand)
            for reference in [reference for reference, (holder, _) in sent.items() if holder is hand]:
                del sent[reference]
            numbers = ledger.died(hand, now)
        else:
            ledger.gave_back(hand, number, now, at_fault=found.at_fault)
            numbers = (number,)
        if any(ledger.deaths(each) >= MAX_DEATHS for each in numbers):
            raise SfMError(
                f"--cluster: {MAX_DEATHS} workers failed at one block, the last on {hand.place.host} ({found.reason}); "
                "lower --memory or --resize, or give nodes fewer CPUs (ray start --num-cpus); what is done is kept"
            )


class _Nothing:
    """No answer. worker_died: its jobs go to others. at_fault: the job may be why."""

    def __init__(self, *, worker_died: bool, at_fault: bool, reason: str) -> None:
        self.worker_died, self.at_fault, self.reason = worker_died, at_fault, reason


def _ready(references: list[Any]) -> list[Any]:
    """Those that are there, after a little time at most."""
    import ray

    if not references:
        time.sleep(_WAIT_S)
        return []
    first, _ = ray.wait(references, num_returns=1, timeout=_WAIT_S)
    if not first:
        return []
    found, _ = ray.wait(references, num_returns=len(references), timeout=0)
    return list(found)


def _cancel(references: list[Any]) -> None:
    """Those that no worker has begun with are not begun."""
    import ray

    for reference in references:
        ray.cancel(reference)


def _why(error: Exception) -> str:
    if type(error).__name__ == "OutOfMemoryError" or "running low on memory" in str(error):
        return "Ray ended it for want of memory"
    return "it died, perhaps for want of memory"


def _store_bytes() -> int:
    import ray

    own = ray.get_runtime_context().get_node_id()
    sizes = [node["Resources"].get("object_store_memory", _STORE) for node in ray.nodes() if node["NodeID"] == own]
    return int(min(sizes, default=_STORE))
