"""What every way of choosing pairs is given and returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sfm.match_graph import Candidates
from sfm.pairs.candidates import reasons_of, with_pairs
from sfm.types import ImagePair, ImageRecord


@dataclass(frozen=True, slots=True)
class ImageSet:
    """What pairs are chosen from. records: the usable images, sorted by name. folder: where their pixels are, for
    sfm.images.decoding. skipped: names of images in the folder that cannot be used. masks: folder of masks, or None.
    clips: the folders in it whose images are frames of a video, "" for the folder itself. cache: file that the images'
    descriptors are kept in, or None.

    What a later selector needs besides becomes a field here: selectors keep their signature.
    """

    records: tuple[ImageRecord, ...]
    folder: Path
    skipped: tuple[str, ...] = ()
    masks: Path | None = None
    clips: frozenset[str] = frozenset()
    cache: Path | None = None

    @property
    def names(self) -> list[str]:
        """Names of the usable images, sorted."""
        return [record.name for record in self.records]


@dataclass(frozen=True, slots=True)
class ChosenPairs:
    """Pairs in the order in which they were found, each once. dropped: lines of a file that name an image
    with itself, a pair that was there before, or an image that was skipped. note: what the user should
    know, or "". reason: of the pairs, a key of sfm.match_graph.REASONS. candidates: pairs that matching may go on with,
    those of `pairs` among them; their rows are of the images sorted by name. None where just the pairs are meant."""

    pairs: tuple[ImagePair, ...]
    dropped: int = 0
    note: str = ""
    reason: str = "chosen"
    candidates: Candidates | None = None


def joined(parts: Sequence[ChosenPairs], names: Sequence[str]) -> ChosenPairs:
    """The pairs of all parts, each once, in the order in which they come first; their notes in one line.

    Candidates are those of all parts, within the largest of their budgets and the pairs of parts that have none on top.
    names: of all images, sorted.
    """
    pairs = dict.fromkeys(pair for part in parts for pair in part.pairs)
    notes = dict.fromkeys(part.note for part in parts if part.note)
    chosen = ChosenPairs(tuple(pairs), sum(part.dropped for part in parts), "; ".join(notes))
    growing = [part.candidates for part in parts if part.candidates is not None]
    if not growing:
        return chosen
    place = {name: row for row, name in enumerate(names)}
    given = {
        (place[pair.name0], place[pair.name1]): part.reason
        for part in parts
        if part.candidates is None
        for pair in part.pairs
    }
    budget = max(found.budget for found in growing) + len(given)
    candidates = growing[0]
    for more in growing[1:]:
        candidates = with_pairs(candidates, reasons_of(more), None, budget)
    return replace(chosen, candidates=with_pairs(candidates, given, None, budget))


# (the images, what follows the selector's name after a colon or None) -> pairs of names of usable images. Raises
# BadOption for a bad argument.
PairSelector = Callable[[ImageSet, str | None], ChosenPairs]
