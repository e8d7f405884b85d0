"""The connection to a Ray cluster: made quietly, with errors of one line, and the places that it has for workers."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sfm.cluster.address import LOCAL
from sfm.errors import BadOption, one_line
from sfm.system.parallel import num_cores
from sfm.system.standard_error import without_stderr

log = logging.getLogger(__name__)

_WORKER_BYTES = 1_000_000_000  # of a worker on the CPU: torch, the network, features of a block
_QUIET = {  # Ray's own output and its reports home; none of it is the run's business
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_SCHEDULER_EVENTS": "0",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Room for a worker. node: Ray's identity of it. host: its name, for messages. rank: among those of its node.
    num_beside: places of the node. num_cpus, num_gpus: what the worker takes of the node."""

    node: str
    host: str
    rank: int
    num_beside: int
    num_cpus: int
    num_gpus: int


def places_of(nodes: list[dict[str, Any]], *, on_gpus: bool) -> list[Place]:
    """A place for each GPU, with its share of the node's cores; without GPUs for each core, as memory allows.

    nodes: as ray.nodes() has them.
    """
    places = []
    for node in nodes:
        resources = node["Resources"]
        cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        if not node["Alive"] or not (gpus if on_gpus else cpus):
            continue
        by_memory = (
            max(1, int(resources.get("memory", float("inf")) // _WORKER_BYTES)) if "memory" in resources else cpus
        )
        num = gpus if on_gpus else min(cpus, by_memory)
        share = cpus // gpus if on_gpus else 1
        host = node.get("NodeManagerHostname") or node.get("NodeManagerAddress", "?")
        places += [Place(node["NodeID"], host, rank, num, share, int(on_gpus)) for rank in range(num)]
    return places


def has_gpus(nodes: list[dict[str, Any]]) -> bool:
    """Whether a node that is there has one."""
    return any(node["Alive"] and node["Resources"].get("GPU", 0) >= 1 for node in nodes)


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Inside, this process is the driver of a Ray cluster; of its own one on this machine for `local`.

    Raises BadOption, in one line, where there is no connection. What Ray does to signals is undone.
    """
    import ray

    if ray.is_initialized():
        raise BadOption("--cluster: this process is already connected to a Ray cluster; call ray.shutdown() before")
    with _environment(_QUIET), _signals_kept():
        try:
            _init(ray, address)
        except (KeyboardInterrupt, SystemExit):
            ray.shutdown()
            raise
        except BaseException as error:
            ray.shutdown()
            raise BadOption(f"--cluster {address}: {_remedy(error)}") from error
    try:
        with _without_messages():
            yield
    finally:
        with _signals_kept():
            ray.shutdown()


def _init(ray: Any, address: str) -> None:
    own = {"num_cpus": num_cores(), "include_dashboard": False} if address == LOCAL else {}
    with without_stderr():
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **own)


def _remedy(error: BaseException) -> str:
    """What Ray says, in one line, and what to do."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    said = one_line(Exception(str(error).strip() or type(error).__name__), 300)
    lowered = " ".join(f"{type(each).__name__} {each}" for each in causes).lower()
    if "version mismatch" in lowered:
        return f"{said}; install the same Ray and Python on all nodes"
    if "token" in lowered or "authentic" in lowered:
        return (
            "the cluster asks for its token: set RAY_AUTH_MODE=token, and copy ~/.ray/auth_token of the head node to "
            "this machine or set RAY_AUTH_TOKEN (docs/cluster.md)"
        )
    if "could not find any running ray instance" in lowered or "no node" in lowered or "raylet" in lowered:
        return f"{said}; join the cluster on this machine first: ray start --address=HOST:PORT (docs/cluster.md)"
    return f"{said}; see docs/cluster.md"


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Variables that are not set are set inside, for the processes that begin there."""
    own = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(own)
    try:
        yield
    finally:
        for name in own:
            os.environ.pop(name, None)


@contextmanager
def _without_messages() -> Iterator[None]:
    """Ray prints whatever its nodes report, a page when one dies, even where log_to_driver is off; of which a run says
    what its user has to know."""
    from ray._private import worker as internals

    before = getattr(internals, "print_to_stdstream", None)
    if before is not None:
        internals.print_to_stdstream = _to_debug_log  # type: ignore[assignment]
    try:
        yield
    finally:
        if before is not None:
            internals.print_to_stdstream = before


def _to_debug_log(message: dict[str, Any], ignore_prefix: bool = False) -> None:
    log.debug("%s", message)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Afterwards SIGTERM and Ctrl-C do what they did before: Ray sets handlers of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
