"""Ray's own cluster of several nodes on this machine, and a matcher that takes its time, for their workers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sfm.images.index import read_images_index
from sfm.matchers.base import Matcher
from sfm.options import ImageOptions
from sfm.types import Grid, ImageRecord, MatcherTraits, Matches

NEEDS_RAY = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'loftr-sfm[ray]'")
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}


@contextmanager
def ray_cluster(*cpus: int) -> Iterator[Any]:
    """A ray.cluster_utils.Cluster of nodes with so many CPUs each; its `address` is for --cluster. Its variables must
    be set (TOKEN) before Ray is loaded."""
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 100_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus[0], **small})
    try:
        for num in cpus[1:]:
            add_node(cluster, num)
        yield cluster
    finally:
        cluster.shutdown()


def add_node(cluster: Any, num_cpus: int) -> Any:
    """Another node joins."""
    return cluster.add_node(num_cpus=num_cpus, object_store_memory=100_000_000)


class Seen:
    """The number that an image carries."""

    nbytes = 1000

    def __init__(self, number: int) -> None:
        self.number = number


@dataclass
class SlowMatcher:
    """Answers with the numbers of the two images after `delay` s, and leaves a file for each pair in `tally`, named
    after the process that matched it. dies: pairs at which its process ends, as long as `tally` says that it was tried
    less than `deaths` times. needs: of memory as many pairs at once as this fail. hold: a file; while it is there, for
    a minute at most, answers wait."""

    delay: float = 0.0
    tally: str = ""
    dies: tuple[tuple[int, int], ...] = ()
    deaths: int = 0
    too_many: int = 10**9
    hold: str = ""
    batch_size: int = 4
    name: str = "slow"
    rotation_invariant: bool = True
    anchor: float = 0.5
    traits: MatcherTraits = field(default_factory=lambda: MatcherTraits(dense=True))

    @property
    def provenance(self) -> dict[str, str]:
        return {"matcher": "slow"}

    def grid(self, width: int, height: int) -> Grid:
        return Grid(8.0, 8.0, width // 8)

    def encode(self, images: Sequence[np.ndarray], masks: object = None) -> list[Seen]:
        return [Seen(int(image[0, 0])) for image in images]

    def match(self, pairs: Sequence[tuple[Seen, Seen]]) -> list[Matches]:
        if len(pairs) > self.too_many:
            raise MemoryError
        return [self._match(seen0.number, seen1.number) for seen0, seen1 in pairs]

    def _match(self, number0: int, number1: int) -> Matches:
        time.sleep(self.delay)
        tried = len(list(Path(self.tally).glob(f"{number0}-{number1}.*"))) if self.tally else 0
        if self.tally:
            Path(self.tally, f"{number0}-{number1}.{os.getpid()}.{time.monotonic_ns()}").touch()
        if (number0, number1) in self.dies and tried < self.deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        end = time.monotonic() + 60
        while self.hold and Path(self.hold).exists() and time.monotonic() < end:
            time.sleep(0.1)
        points = np.random.default_rng((number0, number1)).uniform(0, 32, (2, 9, 2))
        cells = np.full(9, number0), np.full(9, number1)
        return Matches(*points, np.full(9, 0.5), *cells)


@dataclass(frozen=True)
class SlowRecipe:
    """As sfm.cluster.recipe.Recipe, of a SlowMatcher."""

    matcher: SlowMatcher

    @property
    def provenance(self) -> dict[str, str]:
        return self.matcher.provenance

    def make(self, device: str) -> Matcher:
        return self.matcher


def write_numbered(folder: Path, num: int) -> dict[str, ImageRecord]:
    """num small images whose pixels are their numbers, and their records."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(num):
        Image.fromarray(np.full((32, 40), number, np.uint8)).save(folder / f"{number:03d}.png")
    records, _ = read_images_index(folder, ImageOptions())
    return {record.name: record for record in records}
