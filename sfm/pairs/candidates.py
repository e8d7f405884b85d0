"""Pairs by how much two images look alike: which are matched first, and which may follow (sfm.matching.growth).

An image's others in the order of likeness are a line. First come its nearest few, and some that are spread further on
this line by equal ratios, so that the first answers tell how far its reach goes. Candidates are all of its nearest, and
some of all others in the same way. A few images that are as unlike each other as can be are matched with each other, as
MASt3R-SfM does (Duisterhof et al., 3DV 2025, section 4.2: nearest neighbours alone fall into parts).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from sfm.match_graph import REASONS, Candidates, reason_number

NEAR_FIRST, FAR_FIRST = 0.15, 0.15  # of the pairs of an image: the nearest, and spread ones, in the first round
DEPTH = 2  # times as many nearest ones of an image are candidates as it has pairs in the end
RATIO = 1.1  # of the places of candidates beyond these
PER_ANCHOR, MAX_ANCHORS = 25, 12  # images of an anchor, and anchors at most: 66 pairs
TIES, TIES_OF_AN_IMAGE = 48, 2  # candidates between a part and all others
RowPairs = Mapping[tuple[int, int], str]  # (i < j) -> the reason
Similarity = NDArray[np.float32]


def by_likeness(similarity: Similarity, number: int) -> tuple[list[tuple[int, int]], Candidates]:
    """The pairs of the first round and the candidates, of images with about `number` pairs each. similarity: (N, N)."""
    num = len(similarity)
    first_places, places = _places(num, number)
    first: dict[tuple[int, int], str] = {}
    found: dict[tuple[int, int], str] = {}
    for i in range(num):
        order = nearest(similarity, i)
        for chosen, at in ((first, first_places), (found, places)):
            chosen |= {(min(i, j), max(i, j)): "alike" for j in order[at].tolist()}
    found = dict.fromkeys(between_parts(similarity, max(number // 2, 1)), "tie") | found
    chosen_anchors = anchors(similarity)
    between = {(min(i, j), max(i, j)): "anchor" for i in chosen_anchors for j in chosen_anchors if i != j}
    first = between | first
    return sorted(first), candidates(between | found | first, similarity, num * number // 2)


def candidates(pairs: RowPairs, similarity: Similarity, budget: int) -> Candidates:
    """The pairs with their likeness."""
    rows = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    reasons = np.array([reason_number(pairs[i, j]) for i, j in rows.tolist()], np.int64)
    return Candidates(rows, similarity[rows[:, 0], rows[:, 1]].astype(np.float32), reasons, budget)


def with_pairs(found: Candidates, more: RowPairs, likeness: Similarity | None, budget: int) -> Candidates:
    """The candidates and more of them, whose reasons count. likeness: (N, N); without it they are as much alike as
    those of them are that are candidates already, in the median."""
    held = {(i, j): row for row, (i, j) in enumerate(found.rows.tolist())}
    own = [float(found.likeness[held[pair]]) for pair in more if pair in held]
    usual = float(np.median(own)) if own else 0.0

    def of(pair: tuple[int, int]) -> float:
        if pair in held:
            return float(found.likeness[held[pair]])
        return usual if likeness is None else float(likeness[pair])

    rows = sorted({*held, *more})
    reasons = [reason_number(more[pair]) if pair in more else int(found.reason[held[pair]]) for pair in rows]
    table = np.array(rows, np.int64).reshape(-1, 2)
    return Candidates(table, np.array([of(p) for p in rows], np.float32), np.array(reasons, np.int64), budget)


def reasons_of(found: Candidates) -> dict[tuple[int, int], str]:
    """Their pairs with the reasons."""
    names = list(REASONS)
    return {(i, j): names[number] for (i, j), number in zip(found.rows.tolist(), found.reason.tolist(), strict=True)}


def nearest(similarity: Similarity, image: int) -> NDArray[np.int64]:
    """(N - 1,) the other images, the most alike first."""
    order = np.argsort(-similarity[image], kind="stable")
    others: NDArray[np.int64] = order[order != image]
    return others


def spread(first: int, last: int, number: int) -> list[int]:
    """`number` places from the first to the last by equal ratios, each once."""
    if number < 1 or last <= first:
        return []
    return sorted({round(place) for place in np.geomspace(first, last, number).tolist()})


def _places(num: int, number: int) -> tuple[list[int], list[int]]:
    """Places on the line of N - 1 others: of the first round, and of all candidates."""
    others, near = num - 1, max(1, round(NEAR_FIRST * number))
    deep = min(DEPTH * number, others)
    far = spread(2 * near, deep - 1, max(1, round(FAR_FIRST * number)))
    steps = int(np.log(max(others / max(deep, 1), 1.0)) / np.log(RATIO))
    beyond = spread(deep, others - 1, steps)
    return sorted({*range(min(near, others)), *far}), sorted({*range(deep), *beyond})


def anchors(similarity: Similarity) -> list[int]:
    """Images that are unlike each other: each next one is the one that the others are least like (farthest point
    sampling), after the one that is most like all."""
    number = min(len(similarity) // PER_ANCHOR + 2, MAX_ANCHORS, len(similarity))
    chosen = [int(similarity.sum(axis=1).argmax())] if len(similarity) else []
    while len(chosen) < number:
        closest = similarity[chosen].max(axis=0)
        closest[chosen] = np.inf
        chosen.append(int(closest.argmin()))
    return chosen


def between_parts(similarity: Similarity, number: int) -> set[tuple[int, int]]:
    """Of each part that the `number` nearest neighbours fall into, the pairs with others that are most alike."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    num = len(similarity)
    pairs = np.array([(i, j) for i in range(num) for j in nearest(similarity, i)[:number].tolist()], np.int64)
    ends = pairs.reshape(-1, 2).T
    _, part = connected_components(coo_array((np.ones(ends.shape[1]), ends), shape=(num, num)), directed=False)
    of_part: dict[int, list[tuple[float, int, int]]] = {}
    for i in range(num if part.max(initial=0) else 0):
        outside = np.where(part == part[i], -1.0, similarity[i])
        for j in np.argsort(-outside, kind="stable")[:TIES_OF_AN_IMAGE].tolist():
            of_part.setdefault(int(part[i]), []).append((-float(outside[j]), min(i, j), max(i, j)))
    return {(i, j) for own in of_part.values() for _, i, j in sorted(set(own))[:TIES]}


def row_pairs(pairs: Iterable[tuple[int, int]], reason: str) -> dict[tuple[int, int], str]:
    """Pairs of rows in either order, with one reason."""
    return {(min(i, j), max(i, j)): reason for i, j in pairs if i != j}
