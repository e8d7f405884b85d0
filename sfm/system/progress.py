"""Progress bars with a rate and an ETA on a terminal; nothing at all where the output is a file."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(total: int | None, *, desc: str, unit: str, initial: int = 0) -> tqdm[Any]:
    """A tqdm bar on standard error, off when that is not a terminal. Use it as a context manager.

    total: None where nobody knows it.
    """
    return tqdm(
        total=total,
        desc=desc,
        unit=unit,
        initial=initial,
        disable=not sys.stderr.isatty(),
        dynamic_ncols=True,
        leave=False,
        smoothing=0.1,
    )
