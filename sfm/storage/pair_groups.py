"""The groups of the feature database that say which pairs are asked for, which may follow, and which were matched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sfm.match_graph import REASONS, Candidates, RefusedPair, TriedPair, reason_number
from sfm.storage import schema
from sfm.storage.database_file import REMEDY
from sfm.storage.hdf5_columns import Array, reading
from sfm.types import ImagePair

_BUDGET = "budget"  # attribute of `candidates`
_FITS: tuple[bool | None, ...] = (False, True, None)


class PairGroups:
    """The part of a FeatureDatabase that holds pairs of images."""

    path: Path
    _names: list[str]
    _rows: dict[str, int]

    def _write(self, name: str, values: Mapping[str, Any], attributes: Mapping[str, Any] | None = None) -> None:
        raise NotImplementedError

    def _read(self, name: str) -> dict[str, Array]:
        raise NotImplementedError

    def _attributes(self, name: str) -> Mapping[str, Any]:
        raise NotImplementedError

    def _has(self, name: str) -> bool:
        raise NotImplementedError

    def write_pairs(self, pairs: Sequence[ImagePair]) -> None:
        """Write which images are to be matched, in the order given."""
        self._write("pairs", {"image_idx": schema.pair_rows(pairs, self._rows)})

    def read_pairs(self) -> tuple[ImagePair, ...]:
        """The pairs that are to be matched first or, where none may follow, at all; in the order written."""
        with reading(self.path, REMEDY):
            return tuple(schema.pairs(self._read("pairs")["image_idx"], self._names))

    def write_candidates(self, candidates: Candidates | None) -> None:
        """Write which pairs may be matched besides, None where there are none."""
        if candidates is None and not self._has("candidates"):
            return
        found = candidates or Candidates(np.zeros((0, 2), np.int64), np.zeros(0, np.float32), np.zeros(0, np.int64), 0)
        columns = {"image_idx": found.rows, "likeness": found.likeness, "reason": found.reason}
        self._write("candidates", columns, {_BUDGET: found.budget})

    def read_candidates(self) -> Candidates | None:
        """The pairs that may be matched besides, those of `read_pairs` among them; None where there are none."""
        if not self._has("candidates"):
            return None
        with reading(self.path, REMEDY):
            c = self._read("candidates")
            budget = int(self._attributes("candidates").get(_BUDGET, 0))
            rows, reason = c["image_idx"].astype(np.int64), c["reason"].astype(np.int64)
            found = Candidates(rows, c["likeness"], reason, budget)
        return found if len(found) else None

    def write_tried(self, tried: Sequence[TriedPair]) -> None:
        """Write which pairs were matched, in the order given; the later stages read these."""
        columns = {
            "image_idx": schema.pair_rows([each.pair for each in tried], self._rows),
            "round": [each.round for each in tried],
            "reason": [reason_number(each.reason) for each in tried],
            "fits": [_FITS.index(each.fits) for each in tried],
        }
        self._write("tried", columns)

    def read_tried(self) -> tuple[TriedPair, ...]:
        """The pairs that were matched, in the order written; of an older file those that were asked for."""
        if not self._has("tried"):
            return tuple(TriedPair(pair) for pair in self.read_pairs())
        with reading(self.path, REMEDY):
            c, names = self._read("tried"), list(REASONS)
            if len(c["reason"]) and (c["reason"].max() >= len(names) or c["fits"].max() >= len(_FITS)):
                raise ValueError("tried: a reason or an answer that there is not")
            each = zip(schema.pairs(c["image_idx"], self._names), *(c[name].tolist() for name in _TRIED), strict=True)
            return tuple(TriedPair(pair, number, names[reason], _FITS[fits]) for pair, number, reason, fits in each)

    def write_refused(self, refused: Sequence[RefusedPair]) -> None:
        """Write which verified pairs the tracks leave out, since they show places that look alike."""
        if not refused and not self._has("refused"):
            return
        columns = {"image_idx": schema.pair_rows([each.pair for each in refused], self._rows)}
        self._write("refused", columns | {name: [getattr(each, name) for each in refused] for name in _REFUSED})

    def read_refused(self) -> tuple[RefusedPair, ...]:
        """Those pairs, in the order written; none in an older file."""
        if not self._has("refused"):
            return ()
        with reading(self.path, REMEDY):
            c = self._read("refused")
            each = zip(schema.pairs(c["image_idx"], self._names), *(c[name].tolist() for name in _REFUSED), strict=True)
            return tuple(RefusedPair(*own) for own in each)


_TRIED, _REFUSED = ("round", "reason", "fits"), ("matched", "through")
