"""What runs on the nodes: a process for each GPU, or for each core where there is none.

A worker knows no folder of the driver's: all that it needs comes with a job, and all that it finds goes back.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from sfm import __version__
from sfm.cluster.recipe import Recipe
from sfm.cluster.shipping import PackedMatches, ShippedImage, ShippedReader
from sfm.matchers.base import Matcher
from sfm.matching.rotations import RotatedPair
from sfm.matching.session import Session
from sfm.options import MatchingOptions
from sfm.system import memory
from sfm.system.parallel import CORES
from sfm.types import ImagePair, Matches

_EQUAL = ("torch", "numpy", "pillow", "pycolmap")  # whose versions decide what comes out


def versions() -> dict[str, str]:
    """Of loftr-sfm and of the libraries that its results depend on, in this process's Python."""
    found = {"loftr-sfm": __version__, "python": ".".join(platform.python_version_tuple()[:2])}
    for name in _EQUAL:
        try:
            found[name] = version(name).partition("+")[0]  # +cpu and +cu130 are one version
        except PackageNotFoundError:
            found[name] = "none"
    return found


@dataclass(frozen=True, slots=True, eq=False)
class MatchSpec:
    """What is equal for all blocks of a run. options: of the driver."""

    recipe: Recipe
    options: MatchingOptions


@dataclass(frozen=True, slots=True, eq=False)
class BlockMatches:
    """What a worker found. failed: the reason for each image that cannot be read. lost: pairs of those."""

    matches: PackedMatches
    failed: dict[str, str]
    lost: tuple[ImagePair, ...]
    num_encoded: int


class Shared(NamedTuple):
    """A function in the object store, which a worker fetches once. references: one, in a list so that Ray does not
    fetch it for each call."""

    key: str
    references: list[Any]

    def get(self) -> Callable[[Any], Any]:
        """The function."""
        import ray

        found: Callable[[Any], Any] = ray.get(self.references[0])
        return found


class Worker:
    """A process of a node. As a Ray actor it does one job after the other, in the order that they come."""

    def __init__(self, num_cores: int, num_beside: int, on_gpu: bool) -> None:
        """num_cores: what it may use. num_beside: workers on its node, which share its memory."""
        os.environ[CORES] = str(num_cores)
        self._num_beside = max(1, num_beside)
        self._device = "cuda" if on_gpu else "cpu"
        self._matcher: tuple[dict[str, str], Matcher] | None = None
        self._function: tuple[str, Callable[[Any], Any]] | None = None

    def hello(self) -> dict[str, str]:
        """The versions on its node; a sign that it is ready."""
        return versions()

    def match(
        self, spec: MatchSpec, tasks: Sequence[RotatedPair], failures: int, *images: ShippedImage
    ) -> BlockMatches:
        """The matches of a block. failures: workers that ended at this block before, perhaps for want of memory: it is
        then done with half as much each time. Raises SfMError as Session does."""
        matcher, results = self._make(spec.recipe), list[tuple[RotatedPair, Matches]]()
        with ShippedReader(images) as reader:
            session = Session(matcher, reader, self._own(spec.options, matcher, failures))
            for part, _ in session.match_all(tasks):
                results += part
        memory.give_back()
        return BlockMatches(PackedMatches.of(results), dict(session.failed), tuple(session.lost), session.num_encoded)

    def call(self, function: Shared, item: Any) -> Any:
        """The function of an item."""
        if self._function is None or self._function[0] != function.key:
            self._function = (function.key, function.get())
        return self._function[1](item)

    def _make(self, recipe: Recipe) -> Matcher:
        if self._matcher is None or self._matcher[0] != recipe.provenance:
            self._matcher = None  # its memory is free before the next one's is taken
            self._matcher = (recipe.provenance, recipe.make(self._device))
        return self._matcher[1]

    def _own(self, options: MatchingOptions, matcher: Matcher, failures: int) -> MatchingOptions:
        """The options with this worker's share of the memory of its node, or of its GPU."""
        sharing = 1 if self._device == "cuda" else self._num_beside
        share = memory.budget(options.memory, self._device) / sharing / 2**failures
        batch = max(1, (options.batch or matcher.batch_size) >> failures)
        return replace(options, device=self._device, memory=share / 1e9, batch=batch)
