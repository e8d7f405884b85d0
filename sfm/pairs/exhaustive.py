"""All images with all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from sfm.pairs.base import ChosenPairs, ImageSet
from sfm.types import ImagePair


def all_pairs(names: Sequence[str]) -> tuple[ImagePair, ...]:
    """All N (N - 1) / 2 pairs."""
    return tuple(ImagePair(a, b) for a, b in combinations(sorted(names), 2))


def select(images: ImageSet, argument: str | None = None) -> ChosenPairs:
    """All pairs of the images."""
    return ChosenPairs(all_pairs(images.names))
