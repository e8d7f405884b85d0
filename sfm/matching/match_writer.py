"""Matches collected and written to the database in batches, each durable."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from sfm.matching.rotations import RotatedPair
from sfm.types import ImagePair, Matches

FLUSH_PAIRS = 200
_FLUSH_SECONDS = 10.0


class MatchSink(Protocol):
    """What writing needs of the feature database."""

    def write_matches(self, batch: Sequence[tuple[ImagePair, Matches]], *, matcher_key: str) -> None:
        """Adds or replaces matches of pairs; durable when it returns."""


class MatchWriter(AbstractContextManager["MatchWriter"]):
    """Collects matches and writes them every few hundred pairs or seconds, and when the run is stopped."""

    def __init__(self, db: MatchSink, keys: Sequence[str]) -> None:
        """keys: what to write matches under, by rotation."""
        self._db = db
        self._keys = keys
        self._batch: list[tuple[RotatedPair, Matches]] = []
        self._written_at = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._flush()

    def add(self, results: Sequence[tuple[RotatedPair, Matches]]) -> None:
        """Takes the matches of some pairs."""
        self._batch.extend(results)
        if len(self._batch) >= FLUSH_PAIRS or time.monotonic() - self._written_at >= _FLUSH_SECONDS:
            self._flush()

    def _flush(self) -> None:
        batch, self._batch = self._batch, []
        for rotation in sorted({task.rotation for task, _ in batch}):
            of_rotation = [(task.pair, matches) for task, matches in batch if task.rotation == rotation]
            self._db.write_matches(of_rotation, matcher_key=self._keys[rotation])
        self._written_at = time.monotonic()
