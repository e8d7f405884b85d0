"""Pairs cut into blocks of few images: what one worker gets at once.

A worker encodes each image of its block once, and the bytes of the images go to it over the network. So a block should
have many pairs and few images. This is edge partitioning of a graph; blocks grow greedily from image to image, always
by the one that brings most pairs along (neighbourhood expansion: Zhang et al., Graph Edge Partitioning via Neighborhood
Heuristic, KDD 2017), and what is left over is packed together. Pure functions: equal pairs give equal blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

from sfm.matching.rotations import RotatedPair
from sfm.matching.session import View

MAX_PAIRS, MAX_IMAGES = 200, 40  # of a block
_MIN_PAIRS = 16  # below which sending costs more than waiting for the last block
_BLOCKS_A_WORKER = 6  # at least, where there are enough pairs: all end at about the same time
_CANDIDATES = 10 * MAX_IMAGES  # images that a growing block looks at: time stays linear where all pairs are matched
_WINDOW = 32  # small parts that wait to be joined

_Links = list[dict[int, RotatedPair]]  # of each view by its number: the pairs that no block has yet, by the other view


class Block(NamedTuple):
    """Pairs for one worker. images: their names, sorted."""

    tasks: tuple[RotatedPair, ...]
    images: tuple[str, ...]


class _Part(NamedTuple):
    """Pairs, and the numbers of the views that they are of."""

    tasks: list[RotatedPair]
    views: set[int]


def pairs_a_block(num_pairs: int, num_workers: int) -> int:
    """Pairs of a block: MAX_PAIRS, and fewer where workers would have little or nothing to do."""
    fair = num_pairs // max(1, _BLOCKS_A_WORKER * num_workers)
    return min(MAX_PAIRS, max(_MIN_PAIRS, fair))


def cut(tasks: Iterable[RotatedPair], *, max_pairs: int = MAX_PAIRS, max_images: int = MAX_IMAGES) -> list[Block]:
    """Every task in exactly one block, of at most max_pairs tasks and max_images images. An image and the same one
    rotated count as two, since both are encoded. max_images: at least 2."""
    ordered = sorted(set(tasks))
    ends = [(View(pair.name0, 0), View(pair.name1, rotation)) for pair, rotation in ordered]
    number = {view: i for i, view in enumerate(sorted({view for both in ends for view in both}))}
    links: _Links = [{} for _ in number]
    for task, (view0, view1) in zip(ordered, ends, strict=True):
        links[number[view0]][number[view1]] = task
        links[number[view1]][number[view0]] = task
    grown = [part for seed in range(len(links)) for part in _grown(links, seed, max_pairs, max_images)]
    return [_block(part) for part in _packed(grown, max_pairs, max_images)]


def _grown(links: _Links, seed: int, max_pairs: int, max_images: int) -> Iterator[_Part]:
    """Parts that begin with a view, until none of its pairs is left; takes their pairs out of `links`."""
    while links[seed]:
        part, gains, heap = _Part([], {seed}), dict[int, int](), list[tuple[int, int]]()
        _raise_gains(links[seed], part.views, gains, heap)
        while heap and len(part.tasks) < max_pairs and len(part.views) < max_images:
            gain, view = heappop(heap)
            if view in part.views or -gain != gains[view]:
                continue  # its gain has grown since it was put here
            partners = sorted(links[view].keys() & part.views)[: max_pairs - len(part.tasks)]
            part.views.add(view)
            for partner in partners:
                part.tasks.append(links[view].pop(partner))
                del links[partner][view]
            _raise_gains(links[view], part.views, gains, heap)
        yield part


def _raise_gains(
    partners: dict[int, RotatedPair], members: set[int], gains: dict[int, int], heap: list[tuple[int, int]]
) -> None:
    known = partners.keys() & gains.keys() if len(gains) >= _CANDIDATES else partners.keys()
    for partner in known - members:
        gains[partner] = gains.get(partner, 0) + 1
        heappush(heap, (-gains[partner], partner))


def _packed(parts: Sequence[_Part], max_pairs: int, max_images: int) -> Iterator[_Part]:
    """The parts, small ones joined: each with the one before it that shares most images, if both fit a block."""
    window: list[_Part] = []
    for part in parts:
        fitting = [
            other
            for other in window
            if len(part.tasks) + len(other.tasks) <= max_pairs and len(part.views | other.views) <= max_images
        ]
        if fitting:
            best = max(fitting, key=lambda other: len(part.views & other.views))
            best.tasks.extend(part.tasks)
            best.views.update(part.views)
        else:
            window.append(part)
            if len(window) > _WINDOW:
                yield window.pop(0)
    yield from window


def _block(part: _Part) -> Block:
    names = {name for task in part.tasks for name in (task.pair.name0, task.pair.name1)}
    return Block(tuple(sorted(part.tasks)), tuple(sorted(names)))
