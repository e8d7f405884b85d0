"""Matching: each photo encoded as rarely as memory allows, each pair matched once, streamed into the database.

A thread decodes the next photos while the matcher works. Pairs that the database already holds for
these photos and this matcher are not matched again, so a run that was stopped carries on.

Where the pairs that match well leave groups of photos apart, and the matcher minds how a photo is
turned, pairs between groups are matched again with one photo turned (sfm.matching.rotations). Each turn's
matches are kept under a key of their own, and the better ones then take the place of the upright
ones. What is decided depends on pairs that were never turned only, so it comes out the same after
a stop at any point.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from sfm.errors import BadImage, SfMError
from sfm.images.stage import check_unchanged, read_grey, read_mask
from sfm.matchers.base import GreyImage, Mask, Matcher
from sfm.matchers.turning import TurnedFeatures, TurningMatcher
from sfm.matching.feature_cache import FeatureCache, order_pairs
from sfm.matching.rotations import CLEARLY, TIED, TURNS, TurnedPair, find_turns, strength
from sfm.options import MatchingOptions
from sfm.system import memory
from sfm.system.parallel import Workers
from sfm.system.progress import progress_bar
from sfm.types import Grid, ImagePair, ImageRecord, MatcherTraits, Matches, StageSummary

log = logging.getLogger(__name__)

_DECODED_AHEAD, _DECODED_AHEAD_PX = 4, 100_000_000  # photos, and of large ones fewer
_FLUSH_PAIRS = 200
_FLUSH_SECONDS = 10.0

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class _MatchStore(Protocol):
    """What matching needs of the feature database."""

    def read_images(self) -> tuple[ImageRecord, ...]: ...
    def read_pairs(self) -> tuple[ImagePair, ...]: ...
    def write_pairs(self, pairs: Sequence[ImagePair]) -> None: ...
    def write_grids(self, grids: Mapping[str, Grid | None], *, traits: MatcherTraits | None = None) -> None: ...
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
    grids = {name: matcher.grid(record.width, record.height) for name, record in records.items()}
    db.write_grids(grids, traits=matcher.traits)
    with _PhotoReader(folder, records, masks) as reader:
        session = _Session(matcher, reader, options)
        work = _PairWork(db, session, _keys(matcher, options), _num_cells(records, grids))
        num_reused = len(work.held(0).intersection(pairs))
        upright = work.match([TurnedPair(pair, 0) for pair in pairs], desc="matching")
        turned = work.turn(upright) if _may_turn(matcher, options) else {}
    if session.lost:  # later stages see only pairs that have matches; the next run finds the others again
        pairs = tuple(pair for pair in pairs if pair not in session.lost)
        db.write_pairs(pairs)
    final = {task.pair: found for task, found in upright.items()} | {task.pair: found for task, found in turned.items()}
    counts: dict[str, int | float] = {
        "pairs": len(pairs),
        "matches": sum(found.num_rows for found in final.values()),
        "encoded": session.num_encoded,
        "reused": num_reused,
        **({"turned": len(turned)} if turned else {}),
    }
    return StageSummary("matching", counts, time.perf_counter() - start, skipped=session.skipped)


def match_photos(
    matcher: Matcher,
    folder: Path,
    records: Mapping[str, ImageRecord],
    tasks: Sequence[TurnedPair],
    options: MatchingOptions,
) -> Iterator[list[tuple[TurnedPair, Matches]]]:
    """Batch by batch the matches of pairs, in an order that saves encodings; no database.

    Raises BadImage for a photo that cannot be read, SfMError as `run`.
    """
    with _PhotoReader(folder, records, None) as reader:
        session = _Session(matcher, reader, options)
        for results, _ in session.match_all(tasks):
            for name, reason in session.skipped:
                raise BadImage(f"{name}: {reason}")
            yield results


def _may_turn(matcher: Matcher, options: MatchingOptions) -> bool:
    return options.turns == "auto" and not matcher.rotation_invariant


def _keys(matcher: Matcher, options: MatchingOptions) -> list[str]:
    """Keys of the matches in the database: of those that later stages see, then of turn 1, 2 and 3."""
    seen = {"turns": "auto"} if _may_turn(matcher, options) else {}
    turned = [matcher_key({**matcher.provenance, "turned": f"{90 * turn}"}) for turn in (1, 2, 3)]
    return [matcher_key({**matcher.provenance, **seen}), *turned]


def _num_cells(records: Mapping[str, ImageRecord], grids: Mapping[str, Grid | None]) -> dict[str, int]:
    """Cells of each photo's grid; 0 for a detector."""
    return {
        name: grid.columns * round(records[name].height / grid.cell_height) if grid is not None else 0
        for name, grid in grids.items()
    }


class _Found(NamedTuple):
    """What is kept in mind of a pair's matches."""

    num_rows: int
    strength: float


class _PairWork:
    """Pairs and turns, matched or taken from the database."""

    def __init__(self, db: _MatchStore, session: _Session, keys: Sequence[str], num_cells: Mapping[str, int]) -> None:
        """keys: of the matches in the database, by turn."""
        self._db = db
        self._session = session
        self._keys = keys
        self._num_cells = num_cells

    def held(self, turn: int) -> frozenset[ImagePair]:
        """Pairs that the database has matches of; it then reads matches of this turn."""
        return self._db.matched_pairs(self._keys[turn])

    def match(self, tasks: Sequence[TurnedPair], *, desc: str) -> dict[TurnedPair, _Found]:
        """What there is of each task, without those of photos that cannot be read."""
        found: dict[TurnedPair, _Found] = {}
        for turn in {task.turn for task in tasks}:
            held = self.held(turn)
            for task in tasks:
                if task.turn == turn and task.pair in held:
                    found[task] = self._measure(task.pair, self._db.read_matches(task.pair))
        todo = [task for task in tasks if task not in found]
        with (
            _MatchWriter(self._db, self._keys) as writer,
            progress_bar(len(tasks), desc=desc, unit="pair", initial=len(found)) as bar,
        ):
            for results, num_pairs in self._session.match_all(todo):
                writer.add(results)
                found |= {task: self._measure(task.pair, matches) for task, matches in results}
                bar.update(num_pairs)
        return found

    def turn(self, upright: Mapping[TurnedPair, _Found]) -> dict[TurnedPair, _Found]:
        """Matches pairs between groups of photos again, turned; those that are clearly better replace the upright ones.

        Returns the replaced ones, also those that an earlier run replaced.
        """
        turned_before = frozenset[ImagePair]().union(*(self.held(turn) for turn in TURNS))
        strengths = {task.pair: found.strength for task, found in upright.items()}
        tied = [pair for pair, value in strengths.items() if value >= TIED and pair not in turned_before]
        again = self.match(find_turns(list(strengths), tied, self._strengths), desc="turned photos")
        before = {task: upright[TurnedPair(task.pair, 0)] for task in again}
        replaced = {task: found for task, found in again.items() if found.num_rows and found == before[task]}
        better = {t: found for t, found in again.items() if found.strength > CLEARLY * before[t].strength}
        self._replace(list(better))
        return replaced | better

    def _strengths(self, probes: Sequence[TurnedPair]) -> dict[TurnedPair, float]:
        return {task: found.strength for task, found in self.match(probes, desc="trying turned photos").items()}

    def _replace(self, tasks: Sequence[TurnedPair]) -> None:
        """Puts turned matches in the place of upright ones, and has the database read these from now on."""
        for turn in TURNS:
            pairs = [task.pair for task in tasks if task.turn == turn]
            for begin in range(0, len(pairs), _FLUSH_PAIRS):
                self.held(turn)
                batch = [(pair, self._db.read_matches(pair)) for pair in pairs[begin : begin + _FLUSH_PAIRS]]
                self._db.write_matches(batch, matcher_key=self._keys[0])
        self.held(0)

    def _measure(self, pair: ImagePair, matches: Matches) -> _Found:
        return _Found(len(matches), strength(matches, min(self._num_cells[pair.name0], self._num_cells[pair.name1])))


# --- reading and writing beside the matcher -----------------------------------------------------


class _PhotoReader(AbstractContextManager["_PhotoReader"]):
    """Photos and their masks, the next ones decoded in a thread while the matcher works."""

    def __init__(self, folder: Path, records: Mapping[str, ImageRecord], masks: Path | None) -> None:
        self._folder = folder
        self._records = records
        self._masks = masks
        self._thread = Workers(1)
        self._ahead: dict[str, Future[tuple[GreyImage, Mask | None]]] = {}

    def __exit__(self, kind: object, *_: object) -> None:
        self._thread.shutdown(wait=kind is None, cancel_futures=True)

    @property
    def idle(self) -> bool:
        """Another photo may be announced."""
        px = sum(self._records[name].width * self._records[name].height for name in self._ahead)
        return len(self._ahead) < _DECODED_AHEAD and px < _DECODED_AHEAD_PX

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
        photo = read_grey(self._folder, record)
        check_unchanged(self._folder, record, self._masks)
        return photo, mask


class _MatchWriter(AbstractContextManager["_MatchWriter"]):
    """Collects matches and writes them every few hundred pairs or seconds, and when the run is stopped."""

    def __init__(self, db: _MatchStore, keys: Sequence[str]) -> None:
        """keys: what to write matches under, by turn."""
        self._db = db
        self._keys = keys
        self._batch: list[tuple[TurnedPair, Matches]] = []
        self._written_at = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._flush()

    def add(self, results: Sequence[tuple[TurnedPair, Matches]]) -> None:
        """Takes the matches of some pairs."""
        self._batch.extend(results)
        if len(self._batch) >= _FLUSH_PAIRS or time.monotonic() - self._written_at >= _FLUSH_SECONDS:
            self._flush()

    def _flush(self) -> None:
        batch, self._batch = self._batch, []
        for turn in sorted({task.turn for task, _ in batch}):
            of_turn = [(task.pair, matches) for task, matches in batch if task.turn == turn]
            self._db.write_matches(of_turn, matcher_key=self._keys[turn])
        self._written_at = time.monotonic()


# --- matching -----------------------------------------------------------------------------------


class _View(NamedTuple):
    """A photo as it is encoded. turn: quarter turns."""

    photo: str
    turn: int


class _Views(NamedTuple):
    """What is matched: image 0 of a pair as it is and image 1 turned."""

    name0: _View
    name1: _View

    @property
    def task(self) -> TurnedPair:
        """The pair and its turn."""
        return TurnedPair(ImagePair(self.name0.photo, self.name1.photo), self.name1.turn)


class _Session:
    """One run of a matcher over many pairs: its cache, its batch size and the photos that failed."""

    def __init__(self, matcher: Matcher, reader: _PhotoReader, options: MatchingOptions) -> None:
        self.num_encoded = 0
        self._matcher = TurningMatcher(matcher)
        self._reader = reader
        self._budget = memory.budget(options.memory, options.device)
        self._batch_size = options.batch or matcher.batch_size
        self._failed: dict[str, str] = {}
        self.lost: set[ImagePair] = set()

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """(photo, reason) of each photo that could not be read."""
        num_lost = Counter(name for pair in self.lost for name in (pair.name0, pair.name1))
        return tuple((name, f"{reason} ({num_lost[name]} pairs skipped)") for name, reason in self._failed.items())

    def match_all(self, tasks: Sequence[TurnedPair]) -> Iterator[tuple[list[tuple[TurnedPair, Matches]], int]]:
        """Batch by batch: (task, matches) of those that could be matched, and the number that is done with."""
        views = [_Views(_View(pair.name0, 0), _View(pair.name1, turn)) for pair, turn in tasks]
        first = self._first_features(views)
        size = max([1, *(features.nbytes for features in first.values())])
        self._batch_size = min(self._batch_size, max(1, self._budget // (2 * size)))
        order = order_pairs(views, self._budget // size)
        cache: FeatureCache[TurnedFeatures] = FeatureCache(order, self._budget)
        cache.put(first)
        first.clear()  # only the cache holds features
        position, ahead = 0, 0
        while position < len(order):
            batch = order[position : position + self._batch_size]
            missing = dict.fromkeys(view for pair in batch for view in pair if view not in cache)
            position += len(batch)
            if cache.shrink(position - 1, keep={view for pair in batch for view in pair}, room=len(missing) * size):
                memory.give_back()
            cache.put(self._encode(list(missing)))
            ahead = self._announce(order, max(ahead, position), cache)
            yield self._match_batch(cache, batch), len(batch)

    def _first_features(self, pairs: Sequence[_Views]) -> dict[_View, TurnedFeatures]:
        """Of one readable photo, by which the number that fits the memory is judged; empty where there is none."""
        each = (self._encode([view]) for view in sorted({view for pair in pairs for view in pair}))
        return next(filter(None, each), {})

    def _announce(self, order: Sequence[_Views], ahead: int, cache: FeatureCache[TurnedFeatures]) -> int:
        """Has the photos of coming pairs decoded; returns the first pair that was not looked at."""
        while ahead < len(order) and self._reader.idle:
            for view in order[ahead]:
                if view not in cache and view.photo not in self._failed:
                    self._reader.announce(view.photo)
            ahead += 1
        return ahead

    def _encode(self, views: Sequence[_View]) -> dict[_View, TurnedFeatures]:
        photos: dict[_View, tuple[GreyImage, Mask | None, int]] = {}
        for view in views:
            if view.photo in self._failed:
                continue
            try:
                photos[view] = (*self._reader.take(view.photo), view.turn)
            except BadImage as error:
                self._failed[view.photo] = str(error)
        features = self._by_batches(list(photos.values()), self._matcher.encode)
        self.num_encoded += len(features)
        return dict(zip(photos, features, strict=True))

    def _match_batch(
        self, cache: FeatureCache[TurnedFeatures], batch: Sequence[_Views]
    ) -> list[tuple[TurnedPair, Matches]]:
        usable = [pair for pair in batch if self._failed.keys().isdisjoint(view.photo for view in pair)]
        self.lost.update(pair.task.pair for pair in set(batch).difference(usable))
        matches = self._by_batches([(cache[pair.name0], cache[pair.name1]) for pair in usable], self._matcher.match)
        return [(pair.task, found) for pair, found in zip(usable, matches, strict=True)]

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
                if not memory.is_exhausted(error):
                    raise
                self._halve(len(piece))
        return results

    def _halve(self, num_items: int) -> None:
        if num_items <= 1:
            raise SfMError("out of memory on a single pair of photos: lower --resize or --memory, or use --device cpu")
        self._batch_size = num_items // 2
        log.warning("out of memory: from here on %d pair(s) at once", self._batch_size)
