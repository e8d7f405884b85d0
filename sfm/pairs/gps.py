"""Images near each other: each with some of its nearest ones by GPS, or with all within a distance."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from sfm.errors import BadOption
from sfm.images.positions import positions_of
from sfm.match_graph import Candidates, reason_number
from sfm.pairs.base import ChosenPairs, ImageSet
from sfm.pairs.candidates import DEPTH
from sfm.types import Float64, ImagePair, Int64

NEIGHBOURS = 20  # of an image, by default
FIRST = 0.3  # of them, the nearest, in the first round
FEW = 0.5  # of the images; with fewer positions pairs by GPS leave most of the images alone


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """Images with positions. places: (L,) rows of the set. points: (L, 3) m, in which distances are taken."""

    places: Int64
    points: Float64


def points_of(enu: Float64) -> Float64:
    """(L, 3) m in which distances are taken, of east, north and up: altitudes, which are less exact, count half."""
    points = enu.copy()
    points[:, 2] = 0.5 * (points[:, 2] - np.median(points[:, 2]))
    return points


def select(images: ImageSet, argument: str | None = None) -> ChosenPairs:
    """Each image with about N near it ("N"), or with all within METRES ("50m", horizontally).

    Altitudes count for the nearest, with half their weight, where all have one: they are less exact. An image without a
    position is matched with those before and after it in time, or by name. BadOption for a bad argument, and
    where too few images have a position.
    """
    number, metres = _argument(argument)
    positions = positions_of(images.records, keep_repeated=True)
    num, located = len(images.records), len(positions.names)
    if located < 2 or located < FEW * num:
        raise BadOption(
            f"--pairs gps: {located} of {num} images have a GPS position; use --pairs sequential or exhaustive"
        )
    place = {name: row for row, name in enumerate(images.names)}
    points = points_of(positions.enu(positions.origin))
    lost = sorted(set(images.names) - set(positions.names))
    beside = _beside(images, lost, number or NEIGHBOURS)
    candidates = None
    if metres is None:
        where = Located(np.array([place[name] for name in positions.names]), points)
        first = near(where, max(1, round(FIRST * number))) | {(place[p.name0], place[p.name1]) for p in beside}
        candidates = _candidates(where, first, number, num)
        pairs = {ImagePair.of(images.names[i], images.names[j]) for i, j in first}
    else:
        pairs = _within(positions.names, points, metres) | beside
    if not pairs:
        raise BadOption(f"--pairs gps:{argument}: no two images are that near to each other; give more metres")
    note = ""
    if lost:
        note = f"--pairs gps: {len(lost)} images without a position ({lost[0]}, ...) are matched by time or name"
    return ChosenPairs(tuple(sorted(pairs)), note=note, reason="near", candidates=candidates)


def near(where: Located, number: int) -> set[tuple[int, int]]:
    """Row pairs of images with their `number` nearest ones."""
    from scipy.spatial import KDTree

    _, found = KDTree(where.points).query(where.points, k=min(number + 1, len(where.points)))
    rows = where.places.tolist()
    return {
        (min(rows[i], rows[j]), max(rows[i], rows[j])) for i, own in enumerate(found.tolist()) for j in own if i != j
    }


def _candidates(where: Located, first: set[tuple[int, int]], number: int, num_images: int) -> Candidates:
    """The nearest of each image, the more alike the nearer they are, of the usual distance of neighbours."""
    pairs = sorted(first | near(where, DEPTH * number))
    point = np.full((num_images, 3), np.nan)
    point[where.places] = where.points
    rows = np.array(pairs, np.int64).reshape(-1, 2)
    distance = np.linalg.norm(point[rows[:, 0]] - point[rows[:, 1]], axis=1)
    known = np.isfinite(distance)
    usual = max(float(np.median(distance[known])) if known.any() else 0.0, 1e-3)
    likeness = np.where(known, usual / (usual + distance), 0.5).astype(np.float32)
    reason = np.full(len(rows), reason_number("near"))
    return Candidates(rows, likeness, reason, num_images * number // 2)


def _argument(text: str | None) -> tuple[int, float | None]:
    """Neighbours of an image, and metres or None."""
    if text is None:
        return NEIGHBOURS, None
    found = re.fullmatch(r"([0-9]{1,7})|([0-9]{1,6}(?:\.[0-9]{1,3})?) ?m", text)
    if found is None or float(found[1] or found[2]) <= 0:
        raise BadOption(f"--pairs gps:{text}: give a number of neighbours, as in gps:20, or metres, as in gps:50m")
    return (int(found[1]), None) if found[1] else (0, float(found[2]))


def _within(names: tuple[str, ...], points: Float64, metres: float) -> set[ImagePair]:
    from scipy.spatial import KDTree

    found = KDTree(points[:, :2]).query_pairs(metres, output_type="ndarray")
    return {ImagePair.of(names[i], names[j]) for i, j in found.tolist()}


def _beside(images: ImageSet, lost: list[str], number: int) -> set[ImagePair]:
    """Pairs of images without a position, with as many before and after as make `number`."""
    timed = all(record.taken_at is not None for record in images.records)
    order = sorted(images.records, key=lambda r: ((r.taken_at or 0.0) if timed else 0.0, r.name))
    names, half = [record.name for record in order], max(number // 2, 1)
    places = {name: i for i, name in enumerate(names)}
    return {
        ImagePair.of(name, other)
        for name in lost
        for other in names[max(places[name] - half, 0) : places[name] + half + 1]
        if other != name
    }
