"""How the graph of pairs grows by evidence: what to match next, after what was matched before.

A first round is given. From then on each round chooses among the candidates those that probably show one place and that
say something new. Pure functions of what was answered, no randomness: a run that was stopped and carries on, and reads
the first answers from its database, comes to the same pairs.

- How probable a pair is, is learned as it goes: from the share of pairs of about the same likeness that showed one
  place, and from what the images' other pairs said (do partners of the one show what the other shows?).
- What is new: an image's candidates in the order of likeness are a line, from its double to what it hardly shares a
  corner with. Pairs are spread on it: by equal ratios of their places, as 1, 2, 4, 8 ... So an image meets near ones,
  which give many matches, and far ones, which give wide baselines and close loops, as far as its reach goes.
- Images that showed the same place as few others get the rest of their candidates, and parts that nothing connects, or
  one thin thread, are tied by candidates between them, both in bounded numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sfm.match_graph import Candidates
from sfm.types import Float64, Int64

A_ROUND = 2.0  # pairs of an image, on average
LAST_ROUND = 1.5  # times as many at the most, where nothing would be left for another one
SMALL_ROUND = 64  # pairs; sets of few images have no smaller rounds
OF_AN_IMAGE = 4  # pairs of one image in a round, at most
LIKELY = 0.25  # a pair that is less probable is not worth its time
PAID = 0.2  # share of a round's pairs that show one place; with fewer the next round adds too little
BINS = 16  # of likeness, with equally many candidates each
FEW = 3  # pairs that an image should have
FEW_TRIES = 2, 6  # more pairs of an image that has fewer: in a round, and in all
TIE_TRIES = 4, 16  # pairs of a part that nothing connects: in a round, and in all, until it grows
JUDGED, FOUND = 48, 0.05  # of so many pairs for such reasons, this share shows one place, or they are given up
PRIOR = 2.0  # pairs that what is supposed beforehand counts as
Flags = NDArray[np.bool_]


class Proposal(NamedTuple):
    """A pair of images, by their rows, and the reason to match it (sfm.match_graph.REASONS)."""

    pair: tuple[int, int]
    reason: str


class Tried(NamedTuple):
    """A pair of images, by their rows, and whether it showed one place."""

    pair: tuple[int, int]
    fits: bool


class Graph:
    """The pairs of N images that were matched, as sparse matrices: those that showed one place, and the others."""

    def __init__(self, num_images: int, tried: Sequence[Tried]) -> None:
        from scipy.sparse import coo_array

        def matrix(fits: bool) -> coo_array:
            own = np.array([each.pair for each in tried if each.fits == fits], np.int64).reshape(-1, 2)
            rows, columns = np.concatenate([own, own[:, ::-1]]).T
            return coo_array((np.ones(len(rows)), (rows, columns)), shape=(num_images, num_images)).tocsr()

        self._yes, self._no = matrix(True), matrix(False)
        self.degree: Int64 = np.asarray(self._yes.sum(axis=1)).reshape(-1).astype(np.int64)

    def parts(self, *, borne_out: bool = False) -> Int64:
        """(N,) number of each image's part: images that pairs connect.

        borne_out: only pairs count that a third image bears out. A single pair between two parts does not make them one
        then: it may be wrong, and is too thin for a model.
        """
        from scipy.sparse.csgraph import connected_components

        pairs = self._yes.multiply(self._yes @ self._yes) if borne_out else self._yes
        labels: Int64 = connected_components(pairs, directed=False)[1].astype(np.int64)
        return labels

    def support(self, rows: Int64) -> tuple[Int64, Int64]:
        """For pairs (C, 2): how many images show what both show, and how many what one shows and the other does not."""
        both, one = self._yes @ self._yes, self._yes @ self._no
        return _at(both, rows), _at(one + one.T, rows)


def _at(matrix: NDArray[np.float64], rows: Int64) -> Int64:
    """(C,) entries of a sparse matrix."""
    coo = matrix.tocoo()  # type: ignore[attr-defined]
    num = coo.shape[0]
    keys = coo.row.astype(np.int64) * num + coo.col
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], coo.data[order].astype(np.int64)
    wanted = rows[:, 0] * num + rows[:, 1]
    place = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
    if len(keys) == 0:
        return np.zeros(len(rows), np.int64)
    found: Int64 = np.where(keys[place] == wanted, values[place], 0)
    return found


class PairGrowth:
    """The growth of one graph: give the first round to `learn`, then match what `propose` says, until it is nothing."""

    def __init__(self, num_images: int, candidates: Candidates) -> None:
        self._num = num_images
        self._candidates = candidates
        self._budget = candidates.budget
        self._target = max(2.0 * candidates.budget / max(num_images, 1), FEW)  # pairs of an image that show one place
        self._row_of = {tuple(pair): row for row, pair in enumerate(candidates.rows.tolist())}
        self._tried: list[Tried] = []
        self._is_tried = np.zeros(len(candidates), bool)
        self._fits = np.zeros(len(candidates), bool)
        self._extra: Counter[int] = Counter()  # of images: pairs that were tried because they had few
        self._ties: Counter[tuple[int, int]] = Counter()  # of parts (first image, size): pairs that were tried as ties
        self._line = Line(candidates.rows, candidates.likeness)
        self._bin = likeness_bins(candidates.likeness)
        self._pays = True
        self._likely: set[tuple[int, int]] = set()  # of the last round
        self._loose: dict[str, set[tuple[int, int]]] = {"few": set(), "tie": set()}  # of all rounds
        self._found: Counter[str] = Counter()  # of them, those that showed one place

    def learn(self, tried: Sequence[Tried]) -> None:
        """Takes the answers of a round."""
        self._tried += tried
        for pair, fits in tried:
            row = self._row_of.get(pair)
            if row is not None:
                self._is_tried[row], self._fits[row] = True, fits
        answers = [fits for pair, fits in tried if pair in self._likely]
        if answers:
            self._pays = sum(answers) >= PAID * len(answers)
        for reason, pairs in self._loose.items():
            hits = sum(fits for pair, fits in tried if pair in pairs)
            self._found[reason] += hits
            self._pays |= reason == "tie" and hits > 0  # what two parts show of each other is not known yet

    def propose(self) -> list[Proposal]:
        """The pairs of the next round, none of them matched before; none where the graph is grown."""
        graph = Graph(self._num, self._tried)
        found: dict[tuple[int, int], str] = {}
        for pair, reason in self._most_likely(graph) if self._pays else ():
            found[pair] = reason
        self._likely = set(found)
        parts = graph.parts(borne_out=not self._likely)  # threads are made ropes when nothing better is left
        for reason, pairs in (("few", self._of_few(graph, found)), ("tie", self._between(graph, parts, found))):
            if self._is_worth(reason):
                new = set(pairs).difference(found)
                self._loose[reason] |= new
                found |= {pair: reason for pair in pairs if pair in new}
        return [Proposal(pair, reason) for pair, reason in found.items()]

    def _is_worth(self, reason: str) -> bool:
        """In a set of many places or of many images of nothing, such pairs are many and show little."""
        num = len(self._loose[reason])
        return num < JUDGED or self._found[reason] >= FOUND * num

    def _pair(self, row: int) -> tuple[int, int]:
        i, j = self._candidates.rows[row].tolist()
        return i, j

    def _most_likely(self, graph: Graph) -> Iterator[Proposal]:
        """Pairs that probably show one place, the most useful first, within the budget."""
        left, usual = self._budget - len(self._tried), max(round(A_ROUND * self._num), SMALL_ROUND)
        room = left if left < LAST_ROUND * usual else usual
        if room <= 0:
            return
        rows = self._candidates.rows
        both, one = graph.support(rows)
        probable = probability(self._bin, support_kind(both, one), self._is_tried, self._fits)
        need = np.maximum(0.0, 1.0 - graph.degree / self._target)
        new = self._line.novelty(self._is_tried)
        score = probable * new * (need[rows[:, 0]] + need[rows[:, 1]])
        score[self._is_tried | (probable < LIKELY)] = 0.0
        order = np.argsort(-score, kind="stable")
        uses: Counter[int] = Counter()
        for row in order[: int(np.count_nonzero(score > 0))].tolist():
            i, j = self._pair(row)
            if uses[i] < OF_AN_IMAGE and uses[j] < OF_AN_IMAGE:
                uses.update((i, j))
                yield Proposal((i, j), "shared" if both[row] > one[row] else "likely")
                room -= 1
            if room == 0:
                return

    def _of_few(self, graph: Graph, found: dict[tuple[int, int], str]) -> list[tuple[int, int]]:
        """The most alike pairs that are left of images that showed the same place as few others."""
        planned = Counter(image for pair in found for image in pair)
        chosen = []
        for image in np.flatnonzero(graph.degree < FEW).tolist():
            room = min(FEW_TRIES[0], FEW_TRIES[1] - self._extra[image], OF_AN_IMAGE - planned[image])
            left = [row for row in self._line.of(image) if not self._is_tried[row] and self._pair(row) not in found]
            for row in left[: max(room, 0)]:
                chosen.append(self._pair(row))
                self._extra[image] += 1
        return chosen

    def _between(self, graph: Graph, parts: Int64, found: dict[tuple[int, int], str]) -> list[tuple[int, int]]:
        """Pairs between parts of at least two images, beside a pair that connects them, or most alike; spread over
        their images."""
        sizes, first = np.bincount(parts, minlength=1), np.unique(parts, return_index=True)[1]
        ends = parts[self._candidates.rows]
        apart = (ends[:, 0] != ends[:, 1]) & ~self._is_tried & (sizes[ends] > 1).all(axis=1)
        rows = np.flatnonzero(apart)
        both, _ = graph.support(self._candidates.rows[rows])
        rows = rows[np.lexsort((-self._candidates.likeness[rows], both == 0))]
        of_part: Counter[int] = Counter()
        of_image: Counter[int] = Counter()
        chosen = []
        for row, (a, b) in zip(rows.tolist(), ends[rows].tolist(), strict=True):
            small = a if (sizes[a], a) < (sizes[b], b) else b
            i, j = self._pair(row)
            part = int(first[small]), int(sizes[small])
            spent = of_part[small] >= TIE_TRIES[0] or self._ties[part] >= TIE_TRIES[1]
            if spent or (i, j) in found or max(of_image[i], of_image[j]) > 1:
                continue
            of_part[small] += 1
            of_image.update((i, j))
            self._ties[part] += 1
            chosen.append((i, j))
        return chosen


class Line:
    """Each image's candidates in the order of likeness, the most alike first."""

    def __init__(self, rows: Int64, likeness: NDArray[np.float32]) -> None:
        image = rows.T.reshape(-1)
        row = np.tile(np.arange(len(rows)), 2)
        order = np.lexsort((row, -likeness[row], image))
        self._image, self._row = image[order], row[order]
        self._starts = np.flatnonzero(np.diff(self._image, prepend=-1))
        counts = np.diff(self._starts, append=len(self._image))
        place = np.arange(len(self._image)) - np.repeat(self._starts, counts)
        self._place = np.log2(1.0 + place)
        self._slice = {int(self._image[s]): slice(s, s + n) for s, n in zip(self._starts, counts.tolist(), strict=True)}

    def of(self, image: int) -> list[int]:
        """Rows of the candidates of an image."""
        found: list[int] = self._row[self._slice[image]].tolist() if image in self._slice else []
        return found

    def novelty(self, is_tried: Flags) -> Float64:
        """(C,) how far each candidate is from those that were tried, on the lines of both its images, in octaves."""
        tried, each = is_tried[self._row], np.arange(len(self._row))
        before = np.maximum.accumulate(np.where(tried, each, -1))
        after = np.minimum.accumulate(np.where(tried, each, len(each))[::-1])[::-1]
        gap = np.full(len(each), 1.0)
        nearest = np.full(len(each), np.inf)
        for other in (before, after):
            there = (other >= 0) & (other < len(each))
            inside = there & (self._image[np.where(there, other, 0)] == self._image)
            distance = np.abs(self._place - self._place[np.where(inside, other, 0)])
            nearest = np.where(inside, np.minimum(nearest, distance), nearest)
        gap = np.where(np.isfinite(nearest), np.minimum(nearest, 1.0), gap)
        return np.bincount(self._row, gap, minlength=len(is_tried)).astype(np.float64)


def likeness_bins(likeness: NDArray[np.float32]) -> Int64:
    """(C,) i64 bin of each candidate, 0 the least alike; bins have equally many candidates."""
    edges = np.quantile(likeness, np.linspace(0, 1, BINS + 1)[1:-1]) if len(likeness) else np.zeros(0)
    found: Int64 = np.searchsorted(edges, likeness, side="right").astype(np.int64)
    return found


def support_kind(both: Int64, one: Int64) -> Int64:
    """(C,) i64 what the images' other pairs say: 0 nothing, 1 rather no, 2 mixed, 3 rather yes."""
    share = both / np.maximum(both + one, 1)
    kind: Int64 = np.where(both + one == 0, 0, 1 + (share > 1 / 3) + (share > 2 / 3)).astype(np.int64)
    return kind


def probability(bins: Int64, kinds: Int64, is_tried: Flags, fits: Flags) -> Float64:
    """(C,) how probable it is that each candidate shows one place, by those that were tried.

    bins, kinds: of likeness and of support. A bin of which nothing was tried is supposed to be somewhat less probable
    than the next more alike one.
    """
    cell = bins * 4 + kinds
    tries = np.bincount(cell[is_tried], minlength=BINS * 4).reshape(BINS, 4)
    hits = np.bincount(cell[is_tried & fits], minlength=BINS * 4).reshape(BINS, 4)
    table, supposed = np.zeros((BINS, 4)), 0.7
    for row in range(BINS - 1, -1, -1):
        of_bin = (hits[row].sum() + PRIOR * supposed) / (tries[row].sum() + PRIOR)
        table[row] = (hits[row] + PRIOR * of_bin) / (tries[row] + PRIOR)
        supposed = 0.85 * of_bin
    found: Float64 = table[bins, kinds]
    return found
