"""What was probably meant by a word that is unknown."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The known word most like this one, None where none is like it. cutoff: similarity, 0 to 1."""
    return next(iter(get_close_matches(word, list(known), n=1, cutoff=cutoff)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "; did you mean ...?", or "" where nothing known is like the word."""
    near = nearest(word, known)
    return "" if near is None else f"; did you mean {near}?"
