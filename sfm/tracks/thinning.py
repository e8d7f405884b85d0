"""Fewer matches and tracks where memory does not suffice for all: the most confident, the longest, evenly spread.

What a model costs grows with its observations, not with the images' size. So a limit here bounds all that follows:
COLMAP's mapping, bundle adjustment, refinement.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sfm.types import Float64, Int64, Matches, TwoViewGeometry

BYTES_PER_MATCH = 320  # that building tracks takes at most, a verified row of matches
BYTES_PER_OBSERVATION = 2500  # that mapping and refinement take at most
BINS = 8  # an image's side; each bin keeps its best


def verified_rows(geometry: TwoViewGeometry, matches: Matches, max_rows: int | None) -> tuple[TwoViewGeometry, Matches]:
    """A pair with its verified rows only, at most the max_rows most confident of them, in the order that they had."""
    rows = geometry.inliers
    if max_rows is not None and len(rows) > max_rows:
        rows = np.sort(rows[np.argsort(-matches.confidence[rows], kind="stable")[:max_rows]])
    return replace(geometry, inliers=np.arange(len(rows), dtype=np.uint32)), Matches(
        matches.points0[rows],
        matches.points1[rows],
        matches.confidence[rows],
        matches.cells0[rows],
        matches.cells1[rows],
    )


def thin(label: Int64, image: Int64, xy: Float64, score: Float64, limit: int) -> NDArray[np.bool_]:
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


def _place_in_bins(length: Int64, image: Int64, xy: Float64, score: Float64) -> Int64:
    """(M,) place of each observation in its bin of its image, from 0: longer tracks first, then higher scores."""
    span = np.zeros((int(image.max(initial=-1)) + 1, 2))
    np.maximum.at(span, image, xy + 1e-6)
    column, row = np.minimum(xy / span[image] * BINS, BINS - 1).astype(np.int64).T
    bins = (image * BINS + row) * BINS + column
    order = np.lexsort((-score, -length, bins))
    first = np.flatnonzero(np.diff(bins[order], prepend=-1))
    place = np.empty(len(bins), np.int64)
    place[order] = np.arange(len(bins)) - np.repeat(first, np.diff(first, append=len(bins)))
    return place
