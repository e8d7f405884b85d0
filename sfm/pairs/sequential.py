"""Images in a row: each with the next ones by name, some further ahead, and those that come back to the same place.

A row is a folder: frames of a video, or images that were taken one after another.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from sfm.errors import BadOption
from sfm.pairs.base import ChosenPairs, ImageSet
from sfm.pairs.candidates import Similarity
from sfm.pairs.retrieval import pairs_of, similarity_of
from sfm.types import ImagePair

OVERLAP = 10
LOOPS = 5  # images of an image, at most


def neighbours(names: Sequence[str], overlap: int = OVERLAP) -> tuple[ImagePair, ...]:
    """Each image with the next `overlap` by name, where numbers in names count as numbers (2 before 10), and with those
    a power of two ahead, up to 2 ** (overlap - 1) (COLMAP's quadratic overlap)."""
    ordered = sorted(names, key=_natural_key)
    gaps = [*range(1, overlap + 1), *(2**k for k in range(min(overlap, 30)) if 2**k > overlap)]
    pairs = [
        ImagePair.of(name, ordered[i + gap]) for i, name in enumerate(ordered) for gap in gaps if i + gap < len(ordered)
    ]
    return tuple(pairs)


def all_neighbours(names: Sequence[str], overlap: int = OVERLAP) -> tuple[ImagePair, ...]:
    """The neighbours in every folder."""
    return tuple(pair for row in rows_of(names) for pair in neighbours(row, overlap))


def rows_of(names: Sequence[str]) -> list[list[str]]:
    """The names by folder, each row in order."""
    rows: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names, key=_natural_key):
        rows[name.rpartition("/")[0]].append(name)
    return list(rows.values())


def _natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"([0-9]+)", name)  # text, digits, text, ...
    return [(int(part), "") if i % 2 else (0, part) for i, part in enumerate(parts)], name


def select(images: ImageSet, argument: str | None = None) -> ChosenPairs:
    """Each image with the next N of its folder, the argument, and with those further on that look like it. Raises
    BadOption."""
    overlap = OVERLAP if argument is None else _overlap(argument)
    pairs = dict.fromkeys(all_neighbours(images.names, overlap))
    if max(map(len, rows_of(images.names)), default=0) > overlap + 1 or len(rows_of(images.names)) > 1:
        names, similarity = similarity_of(images)
        pairs |= dict.fromkeys(loops(names, similarity, overlap))
    return ChosenPairs(tuple(pairs), reason="row")


def loops(names: Sequence[str], similarity: Similarity, overlap: int) -> tuple[ImagePair, ...]:
    """Pairs of images that are not near each other in a row and look as much alike as images `overlap` apart do.

    similarity: (N, N) f32 of the names. At most LOOPS of an image, the most alike first.
    """
    place = {name: i for i, name in enumerate(names)}
    rows = [[place[name] for name in row] for row in rows_of(names)]
    apart = [similarity[a, b] for row in rows for a, b in zip(row, row[overlap:], strict=False)]
    least = float(np.median(apart)) if apart else 0.0
    far = similarity.copy()
    np.fill_diagonal(far, 0)
    for row in rows:
        for gap in range(1, min(overlap, len(row) - 1) + 1):
            a, b = np.array(row[:-gap]), np.array(row[gap:])
            far[a, b] = far[b, a] = 0
    nearest = np.argsort(-far, axis=1, kind="stable")[:, :LOOPS]
    found = {(min(i, j), max(i, j)) for i, own in enumerate(nearest.tolist()) for j in own if far[i, j] > max(least, 0)}
    return pairs_of(names, found)


def _overlap(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise BadOption(f"--pairs sequential:{text}: the number after the colon must be a whole number of at least 1")
    return int(text)
