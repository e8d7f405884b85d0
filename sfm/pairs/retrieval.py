"""Images that look alike: each with its nearest ones by their local descriptors, and a few far anchors.

The first pairs are those of sfm.pairs.candidates; others follow as their matches speak for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sfm.errors import BadOption
from sfm.pairs.base import ChosenPairs, ImageSet
from sfm.pairs.candidates import Similarity, by_likeness
from sfm.pairs.exhaustive import all_pairs
from sfm.pairs.likeness.similarity import similarities
from sfm.types import ImagePair

NEIGHBOURS = 20


def select(images: ImageSet, argument: str | None = None) -> ChosenPairs:
    """Each image with about N others, the argument, that look like it. Raises BadOption."""
    number = NEIGHBOURS if argument is None else _number(argument)
    if len(images.records) <= number + 1:
        return ChosenPairs(all_pairs(images.names))
    names, similarity = similarity_of(images)
    first, found = by_likeness(similarity, number)
    return ChosenPairs(pairs_of(names, first), candidates=found)


def similarity_of(images: ImageSet) -> tuple[list[str], Similarity]:
    """The names, sorted, and how much each two images look alike, (N, N) f32 from 0 to 1."""
    from sfm.pairs.likeness.descriptors import descriptors_of  # `--help` reads this file, and loads no library

    descriptors = descriptors_of(images)
    return list(descriptors), similarities(list(descriptors.values()))


def pairs_of(names: Sequence[str], rows: Iterable[tuple[int, int]]) -> tuple[ImagePair, ...]:
    """Pairs of row numbers as pairs of names, sorted."""
    return tuple(sorted(ImagePair.of(names[i], names[j]) for i, j in rows))


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise BadOption(f"--pairs retrieval:{text}: the number after the colon must be a whole number of at least 1")
    return int(text)
