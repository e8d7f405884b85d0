"""Matching: each photo encoded as rarely as memory allows, each pair matched once, streamed into the database.

The order of the pairs is known before the first is matched. So they are ordered by blocks of
images that fit the memory together, and the cache drops the features whose next use lies farthest
ahead (Belady's rule, the best there is when the future is known). A thread decodes the next photos
while the matcher works. Pairs that the database already holds for these photos and this matcher
are not matched again, so a run that was stopped carries on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeVar

from sfm.errors import BadImage, SfMError
from sfm.images import read_grey, read_mask
from sfm.matchers.base import Features, GreyImage, Mask, Matcher
from sfm.options import MatchingOptions
from sfm.progress import progress_bar
from sfm.types import ImagePair, ImageRecord, Matches, StageSummary

log = logging.getLogger(__name__)

_DECODED_AHEAD = 4  # photos
_FLUSH_PAIRS = 200
_FLUSH_SECONDS = 10.0

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class _MatchStore(Protocol):
    """What matching needs of the feature database."""

    def read_images(self) -> tuple[ImageRecord, ...]: ...
    def read_pairs(self) -> tuple[ImagePair, ...]: ...
    def write_pairs(self, pairs: Sequence[ImagePair]) -> None: ...
    def write_grids(self, grids: Mapping[str, tuple[float, float, int] | None]) -> None: ...
    def matched_pairs(self, matcher_key: str) -> frozenset[ImagePair]: ...
    def read_matches(self, pair: ImagePair) -> Matches: ...
    def write_matches(self, batch: Sequence[tuple[ImagePair, Matches]], *, matcher_key: str) -> None: ...


def matcher_key(provenance: Mapping[str, str]) -> str:
    """Hex SHA-256 of all that a matcher's answers depend on: equal keys, equal matches."""
    return hashlib.sha256(json.dumps(dict(provenance), sort_keys=True).encode()).hexdigest()


def run(
    db: _MatchStore, matcher: Matcher, folder: Path, options: MatchingOptions, *, masks: Path | None = None
) -> StageSummary:
    """Matches the database's pairs that are not matched yet; a photo that cannot be read costs its pairs only.

    Pairs of such a photo are taken out of the database's list of pairs.
    folder: the photos. masks: folder of masks or None. Raises SfMError when memory does not suffice
    for a single pair.
    """
    start = time.perf_counter()
    records = {record.name: record for record in db.read_images()}
    pairs = db.read_pairs()
    key = matcher_key(matcher.provenance)
    done = db.matched_pairs(key).intersection(pairs)
    db.write_grids({name: matcher.grid(record.width, record.height) for name, record in records.items()})
    todo = [pair for pair in pairs if pair not in done]
    with (
        _PhotoReader(folder, records, masks) as reader,
        _MatchWriter(db, key) as writer,
        progress_bar(len(pairs), desc="matching", unit="pair", initial=len(done)) as bar,
    ):
        session = _Session(matcher, reader, options)
        for results, num_pairs in session.match_all(todo):
            writer.add(results)
            bar.update(num_pairs)
    if session.lost:  # later stages see only pairs that have matches; the next run finds the others again
        pairs = tuple(pair for pair in pairs if pair not in session.lost)
        db.write_pairs(pairs)
    counts: dict[str, int | float] = {
        "pairs": len(pairs),
        "matches": writer.num_matches + sum(len(db.read_matches(pair)) for pair in done),
        "encoded": session.num_encoded,
        "reused": len(done),
    }
    return StageSummary("matching", counts, time.perf_counter() - start, skipped=session.skipped)


# --- the order of the pairs -------------------------------------------------------------------


def order_pairs(pairs: Sequence[ImagePair], capacity: int) -> list[ImagePair]:
    """The pairs in an order that needs few encodings when features of `capacity` images fit the memory.

    Either as they stand, by name, which suits sequences; or by blocks: the first capacity - 2
    images stay while all others pass by, then the next (some N^2 / 2 capacity encodings for all
    pairs of N images, where the order by name needs capacity times as many). The better of the two
    by count.
    """
    by_name = sorted(pairs)
    rank = {name: i for i, name in enumerate(sorted({name for pair in pairs for name in (pair.name0, pair.name1)}))}
    block = max(1, capacity - 2)
    by_block = sorted(pairs, key=lambda pair: (rank[pair.name0] // block, pair.name1, pair.name0))
    return min((by_block, by_name), key=lambda order: count_encodings(order, capacity))


def count_encodings(order: Sequence[ImagePair], capacity: int) -> int:
    """How many images are encoded when the pairs are matched in this order, one by one."""
    cache = _FeatureCache(order, budget=capacity)
    num_encoded = 0
    for position, pair in enumerate(order):
        missing = [name for name in (pair.name0, pair.name1) if name not in cache]
        for name in missing:
            cache.put(name, _OneUnit())
        num_encoded += len(missing)
        cache.shrink(position, keep={pair.name0, pair.name1})
    return num_encoded


class _OneUnit:
    """Features that cost one unit of the budget, for counting."""

    nbytes = 1


class _FeatureCache:
    """Features of images within a budget of bytes, for a known order of pairs."""

    def __init__(self, order: Sequence[ImagePair], budget: float) -> None:
        self._budget = budget
        self._features: dict[str, Features] = {}
        self._uses: dict[str, list[int]] = {}
        self._nbytes = 0
        for position, pair in enumerate(order):
            self._uses.setdefault(pair.name0, []).append(position)
            self._uses.setdefault(pair.name1, []).append(position)

    def __contains__(self, name: str) -> bool:
        return name in self._features

    def __getitem__(self, name: str) -> Features:
        return self._features[name]

    def put(self, name: str, features: Features) -> None:
        """Keeps the features; the budget may be exceeded until `shrink`."""
        self._features[name] = features
        self._nbytes += features.nbytes

    def shrink(self, position: int, keep: set[str]) -> None:
        """Drops what no pair after `position` uses, then what is used farthest ahead, until the budget holds."""
        while self._nbytes > self._budget:
            loose = [name for name in self._features if name not in keep]
            if not loose:
                return
            self._nbytes -= self._features.pop(max(loose, key=lambda name: self._next_use(name, position))).nbytes

    def _next_use(self, name: str, position: int) -> float:
        uses = self._uses.get(name, [])
        index = bisect_left(uses, position + 1)
        return uses[index] if index < len(uses) else float("inf")


# --- reading and writing beside the matcher -----------------------------------------------------


class _PhotoReader(AbstractContextManager["_PhotoReader"]):
    """Photos and their masks, the next ones decoded in a thread while the matcher works."""

    def __init__(self, folder: Path, records: Mapping[str, ImageRecord], masks: Path | None) -> None:
        self._folder = folder
        self._records = records
        self._masks = masks
        self._thread = ThreadPoolExecutor(1)
        self._ahead: dict[str, Future[tuple[GreyImage, Mask | None]]] = {}

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    @property
    def idle(self) -> bool:
        """Another photo may be announced."""
        return len(self._ahead) < _DECODED_AHEAD

    def announce(self, name: str) -> None:
        """Starts to decode a photo that will be taken soon."""
        if name not in self._ahead:
            self._ahead[name] = self._thread.submit(self._read, name)

    def take(self, name: str) -> tuple[GreyImage, Mask | None]:
        """The photo and its mask, if it has one. Raises BadImage."""
        future = self._ahead.pop(name, None)
        return future.result() if future is not None else self._read(name)

    def _read(self, name: str) -> tuple[GreyImage, Mask | None]:
        record = self._records[name]
        mask = read_mask(self._masks, record) if self._masks is not None else None
        return read_grey(self._folder, record), mask


class _MatchWriter(AbstractContextManager["_MatchWriter"]):
    """Collects matches and writes them every few hundred pairs or seconds, and when the run is stopped."""

    def __init__(self, db: _MatchStore, key: str) -> None:
        self.num_matches = 0
        self._db = db
        self._key = key
        self._batch: list[tuple[ImagePair, Matches]] = []
        self._written_at = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._flush()

    def add(self, results: Sequence[tuple[ImagePair, Matches]]) -> None:
        """Takes the matches of some pairs."""
        self._batch.extend(results)
        self.num_matches += sum(len(matches) for _, matches in results)
        if len(self._batch) >= _FLUSH_PAIRS or time.monotonic() - self._written_at >= _FLUSH_SECONDS:
            self._flush()

    def _flush(self) -> None:
        batch, self._batch = self._batch, []
        if batch:
            self._db.write_matches(batch, matcher_key=self._key)
        self._written_at = time.monotonic()


# --- matching -----------------------------------------------------------------------------------


class _Session:
    """One run of a matcher over many pairs: its cache, its batch size and the photos that failed."""

    def __init__(self, matcher: Matcher, reader: _PhotoReader, options: MatchingOptions) -> None:
        self.num_encoded = 0
        self._matcher = matcher
        self._reader = reader
        self._budget = options.memory * 1e9
        self._batch_size = options.batch or matcher.batch_size
        self._failed: dict[str, str] = {}
        self.lost: set[ImagePair] = set()

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """(photo, reason) of each photo that could not be read."""
        num_lost = Counter(name for pair in self.lost for name in (pair.name0, pair.name1))
        return tuple((name, f"{reason} ({num_lost[name]} pairs skipped)") for name, reason in self._failed.items())

    def match_all(self, pairs: Sequence[ImagePair]) -> Iterator[tuple[list[tuple[ImagePair, Matches]], int]]:
        """Batch by batch: (pair, matches) of those that could be matched, and the number that is done with."""
        first = self._first_features(pairs)
        capacity = int(self._budget // max(1, first[1].nbytes)) if first else 0
        order = order_pairs(pairs, capacity)
        cache = _FeatureCache(order, self._budget)
        if first:
            cache.put(*first)
        position, ahead = 0, 0
        while position < len(order):
            batch = order[position : position + self._batch_size]
            names = list(dict.fromkeys(name for pair in batch for name in (pair.name0, pair.name1)))
            self._encode_missing(cache, names)
            position += len(batch)
            cache.shrink(position - 1, keep=set(names))
            ahead = self._announce(order, max(ahead, position), cache)
            yield self._match_batch(cache, batch), len(batch)

    def _first_features(self, pairs: Sequence[ImagePair]) -> tuple[str, Features] | None:
        """One readable photo's features, which tell how many fit the memory."""
        for name in sorted({name for pair in pairs for name in (pair.name0, pair.name1)}):
            features = self._encode([name])
            if features:
                return name, features[name]
        return None

    def _announce(self, order: Sequence[ImagePair], ahead: int, cache: _FeatureCache) -> int:
        """Has the photos of coming pairs decoded; returns the first pair that was not looked at."""
        while ahead < len(order) and self._reader.idle:
            for name in (order[ahead].name0, order[ahead].name1):
                if name not in cache and name not in self._failed:
                    self._reader.announce(name)
            ahead += 1
        return ahead

    def _encode_missing(self, cache: _FeatureCache, names: Sequence[str]) -> None:
        for name, features in self._encode([name for name in names if name not in cache]).items():
            cache.put(name, features)

    def _encode(self, names: Sequence[str]) -> dict[str, Features]:
        photos: dict[str, tuple[GreyImage, Mask | None]] = {}
        for name in names:
            if name in self._failed:
                continue
            try:
                photos[name] = self._reader.take(name)
            except BadImage as error:
                self._failed[name] = str(error)
        features = self._by_batches(list(photos.values()), self._encode_batch)
        self.num_encoded += len(features)
        return dict(zip(photos, features, strict=True))

    def _encode_batch(self, photos: Sequence[tuple[GreyImage, Mask | None]]) -> Sequence[Features]:
        return self._matcher.encode([photo for photo, _ in photos], [mask for _, mask in photos])

    def _match_batch(self, cache: _FeatureCache, batch: Sequence[ImagePair]) -> list[tuple[ImagePair, Matches]]:
        usable = [pair for pair in batch if self._failed.keys().isdisjoint((pair.name0, pair.name1))]
        self.lost.update(set(batch).difference(usable))
        matches = self._by_batches([(cache[pair.name0], cache[pair.name1]) for pair in usable], self._matcher.match)
        return list(zip(usable, matches, strict=True))

    def _by_batches(
        self, items: Sequence[_Item], call: Callable[[Sequence[_Item]], Sequence[_Result]]
    ) -> list[_Result]:
        """call(items) in pieces of the batch size, which is halved for good whenever memory runs out."""
        results: list[_Result] = []
        while len(results) < len(items):
            piece = items[len(results) : len(results) + self._batch_size]
            try:
                results += call(piece)
            except Exception as error:
                if not _is_out_of_memory(error):
                    raise
                self._halve(len(piece))
        return results

    def _halve(self, num_items: int) -> None:
        if num_items <= 1:
            raise SfMError("out of memory on a single pair of photos: lower --resize or --memory, or use --device cpu")
        self._batch_size = num_items // 2
        log.warning("out of memory: from here on %d pair(s) at once", self._batch_size)


def _is_out_of_memory(error: Exception) -> bool:
    """MemoryError or torch.OutOfMemoryError, without importing torch."""
    return isinstance(error, MemoryError) or any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
