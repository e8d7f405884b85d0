"""Fewer matches and tracks where memory does not suffice for all: the most confident, the longest, evenly spread.

What a model costs grows with its observations, not with the images' size. So a limit here bounds all that follows:
COLMAP's mapping, bundle adjustment, refinement.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sfm.options import SMALL_SET
from sfm.types import Float64, Int64, Matches, TwoViewGeometry

BYTES_PER_MATCH = 12  # a verified row of matches, while all are read
BYTES_PER_EDGE = 80  # that building tracks takes at most, a match of two keypoints
BYTES_PER_OBSERVATION = 2500  # that mapping and refinement take at most
BINS = 8  # an image's side; each bin keeps its best
# Of many images it takes fewer observations each to find where they are, and not all that a matcher gives could be
# held: all of a small set are kept, and of more images a number that grows with them, more slowly than they do.
BASE, PER_IMAGE = 500_000, 700
LARGE_SET_BYTES = 900_000_000  # for matches of a large set


@dataclass(frozen=True, slots=True)
class Room:
    """What there is room for; None: no limit. rows: verified matches. edges: between keypoints. observations: in
    tracks. by_memory: whether memory limits observations."""

    rows: int | None = None
    edges: int | None = None
    observations: int | None = None
    by_memory: bool = False

    @property
    def links(self) -> int | None:
        """Edges within tracks, of which there are several rows each."""
        return None if self.edges is None else self.edges // 4


def room_for(num_images: int, memory: int | None, per_image: int | None) -> Room:
    """What is kept of a set of images. memory: bytes, None for no limit. per_image: observations, on average, as the
    user gave them; 0 for all, None for the default."""
    large = num_images > SMALL_SET
    possible = sys.maxsize if memory is None else memory // BYTES_PER_OBSERVATION
    default = BASE + PER_IMAGE * num_images if large else 0
    wanted = default if per_image is None else per_image * num_images
    num = min(wanted or sys.maxsize, possible)
    for_matches = min(LARGE_SET_BYTES if large else sys.maxsize, sys.maxsize if memory is None else memory)
    if for_matches == sys.maxsize:
        return Room(observations=None if num == sys.maxsize else num)
    by_memory = num == possible
    return Room(for_matches // BYTES_PER_MATCH, for_matches // BYTES_PER_EDGE, num, by_memory)


def verified_rows(geometry: TwoViewGeometry, matches: Matches, max_rows: int | None) -> tuple[TwoViewGeometry, Matches]:
    """A pair with its verified rows only, at most the max_rows most confident of them, in the order that they had."""
    rows = geometry.inliers
    if max_rows is not None and len(rows) > max_rows:
        rows = np.sort(rows[np.argsort(-matches.confidence[rows], kind="stable")[:max_rows]])
    return replace(geometry, inliers=np.arange(len(rows), dtype=np.uint32)), matches.rows(rows)


def thin(label: Int64, image: NDArray[np.integer], xy: Float64, score: Float64, limit: int) -> NDArray[np.bool_]:
    """(M,) which observations are kept: of whole tracks, and at most `limit`.

    label: (M,) their tracks. image: (M,). xy: (M, 2) px. score: (M,). First come tracks that are the best of a bin of
    some image, then the second best, and so on; of equal places the longer tracks.
    """
    _, track, length = np.unique(label, return_inverse=True, return_counts=True)
    place = np.full(len(length), len(label))
    np.minimum.at(place, track, _place_in_bins(length[track], image, xy, score))
    order = np.lexsort((-length, place))
    kept = np.zeros(len(length), bool)
    kept[order] = np.cumsum(length[order]) <= limit
    return kept[track]


def _place_in_bins(length: Int64, image: NDArray[np.integer], xy: Float64, score: Float64) -> Int64:
    """(M,) place of each observation in its bin of its image, from 0: longer tracks first, then higher scores."""
    span = np.zeros((int(image.max(initial=-1)) + 1, 2))
    np.maximum.at(span, image, xy + 1e-6)
    column, row = np.minimum(xy / span[image] * BINS, BINS - 1).astype(np.int64).T
    bins = (image.astype(np.int64) * BINS + row) * BINS + column
    order = np.lexsort((-score, -length, bins))
    first = np.flatnonzero(np.diff(bins[order], prepend=-1))
    place = np.empty(len(bins), np.int64)
    place[order] = np.arange(len(bins)) - np.repeat(first, np.diff(first, append=len(bins)))
    return place


def best_in_bins(
    degree: Int64, image: NDArray[np.integer], xy: NDArray[np.floating], score: Float64, limit: int
) -> NDArray[np.bool_]:
    """(N,) which keypoints are kept: of degree `limit` at most, all together.

    degree, score: (N,) number and summed confidence of their matches. image: (N,). xy: (N, 2) px. First the best of
    each bin of each image, then the second best, and so on.
    """
    place = _place_in_bins(degree, image, xy.astype(np.float64), score)
    order = np.lexsort((-degree, place))
    kept = np.zeros(len(degree), bool)
    kept[order] = np.cumsum(degree[order]) <= limit
    return kept
