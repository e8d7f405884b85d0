"""One run of a matcher over many pairs: encodings saved by a cache, batches halved when memory runs out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from sfm.errors import BadImage, SfMError
from sfm.matchers.base import GreyImage, Mask, Matcher
from sfm.matchers.rotated import RotatedFeatures, RotatingMatcher
from sfm.matching.feature_cache import FeatureCache, order_pairs
from sfm.matching.prefetch import ImageReader
from sfm.matching.rotations import RotatedPair
from sfm.options import MatchingOptions
from sfm.system import memory
from sfm.system.parallel import Workers, num_cores
from sfm.types import ImagePair, ImageRecord, Matches
from sfm.wording import counted

log = logging.getLogger(__name__)

FEATURES = 1.2e9  # bytes in main memory: of 105 images of 640 x 480 px; 910 need an eighth more encodings than with all
FIT_PAIRS = 200  # whose matches are in memory at once
Fits = Callable[[ImagePair, Matches], bool]
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def match_images(
    matcher: Matcher,
    folder: Path,
    records: Mapping[str, ImageRecord],
    tasks: Sequence[RotatedPair],
    options: MatchingOptions,
) -> Iterator[list[tuple[RotatedPair, Matches]]]:
    """Batch by batch the matches of pairs, in an order that saves encodings; no database.

    Raises BadImage for an image that cannot be read, SfMError as `run`.
    """
    with ImageReader(folder, records, None) as reader:
        session = Session(matcher, reader, options)
        for results, _ in session.match_all(tasks):
            for name, reason in session.skipped:
                raise BadImage(f"{name}: {reason}")
            yield results


class View(NamedTuple):
    """An image as it is encoded. rotation: quarter turns."""

    image: str
    rotation: int


class PairViews(NamedTuple):
    """What is matched: image 0 of a pair as it is and image 1 rotated."""

    name0: View
    name1: View

    @property
    def task(self) -> RotatedPair:
        """The pair and its rotation."""
        return RotatedPair(ImagePair(self.name0.image, self.name1.image), self.name1.rotation)


class MatchingSession(Protocol):
    """What matches pairs and keeps account of it: here (Session), or on other machines (sfm.cluster.session)."""

    @property
    def num_encoded(self) -> int:
        """Images that were encoded, an image again as often as it was."""

    @property
    def lost(self) -> Set[ImagePair]:
        """Pairs of images that could not be read."""

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """(image, reason) of each image that could not be read."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the summary of the run should say."""

    def match_all(self, tasks: Sequence[RotatedPair]) -> Iterator[tuple[list[tuple[RotatedPair, Matches]], int]]:
        """Batch by batch: (task, matches) of those that could be matched, and the number that is done with."""

    def fit(self, fits: Fits, items: Iterable[tuple[ImagePair, Matches]]) -> Iterator[bool]:
        """What a function says of each pair and its matches, in order. items: drawn as they are needed."""

    def forget(self) -> None:
        """Frees what is kept for the next call of `match_all`: there will be none soon."""


def parts_of(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """The items, so many at a time."""
    drawn = iter(items)
    while part := list(islice(drawn, size)):
        yield part


def skipped_images(failed: Mapping[str, str], lost: Set[ImagePair]) -> tuple[tuple[str, str], ...]:
    """(image, reason) of images that failed, by name; the reason says how many pairs they cost."""
    num_lost = Counter(name for pair in lost for name in (pair.name0, pair.name1))
    return tuple((name, f"{reason} ({counted(num_lost[name], 'pair')} skipped)") for name, reason in failed.items())


class Session:
    """One run of a matcher over many pairs: its cache, its batch size and the images that failed."""

    def __init__(self, matcher: Matcher, reader: ImageReader, options: MatchingOptions) -> None:
        self.num_encoded = 0
        self.notes: tuple[str, ...] = ()
        self._matcher = RotatingMatcher(matcher)
        self._reader = reader
        self._budget = memory.budget(options.memory, options.device, most=FEATURES)
        self._batch_size = options.batch or matcher.batch_size
        self._failed: dict[str, str] = {}
        self._kept: dict[View, RotatedFeatures] = {}
        self.lost: set[ImagePair] = set()

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """(image, reason) of each image that could not be read."""
        return skipped_images(self._failed, self.lost)

    @property
    def failed(self) -> Mapping[str, str]:
        """The reason for each image that could not be read."""
        return self._failed

    def match_all(self, tasks: Sequence[RotatedPair]) -> Iterator[tuple[list[tuple[RotatedPair, Matches]], int]]:
        """Batch by batch: (task, matches) of those that could be matched, and the number that is done with.

        Features that fit the memory are kept for the next call, until `forget`.
        """
        views = [PairViews(View(pair.name0, 0), View(pair.name1, rotation)) for pair, rotation in tasks]
        first = self._first_features(views)
        size = max([1, *(features.nbytes for features in first.values())])
        self._batch_size = min(self._batch_size, max(1, self._budget // (2 * size)))
        order = order_pairs(views, self._budget // size)
        cache: FeatureCache[RotatedFeatures] = FeatureCache(order, self._budget)
        cache.put(first)
        first.clear()  # only the cache holds features
        self._kept.clear()
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
        self._kept = cache.features

    def forget(self) -> None:
        """Frees the features that are kept."""
        self._kept.clear()
        memory.give_back()

    def fit(self, fits: Fits, items: Iterable[tuple[ImagePair, Matches]]) -> Iterator[bool]:
        """What a function says of each pair and its matches, in order; each core has a pair of its own."""
        with Workers(num_cores()) as pool:
            for part in parts_of(items, FIT_PAIRS):
                yield from pool.map(lambda item: fits(*item), part)

    def _first_features(self, pairs: Sequence[PairViews]) -> dict[View, RotatedFeatures]:
        """What is kept, or of one readable image, from which the number that fits the memory is estimated; empty where
        there is none."""
        if self._kept:
            return dict(self._kept)
        each = (self._encode([view]) for view in sorted({view for pair in pairs for view in pair}))
        return next(filter(None, each), {})

    def _announce(self, order: Sequence[PairViews], ahead: int, cache: FeatureCache[RotatedFeatures]) -> int:
        """Has the images of coming pairs decoded; returns the first pair that was not looked at."""
        while ahead < len(order) and self._reader.idle:
            for view in order[ahead]:
                if view not in cache and view.image not in self._failed:
                    self._reader.announce(view.image)
            ahead += 1
        return ahead

    def _encode(self, views: Sequence[View]) -> dict[View, RotatedFeatures]:
        images: dict[View, tuple[GreyImage, Mask | None, int]] = {}
        for view in views:
            if view.image in self._failed:
                continue
            try:
                images[view] = (*self._reader.take(view.image), view.rotation)
            except BadImage as error:
                self._failed[view.image] = str(error)
        features = self._by_batches(list(images.values()), self._matcher.encode)
        self.num_encoded += len(features)
        return dict(zip(images, features, strict=True))

    def _match_batch(
        self, cache: FeatureCache[RotatedFeatures], batch: Sequence[PairViews]
    ) -> list[tuple[RotatedPair, Matches]]:
        usable = [pair for pair in batch if self._failed.keys().isdisjoint(view.image for view in pair)]
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
            raise SfMError("out of memory on a single pair of images: lower --resize or --memory, or use --device cpu")
        self._batch_size = num_items // 2
        log.warning("out of memory: from here on %d pair(s) at once", self._batch_size)
