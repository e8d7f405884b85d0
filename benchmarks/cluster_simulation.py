"""How long a run takes on 1, 8 and 64 machines, on paper: the cluster's own ledger and blocks, with measured times.

`python -m benchmarks.cluster_simulation [--costs COSTS.json] [--measure IMAGES]` measures what one image and one pair
cost on one core of this machine (or takes it from a file), and simulates matching block by block: each worker one block
at a time and one ahead, the driver one thing at a time (reading and hashing an image when it is first sent, unpacking
and writing what comes back), the driver's network card one thing at a time. Images are points in a room, and each is
paired with its 20 nearest. Verification, whose blocks are equal, is a formula.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from heapq import heappop, heappush
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from scipy.spatial import cKDTree

from benchmarks.measure import machine
from sfm.cluster.blocks import MAX_PAIRS, Block, cut, pairs_a_block
from sfm.cluster.ledger import AHEAD, Ledger
from sfm.cluster.shipping import PackedMatches, ship
from sfm.finders import Finder
from sfm.images.decoding import read_grey
from sfm.images.index import read_images_index
from sfm.matchers.registry import make_matcher
from sfm.matching.rotations import RotatedPair
from sfm.matching.session import match_images
from sfm.options import SMALL_SET, ImageOptions, MatchingOptions, VerificationOptions
from sfm.storage.database import FeatureDatabase
from sfm.system.parallel import CORES as CORES_VARIABLE
from sfm.types import ImagePair, ImageRecord, Matches
from sfm.verification.stage import verify_each
from sfm.verification.still import StillParts

NEIGHBOURS = 20
CORES = 16  # of a machine
GPU_PAIRS_S = 40.0  # ASSUMED: pairs of 640x480 a second of one GPU with the outdoor weights; encoding 3 ms an image
GPU_ENCODE_S = 0.003
NETWORK = 1.25e9  # bytes/s of the driver's network card: 10 Gbit/s
DISPATCH_S = 0.002  # of the driver for a block: Ray's own part, measured with empty jobs


@dataclass(frozen=True)
class Costs:
    """Seconds on one core, and bytes. read: of an image by the driver (reading, hashing, into the object store).
    write: of a pair's matches by the driver (unpacking, HDF5). read_matches: of a pair for verification."""

    encode_s: float
    match_s: float
    verify_s: float
    read_s: float
    write_s: float
    read_matches_s: float
    image_bytes: float
    match_bytes: float
    overhead_s: float  # of a worker for a block, besides encoding and matching


@dataclass(frozen=True)
class Setting:
    """machines, workers on each, and their speed."""

    machines: int
    workers: int
    encode_s: float
    match_s: float
    verify_workers: int


@dataclass(frozen=True)
class Simulated:
    """hours of a stage; of which the driver and its network card were busy; bytes moved."""

    hours: float
    driver_busy: float
    network_busy: float
    nbytes: float


class _Line:
    """What does one thing at a time."""

    def __init__(self) -> None:
        self.free_at, self.busy = 0.0, 0.0

    def take(self, now: float, seconds: float) -> float:
        """When it will be done with another thing that comes now."""
        self.free_at = max(self.free_at, now) + seconds
        self.busy += seconds
        return self.free_at


def simulate(blocks: Sequence[Block], setting: Setting, costs: Costs) -> Simulated:
    """Matching. A worker begins a block when its images are there; workers of a machine share what came once."""
    ledger, driver, network = Ledger(iter(blocks)), _Line(), _Line()
    at_machine: list[set[str]] = [set() for _ in range(setting.machines)]
    read: set[str] = set()
    free_at = dict.fromkeys(range(setting.machines * setting.workers), 0.0)
    events: list[tuple[float, int, int]] = []  # (time, worker, job)
    nbytes = 0.0

    def hand_out(worker: int, now: float) -> bool:
        nonlocal nbytes
        order = ledger.next_for(worker, now)
        if order is None:
            return False
        block, there = order.job, at_machine[worker // setting.workers]
        new, missing = set(block.images) - read, set(block.images) - there
        read.update(new)
        there.update(missing)
        sent_at = driver.take(now, DISPATCH_S + len(new) * costs.read_s)
        come_at = network.take(sent_at, len(missing) * costs.image_bytes / NETWORK)
        nbytes += len(missing) * costs.image_bytes
        seconds = len(block.images) * setting.encode_s + len(block.tasks) * setting.match_s + costs.overhead_s
        free_at[worker] = max(free_at[worker], come_at) + seconds
        heappush(events, (free_at[worker], worker, order.number))
        return True

    for _ in range(AHEAD):
        for worker in free_at:
            hand_out(worker, 0.0)
    end = 0.0
    while events:
        now, worker, number = heappop(events)
        job = ledger.job(number) if ledger.is_open(number) else None
        first = ledger.answered(worker, number, now)
        if first and job is not None:
            size = len(job.tasks) * costs.match_bytes
            nbytes += size
            arrived = network.take(now, size / NETWORK)
            end = max(end, driver.take(arrived, len(job.tasks) * costs.write_s))
        while hand_out(worker, now):
            pass
    return Simulated(end / 3600, driver.busy / end, network.busy / end, nbytes)


def verification(num_pairs: int, setting: Setting, costs: Costs) -> Simulated:
    """Verification: its blocks are equal, so a formula does."""
    size = num_pairs * costs.match_bytes
    parts = {
        "workers": num_pairs * costs.verify_s / (setting.machines * setting.verify_workers),
        "driver": num_pairs * costs.read_matches_s,
        "network": size / NETWORK,
    }
    end = max(parts.values())
    return Simulated(end / 3600, parts["driver"] / end, parts["network"] / end, size)


def room(num: int) -> list[RotatedPair]:
    """The pairs of `num` images, each with its NEIGHBOURS nearest ones in a room of places and directions."""
    xyz = np.random.default_rng(0).uniform(size=(num, 3))
    nearest = cKDTree(xyz).query(xyz, NEIGHBOURS + 1)[1]
    ends = {(min(i, j), max(i, j)) for i, row in enumerate(nearest.tolist()) for j in row if i != j}
    return [RotatedPair(ImagePair(f"{i:06d}", f"{j:06d}"), 0) for i, j in sorted(ends)]


def measure(folder: Path, num_images: int = 8) -> Costs:
    """What the images of a folder cost on one core: processor seconds, medians of three; wall seconds on the disk."""
    os.environ[CORES_VARIABLE] = "1"
    torch.set_num_threads(1)
    records, _ = read_images_index(folder, ImageOptions())
    records = records[:num_images]
    by_name = {record.name: record for record in records}
    options = MatchingOptions(device="cpu", weights="compact", offline=True, batch=1)
    matcher = make_matcher(options)
    tasks = [RotatedPair(ImagePair(a.name, b.name), 0) for i, a in enumerate(records) for b in records[i + 1 :]]
    shipped = [ship(folder, record, None) for record in records]
    images = [read_grey(folder, record) for record in records]
    encode_s = _median(lambda: matcher.encode(images)) / len(records) + _median(
        lambda: [read_grey(folder, record) for record in records]
    ) / len(records)
    features = list(matcher.encode(images))
    match_s = _median(lambda: matcher.match([(features[0], features[1]), (features[1], features[2])])) / 2
    results = [item for batch in match_images(matcher, folder, by_name, tasks, options) for item in batch]
    read_s = _median(lambda: [ship(folder, record, None) for record in records]) / len(records)
    grids = {name: matcher.grid(record.width, record.height) for name, record in by_name.items()}
    items = [(task.pair, found) for task, found in results]
    of_many = {str(number): records[0] for number in range(SMALL_SET + 1)} | by_name  # as a large set is verified
    verify_s = _median(
        lambda: verify_each(items, of_many, [Finder(grids, matcher.traits)], VerificationOptions(), still=StillParts())
    ) / len(items)
    write_s, read_matches_s = _storage(results, records)
    packed = PackedMatches.of(results)
    return Costs(
        encode_s=encode_s,
        match_s=match_s,
        verify_s=verify_s,
        read_s=read_s,
        write_s=write_s,
        read_matches_s=read_matches_s,
        image_bytes=float(np.mean([each.nbytes for each in shipped])),
        match_bytes=packed.nbytes / len(results),
        overhead_s=0.05,
    )


def _storage(results: Sequence[tuple[RotatedPair, Matches]], records: Sequence[ImageRecord]) -> tuple[float, float]:
    """Seconds a pair to unpack and write, and to read, in blocks of some 200 pairs: the least of five, as waiting for
    a disk that others use as well is no part of it."""
    copies = range(max(1, MAX_PAIRS // len(results)))
    results = [
        (RotatedPair(ImagePair(f"{copy}/{task.pair.name0}", f"{copy}/{task.pair.name1}"), 0), found)
        for copy in copies
        for task, found in results
    ]
    records = [replace(record, name=f"{copy}/{record.name}") for copy in copies for record in records]
    packed = PackedMatches.of(results)

    def write() -> float:
        with TemporaryDirectory() as folder, FeatureDatabase.open(Path(folder, "features.h5")) as db:
            db.write_images(records)
            begun = time.perf_counter()
            for number in range(8):
                db.write_matches([(task.pair, m) for task, m in packed.unpacked()], matcher_key=str(number))
            written = time.perf_counter()
            for task, _ in results:
                db.read_matches(task.pair)
            reads.append((time.perf_counter() - written) / len(results))
        return (written - begun) / 8 / len(results)

    reads: list[float] = []
    writes = [write() for _ in range(5)]
    return min(writes), min(reads)


def _median(work: object) -> float:
    times = []
    for _ in range(3):
        begun = time.process_time()
        work()  # type: ignore[operator]
        times.append(time.process_time() - begun)
    return float(np.median(times))


def rows(costs: Costs, counts: Sequence[int], machines: Sequence[int]) -> Iterator[str]:
    """The table: a line for each number of images and machines, with cores and with a GPU each."""
    yield "| images | machines | matching, h | verification, h | moved, GB | driver busy | network busy |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for count in counts:
        tasks = room(count)
        cuts: dict[int, list[Block]] = {}
        for num in machines:
            for kind in ("cores", "GPU"):
                setting = (
                    Setting(num, CORES, costs.encode_s, costs.match_s, CORES)
                    if kind == "cores"
                    else Setting(num, 1, GPU_ENCODE_S, 1 / GPU_PAIRS_S, CORES)
                )
                size = pairs_a_block(len(tasks), setting.machines * setting.workers)
                blocks = cuts.setdefault(size, []) or cut(tasks, max_pairs=size)
                cuts[size] = blocks
                matching, verified = simulate(blocks, setting, costs), verification(len(tasks), setting, costs)
                name = f"{num} x {f'{CORES} cores' if kind == 'cores' else '1 GPU'}"
                yield (
                    f"| {count:,} ({len(tasks):,} pairs) | {name} | {matching.hours:.2f} | {verified.hours:.2f} | "
                    f"{(matching.nbytes + verified.nbytes) / 1e9:,.0f} | {matching.driver_busy:.0%} | "
                    f"{matching.network_busy:.0%} |"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", type=Path, metavar="IMAGES", help="folder whose images are measured")
    parser.add_argument("--costs", type=Path, metavar="FILE", help="costs that were measured; written with --measure")
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--machines", type=int, nargs="+", default=[1, 8, 64])
    args = parser.parse_args()
    if args.measure is None and args.costs is None:
        parser.error("give --measure IMAGES, or --costs FILE")
    costs = measure(args.measure) if args.measure else Costs(**json.loads(args.costs.read_text()))
    if args.measure and args.costs:
        args.costs.write_text(json.dumps(asdict(costs), indent=2))
    print(machine())
    print(json.dumps(asdict(costs), indent=2))
    print(*rows(costs, args.images, args.machines), sep="\n")


if __name__ == "__main__":
    main()
