"""Images in a row: each with the next ones by name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sfm.errors import BadOption
from sfm.pairs.base import ChosenPairs, ImageSet
from sfm.types import ImagePair

OVERLAP = 10


def neighbours(names: Sequence[str], overlap: int = OVERLAP) -> tuple[ImagePair, ...]:
    """Each image with the next `overlap` by name, where numbers in names count as numbers (2 before 10)."""
    ordered = sorted(names, key=_natural_key)
    return tuple(ImagePair.of(a, b) for i, a in enumerate(ordered) for b in ordered[i + 1 : i + 1 + overlap])


def _natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"([0-9]+)", name)  # text, digits, text, ...
    return [(int(part), "") if i % 2 else (0, part) for i, part in enumerate(parts)], name


def select(images: ImageSet, argument: str | None = None) -> ChosenPairs:
    """Each image with the next N, the argument. Raises BadOption."""
    return ChosenPairs(neighbours(images.names, OVERLAP if argument is None else _overlap(argument)))


def _overlap(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise BadOption(f"--pairs sequential:{text}: the number after the colon must be a whole number of at least 1")
    return int(text)
