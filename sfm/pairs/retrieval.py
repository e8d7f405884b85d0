"""Images that look alike: each with its nearest ones by their local descriptors, and a few far anchors.

The pairs of nearest neighbours alone may fall into parts. So a few images that are as unlike each other as can be are
matched with each other, and parts that are left are tied together by their most alike images (MASt3R-SfM, Duisterhof
et al., 3DV 2025, section 4.2, has both neighbours and anchors).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sfm.errors import BadOption
from sfm.pairs.base import ChosenPairs, ImageSet
from sfm.pairs.similarity import similarities
from sfm.types import ImagePair

NEIGHBOURS = 20
PER_ANCHOR, MAX_ANCHORS = 25, 12  # images of an anchor, and anchors at most: 66 pairs
TIES = 5  # pairs between two parts

Rows = NDArray[np.int64]
Similarity = NDArray[np.float32]


def select(images: ImageSet, argument: str | None = None) -> ChosenPairs:
    """Each image with the N most alike ones, the argument. Raises BadOption."""
    number = NEIGHBOURS if argument is None else _number(argument)
    names, similarity = similarity_of(images)
    rows = near_pairs(similarity, number)
    return ChosenPairs(pairs_of(names, rows))


def similarity_of(images: ImageSet) -> tuple[list[str], Similarity]:
    """The names and how much each two images look alike, (N, N) f32 from 0 to 1."""
    from sfm.pairs.descriptors import descriptors_of  # `--help` reads this file, and loads no library

    descriptors = descriptors_of(images)
    return list(descriptors), similarities(list(descriptors.values()))


def near_pairs(similarity: Similarity, number: int) -> set[tuple[int, int]]:
    """Row pairs (i < j): nearest neighbours, anchors with each other, and ties between parts."""
    pairs = set(_neighbours(similarity, number))
    chosen = anchors(similarity)
    pairs |= {(min(i, j), max(i, j)) for i in chosen for j in chosen if i != j}
    return pairs | set(_ties(similarity, pairs))


def pairs_of(names: Sequence[str], rows: Iterable[tuple[int, int]]) -> tuple[ImagePair, ...]:
    """Pairs of row numbers as pairs of names, sorted."""
    return tuple(sorted(ImagePair.of(names[i], names[j]) for i, j in rows))


def _neighbours(similarity: Similarity, number: int) -> Iterator[tuple[int, int]]:
    others = similarity.copy()
    np.fill_diagonal(others, -1)
    nearest = np.argsort(-others, axis=1, kind="stable")[:, : min(number, len(others) - 1)]
    for i, row in enumerate(nearest.tolist()):
        yield from ((min(i, j), max(i, j)) for j in row)


def anchors(similarity: Similarity) -> list[int]:
    """Images that are unlike each other: each next one is the one that the others are least like (farthest point
    sampling), after the one that is most like all."""
    number = min(len(similarity) // PER_ANCHOR + 2, MAX_ANCHORS, len(similarity))
    chosen = [int(similarity.sum(axis=1).argmax())] if len(similarity) else []
    while len(chosen) < number:
        nearest = similarity[chosen].max(axis=0)
        nearest[chosen] = np.inf
        chosen.append(int(nearest.argmin()))
    return chosen


def _ties(similarity: Similarity, pairs: set[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The most alike pairs between each part and all others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    num = len(similarity)
    rows = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    _, part = connected_components(coo_array((np.ones(len(rows)), (rows[:, 0], rows[:, 1])), shape=(num, num)))
    for label in range(1, int(part.max(initial=0)) + 1):
        inside, outside = np.flatnonzero(part == label), np.flatnonzero(part != label)
        between = similarity[np.ix_(inside, outside)]
        for flat in np.argsort(-between, axis=None, kind="stable")[:TIES].tolist():
            i, j = int(inside[flat // len(outside)]), int(outside[flat % len(outside)])
            yield min(i, j), max(i, j)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise BadOption(f"--pairs retrieval:{text}: the number after the colon must be a whole number of at least 1")
    return int(text)
