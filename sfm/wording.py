"""Words of messages: counts ("1 image", "2,000 images"), lists of names, and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun. many: the plural, where it is not the noun with an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def some(names: Sequence[str], *, shown: int = 3) -> str:
    """The first of some names, and how many there are more."""
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The known word most like this one, None where none is like it. cutoff: similarity, 0 to 1."""
    by_lower = {name.lower(): name for name in known}
    return next((by_lower[name] for name in get_close_matches(word.lower(), by_lower, n=1, cutoff=cutoff)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "; did you mean ...?", or "" where nothing known is like the word."""
    near = nearest(word, known)
    return "" if near is None else f"; did you mean {near}?"
