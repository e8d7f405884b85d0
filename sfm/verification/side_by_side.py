"""One geometry of a pair from what each of several matchers' matches gave.

Each matcher's matches are verified by themselves, with the error and the evidence that are its own: thousands of a
network's would outvote a detector's hundred in one estimate, and a detector's error is a fraction of a network's. A
pair is kept if one of them verifies it. The geometry that explains the largest shares of all their inliers is the
pair's, so that the more exact one wins, and where two contradict each other what most speaks for. The others' inliers
are kept as far as they fit it; matches that were too few by themselves join where more of them fit than by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sfm.geometry.epipolar import epipolar_distance
from sfm.geometry.evidence import is_meaningful
from sfm.types import Float64, Int64, Matches, TwoViewGeometry


def agreed(found: Sequence[TwoViewGeometry], matches: Matches, errors: Sequence[float]) -> TwoViewGeometry:
    """The pair's geometry, with the inliers of all matchers: rows of `matches`, ascending.

    found: of each matcher, inliers as rows of `matches`; in doubt as verify_pair has it. errors: that each allows, px.
    Where none verifies the pair, one in doubt stays in doubt, and else the first matcher's reason counts.
    """
    kept = [number for number, own in enumerate(found) if len(own.inliers)]
    sure = [number for number in kept if not found[number].reason] or kept
    if not sure:
        return found[0]
    chosen = max(sure, key=lambda number: _support(found, number, matches, errors))  # of equal ones the first
    geometry = found[chosen]
    parts = [geometry.inliers.astype(np.int64)]
    for number, own in enumerate(found):
        if number != chosen:
            parts.append(_joining(own, number, geometry, matches, (errors[number], errors[chosen])))
    return replace(geometry, inliers=np.sort(np.concatenate(parts)).astype(np.uint32))


def _line_of(geometry: TwoViewGeometry) -> Float64 | None:
    """F, where it tells right matches from wrong ones: a plane's or a pure rotation's does not."""
    return geometry.F if geometry.kind in ("calibrated", "uncalibrated") else None


def _distance(matches: Matches, rows: Int64, F: Float64) -> Float64:
    return epipolar_distance(matches.points0[rows].astype(np.float64), matches.points1[rows].astype(np.float64), F)


def _support(found: Sequence[TwoViewGeometry], number: int, matches: Matches, errors: Sequence[float]) -> float:
    """Shares of the matchers' inliers that one of the geometries explains, summed up: its own, and of each other."""
    F = _line_of(found[number])
    others = [(own.inliers, errors[m]) for m, own in enumerate(found) if m != number and len(own.inliers)]
    if F is None:
        return 1.0
    return 1.0 + sum(float((_distance(matches, rows.astype(np.int64), F) <= error).mean()) for rows, error in others)


def _joining(
    own: TwoViewGeometry, number: int, geometry: TwoViewGeometry, matches: Matches, errors: tuple[float, float]
) -> Int64:
    """Rows of a matcher that join the geometry of another. errors: px that both allow: each has its share in F."""
    F = _line_of(geometry)
    inliers = own.inliers.astype(np.int64)
    if F is None:
        return inliers
    if len(inliers):
        return inliers[_distance(matches, inliers, F) <= sum(errors)]
    rows = np.flatnonzero(matches.finder == number)
    if not len(rows):
        return rows
    near = np.flatnonzero(_distance(matches, rows, F) <= errors[0])
    return rows[near] if is_meaningful(matches.rows(rows), near, F, errors[0]) else rows[:0]
