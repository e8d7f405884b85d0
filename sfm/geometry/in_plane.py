"""How far the content of an image is turned in its plane against that of another, by their matches."""

from __future__ import annotations

import numpy as np

from sfm.types import Matches

SAMPLES = 1000  # pairs of matches
APART = 0.05  # of the extent of the points: nearer ones say little of a direction
BINS = 36  # of ten degrees
AROUND_DEG, PASSES = 20.0, 4  # of the mean, that count


def in_plane_rotation(matches: Matches) -> float | None:
    """Degrees by which directions turn from image 0 to image 1, from x to y (clockwise, as y points down), -180 to 180.

    Of directions between random pairs of matches: the mean around the most frequent turn, so that less than half of the
    matches may be wrong. None where fewer than eight directions say something.
    """
    if len(matches) < 2:
        return None
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, len(matches), (2, SAMPLES))
    p0, p1 = matches.points0.astype(np.float64), matches.points1.astype(np.float64)
    d0, d1 = p0[second] - p0[first], p1[second] - p1[first]
    far0, far1 = np.linalg.norm(d0, axis=1), np.linalg.norm(d1, axis=1)
    says = (far0 > APART * np.ptp(p0, axis=0).max()) & (far1 > APART * np.ptp(p1, axis=0).max())
    if np.count_nonzero(says) < 8:
        return None
    z0, z1 = (d[says, 0] + 1j * d[says, 1] for d in (d0, d1))
    turns = np.angle(z1 / z0, deg=True)
    counts, edges = np.histogram(turns, BINS, (-180, 180))
    smooth = counts + np.roll(counts, 1) + np.roll(counts, -1)
    mean = edges[int(smooth.argmax())] + 180 / BINS
    for _ in range(PASSES):
        off = (turns - mean + 180) % 360 - 180
        mean += off[np.abs(off) <= AROUND_DEG].mean()
    return float((mean + 180) % 360 - 180)
