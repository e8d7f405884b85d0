"""Tables for people and files for machines."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sfm.errors import BadFile


def aligned(rows: Sequence[Sequence[str]], sides: str | None = None, *, gap: int = 2) -> str:
    """Rows of equal length as lines whose columns are below each other.

    sides: "l" or "r" for each column, the side that its cells are aligned to; the default is the first to the left, the
    others to the right. gap: spaces between columns.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = sides or "l" + "r" * (len(widths) - 1)
    spec = (" " * gap).join(
        f"{{:{'<' if side == 'l' else '>'}{width}}}" for side, width in zip(sides, widths, strict=True)
    )
    return "\n".join(spec.format(*row).rstrip() for row in rows)


def write_json(path: Path, values: Any) -> None:
    """The values as JSON, the file whole or not at all; infinite and nan become null. BadFile where it cannot be."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        part.write_text(json.dumps(_plain(values), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise BadFile(f"{path}: cannot be written ({error.strerror}); choose another folder") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {f"{key:g}" if isinstance(key, float) else str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, bool | int | str | None) else str(value)
