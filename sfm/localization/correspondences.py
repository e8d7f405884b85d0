"""From matches of a new image with images of the model to correspondences of pixels and points. Pixels are COLMAP's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from sfm.types import Float64, Int64

NEIGHBOURS = 12  # matches from which the map between two images is found, about one of them
MAX_STRETCH = 8.0  # of that map, in any direction


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """What an image of the model observes. xy: (K, 2) px. point: (K,) ids of 3D points."""

    xy: Float64
    point: Int64


@dataclass(frozen=True, slots=True, eq=False)
class Correspondences:
    """Pixels of a new image and points of the model. xy: (N, 2) px. point: (N,) ids of 3D points, each at most once.
    confidence: (N,) of the matches."""

    xy: Float64
    point: Int64
    confidence: Float64

    def __len__(self) -> int:
        return len(self.point)

    def take(self, rows: NDArray[np.bool_] | Int64) -> Correspondences:
        """Some of them."""
        return Correspondences(self.xy[rows], self.point[rows], self.confidence[rows])


def lifted(
    observed: Observed, in_model: Float64, in_new: Float64, confidence: Float64, *, reach: float
) -> Correspondences:
    """Each observation of the model's image with the pixel of the new image where the matches about it lead.

    in_model, in_new: (M, 2) px of the matches. reach: px within which a match must lie. An observation lies between
    matches, so it goes where an affine map of the nearest matches takes it, not where the nearest one is.
    """
    none = Correspondences(np.zeros((0, 2)), np.zeros(0, np.int64), np.zeros(0))
    if len(in_model) < NEIGHBOURS or not len(observed.xy):
        return none
    distance, nearest = cKDTree(in_model).query(observed.xy, k=NEIGHBOURS)
    near = np.flatnonzero(distance[:, 0] <= reach)
    if not len(near):
        return none
    rows = nearest[near]
    A = _affine_maps(in_model[rows], in_new[rows])
    ok = np.linalg.norm(A, ord=2, axis=(1, 2)) <= MAX_STRETCH
    first = rows[:, 0]
    moved = in_new[first] + np.einsum("nij,nj->ni", A, observed.xy[near] - in_model[first])
    return Correspondences(moved[ok], observed.point[near][ok], confidence[first][ok])


def _affine_maps(source: Float64, target: Float64) -> Float64:
    """(N, 2, 2) from neighbourhoods (N, k, 2): least squares without the half that fits the median shift worst, and
    drawn towards the identity where the neighbours do not span the plane."""
    shift = target - source
    error = np.linalg.norm(shift - np.median(shift, axis=1, keepdims=True), axis=2)
    weight = (error <= np.median(error, axis=1, keepdims=True)).astype(np.float64)[..., None]
    s, d = (values - _mean(values, weight) for values in (source, shift))
    square = np.einsum("nki,nkj->nij", weight * s, s) + np.eye(2)
    across = np.einsum("nki,nkj->nij", weight * d, s)
    return np.asarray(np.eye(2) + across @ np.linalg.inv(square))


def _mean(values: Float64, weight: Float64) -> Float64:
    return np.asarray((weight * values).sum(1, keepdims=True) / weight.sum(1, keepdims=True))


def merged(parts: Sequence[Correspondences]) -> Correspondences:
    """All of them; of those with one point, the one that most others agree with, weighted by confidence."""
    xy = np.concatenate([np.zeros((0, 2)), *(part.xy for part in parts)])
    point = np.concatenate([np.zeros(0, np.int64), *(part.point for part in parts)])
    confidence = np.concatenate([np.zeros(0), *(part.confidence for part in parts)])
    if not len(point):
        return Correspondences(xy, point, confidence)
    order = np.argsort(point, kind="stable")
    xy, point, confidence = xy[order], point[order], confidence[order]
    starts = np.flatnonzero(np.r_[True, point[1:] != point[:-1]])
    kept = [_agreed(xy[a:b], confidence[a:b]) + a for a, b in zip(starts, [*starts[1:], len(point)], strict=True)]
    rows = np.array(kept, np.int64)
    return Correspondences(xy[rows], point[rows], confidence[rows])


def _agreed(xy: Float64, confidence: Float64) -> int:
    if len(xy) == 1:
        return 0
    distance = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    return int(np.argmax((confidence / (1 + distance)).sum(axis=1)))
