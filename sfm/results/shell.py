"""Paths as words of a command that is proposed."""

from __future__ import annotations

import os
import shlex

VERB_NAMES = frozenset(  # a folder of such a name is written ./NAME
    {"demo", "view", "compare", "match", "export", "refine", "import", "inspect", "report", "evaluate", "weights"}
    | {"train", "localize"}
)


def path_word(path: str | os.PathLike[str]) -> str:
    """A path, quoted, that is neither taken for a verb nor for an option."""
    text = os.fspath(path)
    return shlex.quote(f"./{text}" if text in VERB_NAMES or text.startswith("-") else text)
