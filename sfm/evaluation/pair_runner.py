"""Many image pairs matched, and each one's matches evaluated: encoded once, in threads, resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sfm.evaluation.aligned_matches import images_to_align
from sfm.evaluation.image_rotation import TURNS, best_rotation, certainty, glancing_matcher, hardly_match
from sfm.evaluation.most_confident import Select
from sfm.evaluation.options import TwoViewOptions
from sfm.evaluation.result_log import Result, ResultLog, result_id
from sfm.images.decoding import read_grey
from sfm.matchers.base import GreyImage, Matcher
from sfm.matching.rotations import RotatedPair
from sfm.matching.session import match_images, parts_of
from sfm.system.parallel import num_cores, workers_of_one_thread
from sfm.system.progress import progress_bar
from sfm.types import Float64, ImagePair, ImageRecord, Matches


@dataclass(frozen=True, slots=True)
class EvaluatedPair:
    """Two images in the order in which they are evaluated. image_rotation: quarter turns counterclockwise that
    bring image 1 into the orientation of image 0. depends_on: what else its evaluation depends on; JSON-able."""

    name0: str
    name1: str
    image_rotation: int = 0
    depends_on: Any = None


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """A folder and what is known of the images in it, by name."""

    folder: Path
    records: Mapping[str, ImageRecord]


KEPT = 500_000_000  # bytes of images to align
AT_ONCE = 128  # pairs; those of them that hardly match wait for a second look, and are lost where a run is killed
EvaluatePair = Callable[[EvaluatedPair, Float64, Float64], Result]  # of a pair's matches, points0 and points1 (M, 2) px


@dataclass(frozen=True, slots=True)
class PairProtocol:
    """How pairs are evaluated. select: which matches count. evaluation_key: what the results depend on besides the pair
    and the matcher, JSON-able."""

    matcher: Matcher
    select: Select
    options: TwoViewOptions
    evaluate: EvaluatePair
    evaluation_key: Any
    log: ResultLog


def run_pairs(images: ImageFolder, pairs: Sequence[EvaluatedPair], how: PairProtocol, *, desc: str) -> list[Result]:
    """The result of every pair, in order; those that the log holds already are taken from there.

    Raises BadImage for an image that cannot be read, and SfMError where memory does not suffice for a pair.
    """
    run_key = [dict(how.matcher.provenance), how.evaluation_key, how.options.no_align, how.options.turns]
    ids = [result_id(run_key, _identity(images, pair)) for pair in pairs]
    found = how.log.read(frozenset(ids))
    todo = {key: pair for key, pair in zip(ids, pairs, strict=True) if key not in found}
    done = len(pairs) - len(todo)
    with progress_bar(len(pairs), desc=desc, unit="pair", initial=done) as bar:
        for results in _evaluated(images, todo, how):
            how.log.append(results)
            found |= results
            bar.update(len(results))
    return [found[key] for key in ids]


def _evaluated(
    images: ImageFolder, todo: Mapping[str, EvaluatedPair], how: PairProtocol
) -> Iterator[dict[str, Result]]:
    """Batch by batch the results by id; a batch is evaluated in threads while the next one is matched."""
    tasks: dict[RotatedPair, list[str]] = {}
    for key, pair in todo.items():
        tasks.setdefault(_task(pair), []).append(key)
    align = _alignment(images, how)

    def evaluate(pair: ImagePair, found: Matches, keys: Sequence[str]) -> dict[str, Result]:
        matches = align(pair, how.select(found))
        points = (matches.points0.astype(np.float64), matches.points1.astype(np.float64))
        in_order = {key: points if todo[key].name0 == pair.name0 else points[::-1] for key in keys}
        return {key: how.evaluate(todo[key], *both) for key, both in in_order.items()}

    with workers_of_one_thread(num_cores()) as pool:
        under_way: list[Future[dict[str, Result]]] = []
        for batch in _matched(images, list(tasks), how):
            last, under_way = under_way, [pool.submit(evaluate, task.pair, found, tasks[task]) for task, found in batch]
            yield _joined(last)
        yield _joined(under_way)


def _matched(
    images: ImageFolder, tasks: Sequence[RotatedPair], how: PairProtocol
) -> Iterator[list[tuple[RotatedPair, Matches]]]:
    """Batch by batch the matches of pairs; those that hardly match are looked at rotated, unless it is known how they
    are (sfm.evaluation.image_rotation)."""
    glance = glancing_matcher(how.matcher, how.options)
    if glance is None:
        yield from match_images(how.matcher, images.folder, images.records, tasks, how.options)
        return
    for part in parts_of(tasks, AT_ONCE):
        weak: dict[RotatedPair, Matches] = {}
        for batch in match_images(how.matcher, images.folder, images.records, part, how.options):
            weak |= {
                task: found
                for task, found in batch
                if task.rotation == 0 and hardly_match(found, how.matcher, _sizes(images, task))
            }
            yield [(task, found) for task, found in batch if task not in weak]
        if weak:
            yield list(_best_rotated(images, weak, glance, how).items())


def _best_rotated(
    images: ImageFolder, weak: Mapping[RotatedPair, Matches], glance: Matcher, how: PairProtocol
) -> dict[RotatedPair, Matches]:
    """The matches of pairs as they are, or with image 1 rotated, which are by the pairs as they are all the same."""
    looks = [RotatedPair(task.pair, rotation) for task in weak for rotation in TURNS]
    seen: dict[ImagePair, dict[int, float]] = {task.pair: {} for task in weak}
    for batch in match_images(glance, images.folder, images.records, looks, how.options):
        for (pair, rotation), found in batch:
            seen[pair][rotation] = certainty(found)
    turned = [RotatedPair(pair, rotation) for pair, each in seen.items() if (rotation := best_rotation(each))]
    best = dict(weak)
    for batch in match_images(how.matcher, images.folder, images.records, turned, how.options):
        for (pair, _), found in batch:
            upright = RotatedPair(pair, 0)
            if certainty(how.select(found)) > certainty(how.select(weak[upright])):
                best[upright] = found
    return best


def _sizes(images: ImageFolder, task: RotatedPair) -> list[tuple[int, int]]:
    records = [images.records[name] for name in (task.pair.name0, task.pair.name1)]
    return [(record.width, record.height) for record in records]


def _joined(under_way: Sequence[Future[dict[str, Result]]]) -> dict[str, Result]:
    return {key: result for future in under_way for key, result in future.result().items()}


def _alignment(images: ImageFolder, how: PairProtocol) -> Callable[[ImagePair, Matches], Matches]:
    """The matches of a pair aligned in its images, where the protocol's matcher and options ask for it."""
    records = list(images.records.values())
    row_of = {record.name: row for row, record in enumerate(records)}

    def read(row: int) -> GreyImage:
        return read_grey(images.folder, records[row])

    sizes = [(record.width, record.height) for record in records]
    found = images_to_align(read, sizes, how.matcher, how.options)
    if found is None:
        return lambda _, matches: matches
    from sfm.alignment.match_alignment import align_matches  # torch is loaded only where something is aligned
    from sfm.alignment.pyramids import PyramidCache

    to_align = replace(found, read=PyramidCache(found.read, KEPT))
    return lambda pair, matches: align_matches(matches, to_align, (row_of[pair.name0], row_of[pair.name1]))[0]


def _task(pair: EvaluatedPair) -> RotatedPair:
    image_rotation = pair.image_rotation if pair.name0 < pair.name1 else -pair.image_rotation
    return RotatedPair(ImagePair.of(pair.name0, pair.name1), image_rotation % 4)


def _identity(images: ImageFolder, pair: EvaluatedPair) -> list[Any]:
    digests = [images.records[name].digest for name in (pair.name0, pair.name1)]
    return [pair.name0, pair.name1, pair.image_rotation, *digests, pair.depends_on]
