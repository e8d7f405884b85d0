"""Which photos are matched with which: all with all, neighbours in a sequence, or a list in a file.

A pairs file is hloc's: two photo names a line, white space between them, paths relative to the folder
of photos. Empty lines do not count.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Protocol

from sfm.errors import BadFile, BadOption
from sfm.options import PairOptions
from sfm.system.untrusted_files import bounded_lines
from sfm.types import ImagePair, ImageRecord, StageSummary

log = logging.getLogger(__name__)

SEQUENTIAL_OVERLAP = 10
EXHAUSTIVE_LIMIT = 200  # photos; see choose()
_SHOWN = 200  # characters of a line in messages


@dataclass(frozen=True, slots=True)
class ChosenPairs:
    """Pairs in the order in which they were found, each once. dropped: lines of a file that name a photo
    with itself, a pair that was there before, or a photo that was skipped. note: what the user should
    know, or ""."""

    pairs: tuple[ImagePair, ...]
    dropped: int = 0
    note: str = ""


def exhaustive(names: Sequence[str]) -> tuple[ImagePair, ...]:
    """All N (N - 1) / 2 pairs."""
    return tuple(ImagePair(a, b) for a, b in combinations(sorted(names), 2))


def sequential(names: Sequence[str], overlap: int = SEQUENTIAL_OVERLAP) -> tuple[ImagePair, ...]:
    """Each photo with the next `overlap` by name, where numbers in names count as numbers (2 before 10)."""
    ordered = sorted(names, key=_natural_key)
    return tuple(ImagePair.of(a, b) for i, a in enumerate(ordered) for b in ordered[i + 1 : i + 1 + overlap])


def _natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"([0-9]+)", name)  # text, digits, text, ...
    return [(int(part), "") if i % 2 else (0, part) for i, part in enumerate(parts)], name


def from_file(path: Path, names: Collection[str], *, skipped: Collection[str] = ()) -> ChosenPairs:
    """Pairs of a file. skipped: photos that are in the folder but cannot be used; their pairs are dropped.

    Raises BadFile, naming file, line and photo, if a photo is not there or a line is not two names, and
    if no pair is left.
    """
    known = frozenset(names)
    unusable = frozenset(skipped)
    pairs: dict[ImagePair, None] = {}
    dropped = 0
    for number, line in enumerate(bounded_lines(path, "a file with two photo names a line"), start=1):
        if not line.strip():
            continue
        a, b = _two_names(line.strip(), known | unusable, f"{path}, line {number}")
        if a == b or a in unusable or b in unusable or ImagePair.of(a, b) in pairs:
            dropped += 1
        else:
            pairs[ImagePair.of(a, b)] = None
    if not pairs:
        raise BadFile(f"{path}: no pair of two usable photos in it; write two photo names a line")
    note = f"{path}: {dropped} line(s) dropped: doubled, a photo with itself, or a skipped photo"
    return ChosenPairs(tuple(pairs), dropped, note if dropped else "")


def _two_names(line: str, known: frozenset[str], where: str) -> tuple[str, str]:
    """The two names of a line; names may hold spaces, so every place to split it is tried."""
    fitting, half_right = [], []
    for a, b in _splits(line):
        if a in known and b in known:
            fitting.append((a, b))
        elif a in known or b in known:
            half_right.append(b if a in known else a)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise BadFile(f"{where}: {line[:_SHOWN]!r} can be read as more than one pair; rename photos that have spaces")
    # Blame the longest part that is wrong beside a right one, else the first word.
    words = line.split(maxsplit=2)
    if len(words) == 2 or half_right:
        absent = half_right[0] if half_right else words[0]
        raise BadFile(f"{where}: no photo {absent[:_SHOWN]!r} in the folder; names are paths relative to it")
    raise BadFile(f"{where}: {line[:_SHOWN]!r} is not two names of photos in the folder")


def _splits(line: str) -> Iterator[tuple[str, str]]:
    return ((line[: gap.start()], line[gap.end() :]) for gap in re.finditer(r"\s+", line))


def choose(spec: str, names: Sequence[str], *, skipped: Collection[str] = ()) -> ChosenPairs:
    """Pairs by the value of --pairs: auto, exhaustive, sequential[:N], or a pairs file.

    `auto` is exhaustive. Photos in no known order can be matched in no other way without missing
    pairs, and a missed pair may split the model in silence, which is worse than a long run that can be
    interrupted and resumed. Up to 200 photos (19,900 pairs, about an hour at the 0.2 s that a pair
    takes on a laptop's CPU) that goes without saying; beyond, the note says how long it will take and
    what to do about it. Raises BadOption or BadFile.
    """
    word, colon, overlap = spec.partition(":")
    if spec in ("auto", "exhaustive"):
        pairs = exhaustive(names)
        return ChosenPairs(pairs, note=_long_run_note(len(names), len(pairs)) if spec == "auto" else "")
    if word == "sequential":
        return ChosenPairs(sequential(names, _overlap(spec, overlap) if colon else SEQUENTIAL_OVERLAP))
    path = Path(spec)
    if not path.exists():
        raise BadFile(f"--pairs {spec}: no such file, and neither auto, exhaustive nor sequential[:N]")
    return from_file(path, names, skipped=skipped)


def _overlap(spec: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise BadOption(f"--pairs {spec}: the number after the colon must be a whole number of at least 1")
    return int(text)


def _long_run_note(num_images: int, num_pairs: int) -> str:
    if num_images <= EXHAUSTIVE_LIMIT:
        return ""
    return (
        f"{num_images:,} photos make {num_pairs:,} pairs, about {num_pairs * 0.2 / 3600:,.1f} h at 0.2 s a pair: "
        "for photos taken in a row use --pairs sequential, or list the pairs in a file"
    )


class _PairStore(Protocol):
    """What `run` needs of the feature database."""

    def read_images(self) -> tuple[ImageRecord, ...]: ...
    def summary(self, stage: str) -> StageSummary | None: ...
    def write_pairs(self, pairs: Sequence[ImagePair]) -> None: ...


def run(db: _PairStore, options: PairOptions) -> StageSummary:
    """Chooses the pairs of the database's images and writes them; logs the note as a warning."""
    start = time.perf_counter()
    names = [record.name for record in db.read_images()]
    images = db.summary("images")
    chosen = choose(options.pairs, names, skipped=[name for name, _ in images.skipped] if images else ())
    if chosen.note:
        log.warning("%s", chosen.note)
    db.write_pairs(chosen.pairs)
    counts: dict[str, int | float] = {"images": len(names), "pairs": len(chosen.pairs), "dropped": chosen.dropped}
    return StageSummary("pairs", counts, time.perf_counter() - start)
