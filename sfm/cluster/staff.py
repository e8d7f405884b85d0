"""The workers of a run: one at each place of the cluster, hired as nodes join, replaced when they die."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from sfm import __version__
from sfm.cluster.connection import Place, has_gpus, places_of
from sfm.cluster.worker import Worker, versions
from sfm.errors import SfMError, one_line

log = logging.getLogger(__name__)

_LOOK_S = 2.0  # between two looks at which nodes there are
_SAY_S, _GIVE_UP_S = 20.0, 600.0  # without any worker, until that is said, and until the run ends
_FAILED_STARTS = 3  # of a node, after which it is left out


@dataclass(frozen=True, slots=True, eq=False)
class Hand:
    """A worker: its place, and its Ray actor."""

    place: Place
    actor: Any


class Staff:
    """The workers that are ready, by what Ray says of its nodes."""

    def __init__(self, device: str) -> None:
        """device: of the options; auto takes GPUs where the cluster has any when the run begins."""
        import ray

        nodes = ray.nodes()
        self._on_gpus = device == "cuda" or (device == "auto" and has_gpus(nodes))
        self.ready: list[Hand] = []
        self._coming: dict[Any, Hand] = {}  # by the reference of their first word
        self._failed_starts: Counter[str] = Counter()
        self._left_out: dict[str, str] = {}  # the reason, by node
        self._looked_at = self._nobody_since = time.monotonic()
        self._said = False
        self.places = places_of(nodes, on_gpus=self._on_gpus)
        self._hire()

    @property
    def waiting_for(self) -> list[Any]:
        """References that tell when another worker is ready."""
        return list(self._coming)

    @property
    def notes(self) -> tuple[str, ...]:
        """Which nodes are left out, and why."""
        return tuple(self._left_out.values())

    def refresh(self) -> None:
        """Hires for nodes that joined and in place of the dead. Raises SfMError where there is nobody for long, or no
        node can be used."""
        import ray

        now = time.monotonic()
        if now - self._looked_at >= _LOOK_S:
            self._looked_at = now
            self.places = places_of(ray.nodes(), on_gpus=self._on_gpus)
            self._hire()
        if self.ready:
            self._nobody_since, self._said = now, False
            return
        if self._left_out and not self._coming and all(place.node in self._left_out for place in self.places):
            raise SfMError(f"--cluster: no node can be used: {'; '.join(self.notes)}")
        what = "GPU" if self._on_gpus else "CPU"
        if now - self._nobody_since > _GIVE_UP_S:
            raise SfMError(
                f"--cluster: no node had a {what} free for {_GIVE_UP_S / 60:.0f} minutes; what is done is kept: give "
                "the same command when there are nodes (ray status)"
            )
        if now - self._nobody_since > _SAY_S and not self._said:
            self._said = True
            log.warning("waiting for the cluster: no node has a %s free (ray status)", what)

    def welcome(self, reference: Any) -> None:
        """A worker has said its first word, or has died before."""
        import ray

        hand = self._coming.pop(reference)
        try:
            fault = _differences(ray.get(reference))
        except ray.exceptions.RayError as error:
            self._failed_to_start(hand.place, error)
            return
        if fault:
            ray.kill(hand.actor)
            self._leave_out(hand.place, f"it has {fault}; install the same on all nodes")
        else:
            self.ready.append(hand)

    def remove(self, hand: Hand) -> None:
        """A worker is no more, or is not to be relied on."""
        import ray

        if hand in self.ready:
            self.ready.remove(hand)
            ray.kill(hand.actor)
            self._looked_at = 0.0

    def _hire(self) -> None:
        taken = {(hand.place.node, hand.place.rank) for hand in (*self.ready, *self._coming.values())}
        for place in self.places:
            if place.node not in self._left_out and (place.node, place.rank) not in taken:
                actor = _start(place)
                self._coming[actor.hello.remote()] = Hand(place, actor)

    def _failed_to_start(self, place: Place, error: Exception) -> None:
        if place.node not in {each.node for each in self.places}:
            return
        text = str(error)
        if "No module named 'sfm" in text:
            self._leave_out(place, f"it has no loftr-sfm; on the node: pip install 'loftr-sfm[ray]=={__version__}'")
            return
        self._failed_starts[place.node] += 1
        if self._failed_starts[place.node] >= _FAILED_STARTS:
            last = text.strip().splitlines()[-1:] or [type(error).__name__]
            self._leave_out(place, f"its workers do not start ({one_line(Exception(last[0]))})")

    def _leave_out(self, place: Place, reason: str) -> None:
        if place.node not in self._left_out:
            self._left_out[place.node] = f"node {place.host} is left out: {reason}"
            log.warning("%s", self._left_out[place.node])


def _start(place: Place) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    actor = ray.remote(Worker).options(
        num_cpus=place.num_cpus,
        num_gpus=place.num_gpus,
        max_restarts=0,  # we replace it ourselves, and give its jobs to others
        scheduling_strategy=NodeAffinitySchedulingStrategy(place.node, soft=False),
    )
    return actor.remote(max(1, place.num_cpus), place.num_beside, bool(place.num_gpus))


def _differences(found: dict[str, str]) -> str:
    """In words, what a node has of another version than this process; "" where all is equal."""
    return ", ".join(
        f"{name} {found.get(name, 'none')} and the driver {own}"
        for name, own in versions().items()
        if found.get(name) != own
    )
