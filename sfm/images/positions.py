"""The positions of a set of images: which of them can be believed, and how exact they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sfm.geometry.wgs84 import enu_from_wgs84
from sfm.types import Float64, ImageRecord

SIGMA = (5.0, 10.0)  # m, horizontal and vertical, of a receiver that says nothing of its errors
LEAST_SIGMA = 0.02  # m; no receiver on a moving camera is better, whatever it says
VERTICAL = 2.0  # vertical errors are so many times horizontal ones
UNKNOWN_ALTITUDE = 30.0  # m, where an image has none and is taken to be as high as the others


@dataclass(frozen=True, slots=True, eq=False)
class Positions:
    """Positions of images, sorted by name. wgs84: (N, 3) degrees, degrees, m. sigma: (N, 2) m, horizontal and vertical.
    doubted: images whose positions are left out, and why."""

    names: tuple[str, ...]
    wgs84: Float64
    sigma: Float64
    doubted: Mapping[str, str]

    @property
    def origin(self) -> Float64:
        """(3,) a place among them that hardly depends on single images: medians, rounded."""
        latitude, longitude, altitude = np.median(self.wgs84, axis=0)
        return np.array([round(latitude, 6), round(longitude, 6), round(altitude, 1)])

    def enu(self, origin: Float64) -> Float64:
        """(N, 3) m in the local frame of an origin (3,)."""
        return enu_from_wgs84(self.wgs84, origin)

    @property
    def sigmas(self) -> Float64:
        """(N, 3) m, of east, north and up."""
        return self.sigma[:, [0, 0, 1]]


def positions_of(records: Sequence[ImageRecord], *, keep_repeated: bool = False) -> Positions:
    """The positions of those images that have one, without repeated ones.

    A phone that has lost its fix writes its last position into image after image; no two fixes are equal to a
    centimetre otherwise. Of images with exactly the same latitude and longitude the first by time, then by name,
    counts. keep_repeated: all of them count, as where only neighbours are wanted.
    """
    tagged = sorted((r for r in records if r.gps is not None), key=lambda r: (_time(r), r.name))
    first: dict[tuple[float, float], str] = {}
    doubted: dict[str, str] = {}
    for record in tagged:
        assert record.gps is not None
        place = (round(record.gps.latitude, 8), round(record.gps.longitude, 8))
        if place in first and not keep_repeated:
            doubted[record.name] = f"the same position as {first[place]}: no new fix"
        else:
            first.setdefault(place, record.name)
    kept = sorted((r for r in tagged if r.name not in doubted), key=lambda r: r.name)
    rows = [(r.gps.latitude, r.gps.longitude, r.gps.altitude) for r in kept if r.gps is not None]
    wgs84 = np.array(rows, np.float64).reshape(-1, 3)
    known = np.isfinite(wgs84[:, 2])
    wgs84[~known, 2] = np.median(wgs84[known, 2]) if known.any() else 0.0
    sigma = np.array([_sigma(r) for r in kept], np.float64).reshape(-1, 2)
    sigma[~known, 1] = np.maximum(sigma[~known, 1], UNKNOWN_ALTITUDE if known.any() else SIGMA[1])
    return Positions(tuple(r.name for r in kept), wgs84, sigma, doubted)


def _time(record: ImageRecord) -> float:
    return math.inf if record.taken_at is None else record.taken_at


def _sigma(record: ImageRecord) -> tuple[float, float]:
    assert record.gps is not None
    horizontal, vertical = record.gps.horizontal_sigma, record.gps.vertical_sigma
    if not math.isfinite(horizontal):
        horizontal = SIGMA[0]
    if not math.isfinite(vertical):
        vertical = VERTICAL * horizontal
    return max(horizontal, LEAST_SIGMA), max(vertical, LEAST_SIGMA)
