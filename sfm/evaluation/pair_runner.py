"""Many photo pairs matched, and each one's matches judged: encoded once, in threads, resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sfm.evaluation.result_log import Result, ResultLog, result_id
from sfm.matchers.base import Matcher
from sfm.matching.rotations import RotatedPair
from sfm.matching.session import match_images
from sfm.options import MatchingOptions
from sfm.system.parallel import num_cores
from sfm.system.progress import progress_bar
from sfm.types import Float64, ImagePair, ImageRecord


@dataclass(frozen=True, slots=True)
class PhotoPair:
    """Two photos in the order in which they are judged. turn: quarter turns counterclockwise that make photo 1 stand
    as photo 0 does. depends_on: what the judgement depends on besides the photos; JSON-able."""

    name0: str
    name1: str
    turn: int = 0
    depends_on: Any = None


@dataclass(frozen=True, slots=True)
class Photos:
    """A folder and what is known of the photos in it, by name."""

    folder: Path
    records: Mapping[str, ImageRecord]


Judge = Callable[[PhotoPair, Float64, Float64], Result]  # of a pair's matches, points0 and points1 (M, 2) px


@dataclass(frozen=True, slots=True)
class Judging:
    """How pairs are judged. judge_key: what the judge's answers depend on besides the pair, JSON-able."""

    matcher: Matcher
    options: MatchingOptions
    judge: Judge
    judge_key: Any
    log: ResultLog


def judge_pairs(photos: Photos, pairs: Sequence[PhotoPair], how: Judging, *, desc: str) -> list[Result]:
    """The judge's result of every pair, in order; those that the log holds already are taken from there.

    Raises BadImage for a photo that cannot be read, and SfMError where memory does not suffice for a pair.
    """
    run_key = [dict(how.matcher.provenance), how.judge_key]
    ids = [result_id(run_key, _identity(photos, pair)) for pair in pairs]
    found = how.log.read(frozenset(ids))
    todo = {key: pair for key, pair in zip(ids, pairs, strict=True) if key not in found}
    done = len(pairs) - len(todo)
    with progress_bar(len(pairs), desc=desc, unit="pair", initial=done) as bar:
        for results in _judged(photos, todo, how):
            how.log.append(results)
            found |= results
            bar.update(len(results))
    return [found[key] for key in ids]


def _judged(photos: Photos, todo: Mapping[str, PhotoPair], how: Judging) -> Iterator[dict[str, Result]]:
    """Batch by batch the results by id; a batch is judged in threads while the next one is matched."""
    tasks: dict[RotatedPair, list[str]] = {}
    for key, pair in todo.items():
        tasks.setdefault(_task(pair), []).append(key)
    with ThreadPoolExecutor(num_cores()) as pool:
        under_way: dict[str, Future[Result]] = {}
        for batch in match_images(how.matcher, photos.folder, photos.records, list(tasks), how.options):
            last, under_way = under_way, {}
            for task, matches in batch:
                points = (matches.points0.astype(np.float64), matches.points1.astype(np.float64))
                for key in tasks[task]:
                    in_order = points if todo[key].name0 == task.pair.name0 else points[::-1]
                    under_way[key] = pool.submit(how.judge, todo[key], *in_order)
            yield {key: future.result() for key, future in last.items()}
        yield {key: future.result() for key, future in under_way.items()}


def _task(pair: PhotoPair) -> RotatedPair:
    turn = pair.turn if pair.name0 < pair.name1 else -pair.turn
    return RotatedPair(ImagePair.of(pair.name0, pair.name1), turn % 4)


def _identity(photos: Photos, pair: PhotoPair) -> list[Any]:
    digests = [photos.records[name].digest for name in (pair.name0, pair.name1)]
    return [pair.name0, pair.name1, pair.turn, *digests, pair.depends_on]
