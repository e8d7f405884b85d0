"""The group `matches` of the feature database: matches of all pairs as columns, by matcher and images' digests.

Rows of one pair are contiguous; `index` says where. A pair written again gets new rows and the last
entry counts. Rows of images that changed or left stay until the file is compacted, so that images
that come back find their matches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import h5py
import numpy as np

from sfm.finders import MOST
from sfm.storage.hdf5_columns import Array, Columns, check_below, chunked, column, offsets_of, read_columns, subgroup
from sfm.types import ImagePair, Matches

# S matchers, D versions of images, E entries, R rows
MATCH_ROWS: Columns = {
    "points": ("f4", ("R", 4)),  # x0, y0, x1, y1, px
    "confidence": ("f4", ("R",)),
    "cells": ("i4", ("R", 2)),  # cells0, cells1
}
MATCH_INDEX: Columns = {
    "matcher": ("str", ("S",)),
    "photo_name": ("str", ("D",)),
    "photo_digest": ("str", ("D",)),
    "index": ("i8", ("E", 5)),  # row in matcher, row in photo_* of image 0, of image 1, first row, number of rows
}
_CURRENT = "current"  # attribute: row in `matcher` of the matcher that read_matches reads
_BESIDE = "beside"  # attribute, where there are any: rows in `matcher` of those that it reads besides; -1: none is held

Entry = tuple[int, int, int]  # matcher, image 0, image 1


class MatchTable:
    """The matches of an open database file."""

    def __init__(self, file: h5py.File, digests: Mapping[str, str]) -> None:
        """ValueError where the file's group does not fit the schema."""
        self._file = file
        self._matchers: dict[str, int] = {}
        self._images: dict[tuple[str, str], int] = {}
        self._where: dict[Entry, tuple[int, int]] = {}
        self._current: tuple[int, ...] = ()
        self._data: dict[str, h5py.Dataset] = {}
        group = subgroup(file, "matches")
        if group is not None:
            self._load(group)
        self.use_images(digests)

    def _load(self, group: h5py.Group) -> None:
        columns, counts = read_columns(group, MATCH_INDEX), dict[str, int]()
        self._data = {name: column(group, name, spec, counts) for name, spec in MATCH_ROWS.items()}
        index: Array = columns["index"]
        check_below(index[:, 0], len(columns["matcher"]), "matches/index")
        check_below(index[:, 1:3], len(columns["photo_name"]), "matches/index")
        if (index[:, 3:] < 0).any() or (index[:, 3] > counts["R"] - index[:, 4]).any():
            raise ValueError(f"matches/index: beyond {counts['R']} rows")
        rank = np.unique(columns["photo_name"].astype(str), return_inverse=True)[1]
        if (rank[index[:, 1]] >= rank[index[:, 2]]).any():
            raise ValueError("matches/index: a pair that is none")
        self._matchers = {str(key): i for i, key in enumerate(columns["matcher"])}
        names = zip(columns["photo_name"], columns["photo_digest"], strict=True)
        self._images = {(str(name), str(digest)): i for i, (name, digest) in enumerate(names)}
        self._where = {(m, a, b): (start, num) for m, a, b, start, num in index.tolist()}
        current = int(group.attrs.get(_CURRENT, -1))
        beside = [int(row) for row in np.asarray(group.attrs.get(_BESIDE, ())).reshape(-1)[: MOST - 1]]
        known = 0 <= current < len(self._matchers)
        self._current = (current, *(row if row < len(self._matchers) else -1 for row in beside)) if known else ()

    def use_images(self, digests: Mapping[str, str]) -> None:
        """Set the images as they are now: name -> digest."""
        self._digests = dict(digests)

    def _entry(self, matcher: int, pair: ImagePair) -> Entry | None:
        keys = [(name, self._digests.get(name, "")) for name in (pair.name0, pair.name1)]
        rows = [self._images.get(key) for key in keys]
        return None if rows[0] is None or rows[1] is None else (matcher, rows[0], rows[1])

    def pairs(self, key: str) -> frozenset[ImagePair]:
        """Pairs of images as they are now that hold matches by the matcher."""
        matcher = self._matchers.get(key)
        names = {row: name for (name, digest), row in self._images.items() if self._digests.get(name) == digest}
        return frozenset(
            ImagePair(names[a], names[b]) for m, a, b in self._where if m == matcher and a in names and b in names
        )

    def counts(self) -> dict[ImagePair, int]:
        """Number of matches of each pair of images as they are now, by the current matchers."""
        found: dict[ImagePair, int] = {}
        for key, matcher in self._matchers.items():
            for pair in self.pairs(key) if matcher in self._current else ():
                entry = self._entry(matcher, pair)
                found[pair] = found.get(pair, 0) + (self._where[entry][1] if entry is not None else 0)
        return found

    def read(self, pair: ImagePair, key: str | None = None) -> Matches | None:
        """Matches of a pair by a matcher, where none is named by the current ones; None where they have none."""
        if key is not None:
            return self._read(self._matchers.get(key, -1), pair)
        found = [self._read(matcher, pair) for matcher in self._current]
        return found[0] if len(found) == 1 else side_by_side(found)

    def _read(self, matcher: int, pair: ImagePair) -> Matches | None:
        entry = self._entry(matcher, pair)
        if entry is None or entry not in self._where:
            return None
        start, num = self._where[entry]
        points, confidence, cells = (self._data[name][start : start + num] for name in MATCH_ROWS)
        return Matches(points[:, :2], points[:, 2:], confidence, cells[:, 0], cells[:, 1])

    def describe(self) -> list[tuple[str, int, int, bool]]:
        """For each matcher: its key, valid pairs, their rows, whether it is a current one."""
        found = []
        for key, matcher in self._matchers.items():
            entries = [self._entry(matcher, pair) for pair in self.pairs(key)]
            rows = sum(self._where[e][1] for e in entries if e is not None)
            found.append((key, len(entries), rows, matcher in self._current))
        return found

    # writing

    def select(self, key: str, *beside: str) -> None:
        """Make a matcher the current one, where it is known, with others beside it."""
        matcher, others = self._matchers.get(key), [self._matchers.get(other, -1) for other in beside]
        if matcher is not None and (matcher, *others) != self._current:
            self._current = (matcher, *others)
            attributes = self._file["matches"].attrs
            attributes[_CURRENT] = matcher
            if others:
                attributes[_BESIDE] = np.array(others, np.int64)
            elif _BESIDE in attributes:
                del attributes[_BESIDE]

    def append(self, batch: Sequence[tuple[ImagePair, Matches]], key: str) -> None:
        """Add the matches of some pairs by the matcher, which becomes the current one."""
        if "matches" not in self._file:
            self._create()
        group = self._file["matches"]
        matcher = self._matchers.setdefault(key, len(self._matchers))
        _grow(group["matcher"], list(self._matchers))
        self.select(key)
        images = [self._image_rows(pair) for pair, _ in batch]
        _grow(group["photo_name"], [name for name, _ in self._images])
        _grow(group["photo_digest"], [digest for _, digest in self._images])
        offsets = offsets_of([len(m) for _, m in batch]) + len(self._data["confidence"])
        for name, rows in _rows([m for _, m in batch]).items():
            _extend(self._data[name], rows)
        entries = [(matcher, a, b, int(s), len(m)) for (a, b), s, (_, m) in zip(images, offsets, batch, strict=False)]
        _extend(group["index"], np.array(entries, np.int64).reshape(-1, 5))
        self._where.update({(m, a, b): (start, num) for m, a, b, start, num in entries})

    def _image_rows(self, pair: ImagePair) -> tuple[int, int]:
        keys = [(name, self._digests[name]) for name in (pair.name0, pair.name1)]
        rows = [self._images.setdefault(key, len(self._images)) for key in keys]
        return rows[0], rows[1]

    def _create(self) -> None:
        group = self._file.create_group("matches")
        for name, (kind, dims) in {**MATCH_INDEX, **MATCH_ROWS}.items():
            trailing = tuple(int(d) for d in dims[1:])
            if kind == "str":
                group.create_dataset(name, shape=(0,), maxshape=(None,), chunks=(64,), dtype=h5py.string_dtype())
            else:
                group.create_dataset(name, shape=(0, *trailing), dtype=kind, **chunked(trailing))
        self._data = {name: group[name] for name in MATCH_ROWS}

    # space

    def _alive(self) -> list[tuple[Entry, tuple[int, int]]]:
        """Entries of images as they are now, by their rows' place in the file."""
        now = {row for (name, digest), row in self._images.items() if self._digests.get(name) == digest}
        return sorted((e for e in self._where.items() if {e[0][1], e[0][2]} <= now), key=lambda e: e[1])

    def nbytes_alive(self) -> int:
        """Stored bytes that the rows of images as they are now take, about."""
        if not self._data:
            return 0
        rows = max(len(self._data["confidence"]), 1)
        stored = sum(int(d.id.get_storage_size()) for d in self._data.values())
        return stored * sum(num for _, (_, num) in self._alive()) // rows

    def copy_alive(self, file: h5py.File) -> None:
        """Write the rows of images as they are now into another database file, pair by pair."""
        names = {row: name for (name, _), row in self._images.items()}
        keys = {matcher: key for key, matcher in self._matchers.items()}
        table = MatchTable(file, self._digests)
        for (matcher, a, b), _ in self._alive():
            pair = ImagePair(names[a], names[b])
            matches = self.read(pair, keys[matcher])
            if matches is not None:
                table.append([(pair, matches)], keys[matcher])
        if self._current:
            table.select(*(keys.get(matcher, "") for matcher in self._current))


def side_by_side(found: Sequence[Matches | None]) -> Matches | None:
    """Matches of one pair by several matchers, one after the other, each with its number; None where none has any."""
    each = [(number, own) for number, own in enumerate(found) if own is not None]
    if not each:
        return None
    names = ("points0", "points1", "confidence", "cells0", "cells1")
    columns = {name: np.concatenate([getattr(own, name) for _, own in each]) for name in names}
    numbers, lengths = [number for number, _ in each], [len(own) for _, own in each]
    return Matches(**columns, finder=np.repeat(numbers, lengths).astype(np.uint8))


def _rows(matches: Sequence[Matches]) -> dict[str, Array]:
    """The columns of MATCH_ROWS; ValueError for a cell number beyond 31 bits."""
    if not matches:
        return {}
    cells = np.concatenate([np.stack([m.cells0, m.cells1], axis=1) for m in matches])
    if cells.size and (cells.max() > np.iinfo(np.int32).max or cells.min() < -1):
        raise ValueError("Matches.cells: not in -1 .. 2^31 - 1")
    return {
        "points": np.concatenate([np.concatenate([m.points0, m.points1], axis=1) for m in matches]),
        "confidence": np.concatenate([m.confidence for m in matches]),
        "cells": cells.astype(np.int32),
    }


def _extend(dataset: h5py.Dataset, rows: Array) -> None:
    if len(rows):
        start = len(dataset)
        dataset.resize(start + len(rows), axis=0)
        dataset[start:] = rows


def _grow(dataset: h5py.Dataset, values: list[str]) -> None:
    """Append the values that the dataset does not hold yet."""
    if len(values) > len(dataset):
        _extend(dataset, np.array(values[len(dataset) :], dtype=object))
