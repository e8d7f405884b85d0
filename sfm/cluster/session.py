"""Matching on a cluster, as the matching stage knows it from its own session (sfm.matching.session)."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sfm.cluster.blocks import Block, cut, pairs_a_block
from sfm.cluster.cluster import Cluster
from sfm.cluster.ledger import Order
from sfm.cluster.recipe import Recipe
from sfm.cluster.shipping import ship
from sfm.cluster.worker import BlockMatches, MatchSpec
from sfm.matching.rotations import RotatedPair
from sfm.matching.session import FIT_PAIRS, Fits, parts_of, skipped_images
from sfm.options import MatchingOptions
from sfm.types import ImagePair, ImageRecord, Matches


def nbytes_of(items: Sequence[tuple[ImagePair, Matches]]) -> int:
    """Bytes of the matches of some pairs."""
    return sum(m.points0.nbytes + m.points1.nbytes + m.confidence.nbytes + 2 * m.cells0.nbytes for _, m in items)


def _fit_each(fits: Fits, items: Sequence[tuple[ImagePair, Matches]]) -> list[bool]:
    return [fits(pair, matches) for pair, matches in items]


class ImageStore:
    """Images in the object store of the driver's node: from there each goes once to each node that needs it, and stays
    until room is needed."""

    def __init__(self, folder: Path, records: Mapping[str, ImageRecord], masks: Path | None, budget: int) -> None:
        """budget: bytes that may be kept."""
        self._folder, self._records, self._masks, self._budget = folder, records, masks, budget
        self._references: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._uses: Counter[str] = Counter()
        self._nbytes = 0

    @property
    def has_room(self) -> bool:
        """What blocks that are on their way need leaves room for another."""
        used = sum(self._references[name][1] for name in self._uses if name in self._references)
        return used < self._budget

    def hold(self, names: Sequence[str]) -> list[Any]:
        """References of the images, which stay until they are released as often."""
        import ray

        for name in names:
            self._uses[name] += 1
            if name in self._references:
                self._references.move_to_end(name)
                continue
            image = ship(self._folder, self._records[name], self._masks)
            self._references[name] = ray.put(image), image.nbytes
            self._nbytes += image.nbytes
        self._shrink()
        return [self._references[name][0] for name in names]

    def release(self, names: Sequence[str]) -> None:
        """A block of these images is done."""
        self._uses -= Counter(names)
        self._shrink()

    def _shrink(self) -> None:
        for name in list(self._references):
            if self._nbytes <= self._budget:
                return
            if name not in self._uses:
                self._nbytes -= self._references.pop(name)[1]


class ClusterSession:
    """One run of a matcher over many pairs, by the workers of a cluster: as sfm.matching.session.Session."""

    def __init__(
        self,
        cluster: Cluster,
        recipe: Recipe,
        options: MatchingOptions,
        store: ImageStore,
    ) -> None:
        self.num_encoded = 0
        self.lost: set[ImagePair] = set()
        self._failed: dict[str, str] = {}
        self._cluster, self._spec, self._store = cluster, MatchSpec(recipe, options), store

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """(image, reason) of each image that could not be read."""
        return skipped_images(self._failed, self.lost)

    @property
    def notes(self) -> tuple[str, ...]:
        """Which nodes are left out, and why."""
        return self._cluster.notes

    def match_all(self, tasks: Sequence[RotatedPair]) -> Iterator[tuple[list[tuple[RotatedPair, Matches]], int]]:
        """Block by block: (task, matches) of those that could be matched, and the number that is done with."""
        if not tasks:
            return
        import ray

        blocks = cut(tasks, max_pairs=pairs_a_block(len(tasks), self._cluster.num_workers))
        spec, held = ray.put(self._spec), set[int]()

        def send(actor: Any, order: Order[Block]) -> Any:
            names = order.job.images
            references = self._store.hold(names)
            if order.number in held:  # handed out again
                self._store.release(names)
            held.add(order.number)
            return actor.match.remote(spec, order.job.tasks, order.deaths, *references)

        for _, block, answer in self._cluster.run(blocks, send, has_room=lambda: self._store.has_room):
            self._store.release(block.images)
            yield self._accounted(answer), len(block.tasks)

    def fit(self, fits: Fits, items: Iterable[tuple[ImagePair, Matches]]) -> Iterator[bool]:
        """What a function says of each pair and its matches, in order. fits: picklable."""
        for answers in self._cluster.map(partial(_fit_each, fits), parts_of(items, FIT_PAIRS), nbytes=nbytes_of):
            yield from answers

    def forget(self) -> None:
        """Nothing is kept here."""

    def _accounted(self, answer: BlockMatches) -> list[tuple[RotatedPair, Matches]]:
        self.num_encoded += answer.num_encoded
        self._failed |= answer.failed
        self.lost.update(answer.lost)
        return answer.matches.unpacked()
