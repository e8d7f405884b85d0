"""Results of a long run as they come, a JSON line each, so that a run that was stopped carries on.

Every line has an id, a hash of all that its result depends on. A file may hold results of many runs: each takes what
is its own, and nothing is ever overwritten. A line that a kill cut short counts as absent.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from sfm.errors import BadFile
from sfm.system.hashing import json_digest
from sfm.system.safe_paths import refuse_links
from sfm.system.untrusted_files import parse_json

Result = dict[str, Any]
_MAX_LINE = 1 << 20  # characters


def result_id(*depends_on: Any) -> str:
    """24 hex digits, equal for equal JSON-able values."""
    return json_digest(depends_on)[:24]


class ResultLog:
    """Results in a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        """Makes the folder. Raises BadFile where it cannot be written."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            refuse_links(path.parent, [path.name])
            with path.open("a+b") as file:
                size = file.seek(0, 2)
                file.seek(max(size - 1, 0))
                if size and file.read(1) != b"\n":
                    file.write(b"\n")  # after a line that was cut short
        except OSError as error:
            raise BadFile(f"{path}: cannot be written ({error.strerror}); choose another --out") from None

    def read(self, wanted: Collection[str]) -> dict[str, Result]:
        """Those of the wanted results that are there, by id."""
        found: dict[str, Result] = {}
        with self.path.open(encoding="utf-8", errors="replace") as file:
            while line := file.readline(_MAX_LINE):  # the rest of a longer one is no JSON
                try:
                    values = parse_json(line)
                except ValueError:
                    continue
                if isinstance(values, dict) and isinstance(key := values.get("id"), str) and key in wanted:
                    found[key] = values
        return found

    def append(self, results: Mapping[str, Result]) -> None:
        """Adds results by id; they are in the file when this returns."""
        lines = [json.dumps({"id": key, **values}, allow_nan=False) + "\n" for key, values in results.items()]
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(lines))
