"""Ray nodes of one pinned core each, against one such node and against a run without Ray on the same two cores.

`python -m benchmarks.cluster_speed IMAGES [--num 24] [--resize 640] [--repeats 3]` matches images with their next 5 by
the compact network: here, on one node bound to core 0, and on two nodes bound to cores 0 and 1. The workers are ready
and have loaded the network before the clock runs. The three take turns; of the ratios of one turn the median counts,
since other programs' load comes and goes. Processor seconds are of the workers and the driver, or of this process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measure import code_version, machine
from sfm.cluster.cluster import Cluster
from sfm.cluster.recipe import recipe_of
from sfm.cluster.session import ClusterSession, ImageStore
from sfm.images.index import read_images_index
from sfm.matchers.registry import make_matcher
from sfm.matching.prefetch import ImageReader
from sfm.matching.rotations import RotatedPair
from sfm.matching.session import MatchingSession, Session
from sfm.options import ImageOptions, MatchingOptions
from sfm.types import ImagePair

REACH = 5  # next images that each is matched with
SMALL = {"object_store_memory": 200_000_000}


class Bench:
    """The pairs, and the three ways of matching them."""

    def __init__(self, folder: Path, num: int, resize: int) -> None:
        records = read_images_index(folder, ImageOptions())[0][:num]
        names = [record.name for record in records]
        self.folder, self.records = folder, {record.name: record for record in records}
        self.tasks = [
            RotatedPair(ImagePair(a, b), 0) for i, a in enumerate(names) for b in names[i + 1 : i + 1 + REACH]
        ]
        self.options = MatchingOptions(device="cpu", weights="compact", resize=resize, offline=True)
        self.matcher = make_matcher(self.options)

    def here(self) -> tuple[float, float]:
        """Wall and processor seconds of a run without Ray."""
        with ImageReader(self.folder, self.records, None) as reader:
            return timed(Session(self.matcher, reader, self.options), self.tasks, [psutil.Process()])

    def on(self, address: str, num_workers: int) -> tuple[float, float]:
        """Wall and processor seconds of a run on a cluster."""
        with Cluster(address, device="cpu") as cluster:
            store = ImageStore(self.folder, self.records, None, cluster.budget)
            session = ClusterSession(cluster, recipe_of(self.options, self.matcher), self.options, store)
            while cluster.num_ready < num_workers:
                list(cluster.map(own_pid, [0]))
            whose = [psutil.Process(), *map(psutil.Process, set(cluster.map(own_pid, range(8 * num_workers))))]
            for _ in session.match_all(self.tasks[: 40 * num_workers]):  # loads the network in every worker
                pass
            return timed(session, self.tasks, whose)


def timed(session: MatchingSession, tasks: Sequence[RotatedPair], whose: Sequence[Any]) -> tuple[float, float]:
    """Wall and processor seconds of matching the tasks."""
    before, begun = processor_seconds(whose), time.perf_counter()
    num = sum(len(results) for results, _ in session.match_all(tasks))
    assert num == len(tasks)
    return time.perf_counter() - begun, processor_seconds(whose) - before


def own_pid(_: int) -> int:
    """Of the worker that is asked."""
    time.sleep(0.05)
    return os.getpid()


def processor_seconds(processes: Sequence[Any]) -> float:
    """Of all of them so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


@contextmanager
def bound_to(core: int) -> Iterator[None]:
    """What is started inside runs on this core alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, metavar="IMAGES")
    parser.add_argument("--num", type=int, default=24, help="images that are taken of the folder")
    parser.add_argument("--resize", type=int, default=640)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    from ray.cluster_utils import Cluster as Nodes

    bench = Bench(args.images, args.num, args.resize)
    cores = sorted(os.sched_getaffinity(0))[:2]
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **SMALL})
    print(f"{machine()}; {code_version()}; {len(bench.tasks)} pairs of {args.num} images, --resize {args.resize}")
    print("load | here: wall, cpu s | one node | two nodes | two against one | two against here: wall, cpu")
    ratios: list[tuple[float, float, float]] = []
    with bound_to(cores[0]):
        nodes.add_node(num_cpus=1, **SMALL)
    for _ in range(args.repeats):
        load = os.getloadavg()[0]
        here, one = bench.here(), bench.on(nodes.address, 1)
        with bound_to(cores[1]):
            second = nodes.add_node(num_cpus=1, **SMALL)
        two = bench.on(nodes.address, 2)
        nodes.remove_node(second)
        ratios.append((one[0] / two[0], two[0] / here[0], two[1] / here[1]))
        columns = [f"{wall:.1f}, {cpu:.1f}" for wall, cpu in (here, one, two)]
        print(f"{load:.1f} |", " | ".join(columns), "|", " | ".join(f"{value:.2f}" for value in ratios[-1]), flush=True)
    nodes.shutdown()
    middle = [statistics.median(column) for column in zip(*ratios, strict=True)]
    print(f"medians: two nodes {middle[0]:.2f} times as fast as one; against a run here {middle[1]:.2f} of its time,")
    print(f"{middle[2]:.2f} of its processor time")


if __name__ == "__main__":
    main()
