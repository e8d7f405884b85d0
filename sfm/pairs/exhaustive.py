"""All images with all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from sfm.pairs.base import ChosenPairs, ImageSet
from sfm.types import ImagePair

MANY = 200  # images; see auto


def all_pairs(names: Sequence[str]) -> tuple[ImagePair, ...]:
    """All N (N - 1) / 2 pairs."""
    return tuple(ImagePair(a, b) for a, b in combinations(sorted(names), 2))


def select(images: ImageSet, argument: str | None = None) -> ChosenPairs:
    """All pairs of the images."""
    return ChosenPairs(all_pairs(images.names))


def auto(images: ImageSet) -> ChosenPairs:
    """All pairs, with a note where they are many.

    Images in no known order can be matched in no other way without missing pairs, and a missed pair
    may split the model unnoticed, which is worse than a long run that can be interrupted and resumed.
    Up to 200 images (19,900 pairs, about an hour at the 0.2 s that a pair takes on a laptop's CPU) no
    note is needed; beyond, it says how long the run will take and what to do about it.
    """
    pairs = all_pairs(images.names)
    return ChosenPairs(pairs, note=_long_run_note(len(images.records), len(pairs)))


def _long_run_note(num_images: int, num_pairs: int) -> str:
    if num_images <= MANY:
        return ""
    return (
        f"{num_images:,} images make {num_pairs:,} pairs, about {num_pairs * 0.2 / 3600:,.1f} h at 0.2 s per pair: "
        "for images taken in a row use --pairs sequential, or list the pairs in a file"
    )
