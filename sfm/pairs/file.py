"""Pairs of a file in hloc's format: two image names a line, white space between them, paths relative to the folder
of images. Empty lines and those whose first word is # do not count.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from sfm.errors import BadFile
from sfm.pairs.base import ChosenPairs
from sfm.system.untrusted_files import bounded_lines
from sfm.types import ImagePair

COMMENT = "#"
_SHOWN = 200  # characters of a line in messages


def from_file(path: Path, names: Collection[str], *, skipped: Collection[str] = ()) -> ChosenPairs:
    """Pairs of a file. skipped: images that are in the folder but cannot be used; their pairs are dropped.

    Raises BadFile, naming file, line and image, if an image is not there or a line is not two names, and
    if no pair is left.
    """
    known = frozenset(names)
    unusable = frozenset(skipped)
    pairs: dict[ImagePair, None] = {}
    dropped = 0
    for number, line in enumerate(bounded_lines(path, "a file with two image names a line"), start=1):
        if not line.strip() or line.split(maxsplit=1)[0] == COMMENT:
            continue
        a, b = _two_names(line.strip(), known | unusable, f"{path}, line {number}")
        if a == b or a in unusable or b in unusable or ImagePair.of(a, b) in pairs:
            dropped += 1
        else:
            pairs[ImagePair.of(a, b)] = None
    if not pairs:
        raise BadFile(f"{path}: no pair of two usable images in it; write two image names a line")
    note = f"{path}: {dropped} line(s) dropped: doubled, an image with itself, or a skipped image"
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
        raise BadFile(f"{where}: {line[:_SHOWN]!r} can be read as more than one pair; rename images that have spaces")
    # Report the longest wrong part next to a right one, else the first word.
    words = line.split(maxsplit=2)
    if len(words) == 2 or half_right:
        absent = half_right[0] if half_right else words[0]
        raise BadFile(f"{where}: no image {absent[:_SHOWN]!r} in the folder; names are paths relative to it")
    raise BadFile(f"{where}: {line[:_SHOWN]!r} is not two names of images in the folder")


def _splits(line: str) -> Iterator[tuple[str, str]]:
    return ((line[: gap.start()], line[gap.end() :]) for gap in re.finditer(r"\s+", line))
