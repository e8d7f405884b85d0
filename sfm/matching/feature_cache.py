"""Features within a budget of memory, and the order of pairs that needs the fewest encodings.

The order of the pairs is known before the first is matched. So they are ordered by blocks of
images that fit the memory together, and the cache drops the features whose next use is farthest
ahead (Belady's algorithm, optimal when the future is known).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Mapping, Sequence, Set
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from sfm.matchers.base import Features


class Ends(Protocol):
    """Two names of what is encoded, hashable and in order: an ImagePair's images, or images and their rotations."""

    @property
    def name0(self) -> Any:
        """Of image 0."""

    @property
    def name1(self) -> Any:
        """Of image 1."""


_EndsT = TypeVar("_EndsT", bound=Ends)
_FeaturesT = TypeVar("_FeaturesT", bound=Features)


def order_pairs(pairs: Sequence[_EndsT], capacity: int) -> list[_EndsT]:
    """The pairs in an order that needs few encodings when features of `capacity` images fit the memory.

    The best by count of three orders. By name, which suits sequences. By blocks, which suits all pairs: the first
    capacity - 2 images stay while all others pass by, then the next (some N^2 / 2 capacity encodings for all pairs of N
    images, where the order by name needs capacity times as many). By neighbourhood, which suits images that are each in
    few pairs: images are numbered so that those of a pair have near numbers (reverse Cuthill-McKee).
    """
    names = sorted({name for pair in pairs for name in (pair.name0, pair.name1)})
    by_name = sorted(pairs, key=lambda pair: (pair.name0, pair.name1))
    rank = {name: i for i, name in enumerate(names)}
    block = max(1, capacity - 2)
    by_block = sorted(pairs, key=lambda pair: (rank[pair.name0] // block, pair.name1, pair.name0))
    orders = [by_block, by_name]
    if len(names) > capacity:  # else each is encoded once anyway
        near = _near_numbers(rank, pairs)
        orders.append(sorted(pairs, key=lambda pair: sorted((near[pair.name0], near[pair.name1]))))
    return min(orders, key=lambda order: count_encodings(order, capacity))


def _near_numbers(rank: Mapping[Any, int], pairs: Sequence[Ends]) -> dict[Any, int]:
    """Numbers of images by which those of a pair are near each other."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    ends = np.array([(rank[pair.name0], rank[pair.name1]) for pair in pairs])
    rows, columns = np.concatenate([ends, ends[:, ::-1]]).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(rank), len(rank))).tocsr()
    names = list(rank)
    order = reverse_cuthill_mckee(graph, symmetric_mode=True)
    return {names[row]: number for number, row in enumerate(order.tolist())}


def count_encodings(order: Sequence[Ends], capacity: int) -> int:
    """How many features are encoded when the pairs are matched in this order, one by one."""
    cache: FeatureCache[_OneUnit] = FeatureCache(order, budget=capacity)
    num_encoded = 0
    for position, pair in enumerate(order):
        missing = [name for name in (pair.name0, pair.name1) if name not in cache]
        for name in missing:
            cache.put({name: _OneUnit()})
        num_encoded += len(missing)
        cache.shrink(position, keep={pair.name0, pair.name1})
    return num_encoded


class _OneUnit:
    """Features that cost one unit of the budget, for counting."""

    nbytes = 1


class FeatureCache(Generic[_FeaturesT]):
    """Features of images within a budget of bytes, for a known order of pairs."""

    def __init__(self, order: Sequence[Ends], budget: float) -> None:
        self._budget = budget
        self._features: dict[Any, _FeaturesT] = {}
        self._uses: dict[Hashable, list[int]] = {}
        self._nbytes = 0
        for position, pair in enumerate(order):
            self._uses.setdefault(pair.name0, []).append(position)
            self._uses.setdefault(pair.name1, []).append(position)

    def __contains__(self, name: Hashable) -> bool:
        return name in self._features

    def __getitem__(self, name: Hashable) -> _FeaturesT:
        return self._features[name]

    @property
    def features(self) -> dict[Any, _FeaturesT]:
        """What it holds, by name."""
        return dict(self._features)

    def put(self, features: Mapping[Any, _FeaturesT]) -> None:
        """Keeps features by name; `shrink` makes room for them before or after."""
        self._features.update(features)
        self._nbytes += sum(each.nbytes for each in features.values())

    def shrink(self, position: int, keep: Set[Any], *, room: int = 0) -> int:
        """Drops what no pair after `position` uses, then what is used farthest ahead, until `room` bytes are free.

        Returns how many features it dropped.
        """
        before = len(self._features)
        while self._nbytes + room > self._budget:
            loose = [name for name in self._features if name not in keep]
            if not loose:
                break
            self._nbytes -= self._features.pop(max(loose, key=lambda name: self._next_use(name, position))).nbytes
        return before - len(self._features)

    def _next_use(self, name: Hashable, position: int) -> float:
        uses = self._uses.get(name, [])
        index = bisect_left(uses, position + 1)
        return uses[index] if index < len(uses) else float("inf")
