"""The graph of pairs: which pairs of images may be matched, which were, in what round and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sfm.types import Float32, ImagePair, Int64

REASONS = {  # why two images were matched; new ones go to the end, since files hold their numbers
    "chosen": "were asked for by --pairs",
    "alike": "look like each other",
    "row": "are near each other in a row, by name or time",
    "near": "were taken near each other, by GPS",
    "anchor": "look unlike each other, so that far parts meet",
    "shared": "show the same place as the same others",
    "likely": "look as much alike as others that show one place",
    "few": "may show one place, where one of them does with few others",
    "tie": "are in parts that nothing connected",
}
_NUMBERS = {reason: number for number, reason in enumerate(REASONS)}


def reason_number(reason: str) -> int:
    """Place of a reason in REASONS."""
    return _NUMBERS[reason]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Pairs that may be matched, of which a run chooses as it goes. Images are rows of the set's, sorted by name.

    rows: (C, 2) i64, i < j, sorted and unique. likeness: (C,) f32, how much the two look alike, 0 to 1, comparable
    within one set of images only. reason: (C,) i64, place in REASONS of what made the pair a candidate. budget: pairs
    that should be matched, at most; those of the first round and ties between parts come on top where they must.
    """

    rows: Int64
    likeness: Float32
    reason: Int64
    budget: int

    def __post_init__(self) -> None:
        num = len(self.rows)
        if self.rows.shape != (num, 2) or self.likeness.shape != (num,) or self.reason.shape != (num,):
            raise ValueError(f"Candidates: {self.rows.shape}, {self.likeness.shape}, {self.reason.shape}")
        if num and not (self.reason.min() >= 0 and self.reason.max() < len(REASONS)):
            raise ValueError("Candidates.reason: beyond REASONS")
        if num and not ((self.rows[:, 0] < self.rows[:, 1]).all() and (np.diff(_keys(self.rows)) > 0).all()):
            raise ValueError("Candidates.rows: not sorted, or not of two images each")
        if not np.isfinite(self.likeness).all():
            raise ValueError("Candidates.likeness: not finite")

    def __len__(self) -> int:
        return len(self.rows)

    def kept(self, which: NDArray[np.bool_]) -> Candidates:
        """Those of them, (C,)."""
        return Candidates(self.rows[which], self.likeness[which], self.reason[which], self.budget)


def _keys(rows: Int64) -> Int64:
    keys: Int64 = (rows[:, 0].astype(np.int64) << 32) | rows[:, 1].astype(np.int64)
    return keys


class RefusedPair(NamedTuple):
    """A verified pair that is not used, since its images show two places that look alike. In blocks of both images
    (sfm.mapping.alike.sightlines). matched: that its matches cover. through: with points that the other image looks
    through; 0 where other pairs of the same places showed it."""

    pair: ImagePair
    matched: int
    through: int


class TriedPair(NamedTuple):
    """A pair that was matched. round: from 1. reason: a key of REASONS. fits: whether its matches were found to show
    one place when that was asked, which it is only of pairs that others follow from; None where it was not."""

    pair: ImagePair
    round: int = 1
    reason: str = "chosen"
    fits: bool | None = None


def partners(pairs: Iterable[ImagePair]) -> dict[str, set[str]]:
    """By each image of the pairs, the images that it is in a pair with."""
    found: dict[str, set[str]] = {}
    for pair in pairs:
        found.setdefault(pair.name0, set()).add(pair.name1)
        found.setdefault(pair.name1, set()).add(pair.name0)
    return found
