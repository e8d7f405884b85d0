"""What names, times, positions and likeness say of a set of images together: is it a row, can its positions be used?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sfm.images.positions import positions_of
from sfm.pairs.base import ImageSet
from sfm.pairs.candidates import Similarity
from sfm.pairs.gps import Located, points_of
from sfm.pairs.sequential import rows_of
from sfm.types import Float64, Int64

LEAST_IN_A_ROW = 10  # images of a folder; fewer say nothing
NEAREST = 5  # the next image of a row is among so many most alike ones of an image,
IN_A_ROW = 0.6  # for so many of its images; of a random order for NEAREST of all others
BEYOND_CHANCE = 4.0  # and for so many times as many as by chance
LOCATED = 0.5  # of the images; with fewer positions GPS leaves most of the images alone
ALIKE = 3  # most alike images of an image, that should be near it
NEARER = 0.5  # their distance from it, of that of any other
BELIEVED = 0.8  # of the images have positions of their own, not repeated ones


@dataclass(frozen=True, slots=True)
class Row:
    """Images in the order in which they were taken. places: rows of the set. by: "name", "time" or "video". share: of
    the images, those whose next one is among their most alike."""

    places: tuple[int, ...]
    by: str
    share: float


def rows_in(images: ImageSet, similarity: Similarity) -> list[Row]:
    """The folders whose images, by name or by time, are each among the most alike of the one before; and all videos."""
    place = {name: i for i, name in enumerate(images.names)}
    times = {record.name: record.taken_at for record in images.records}
    found = []
    for names in rows_of(images.names):
        by_name = [place[name] for name in names]
        if names[0].rpartition("/")[0] in images.clips:
            found.append(Row(tuple(by_name), "video", next_share(by_name, similarity)))
            continue
        if len(names) < LEAST_IN_A_ROW:
            continue
        orders = [Row(tuple(by_name), "name", next_share(by_name, similarity))]
        taken = [times[name] for name in names]
        if len(set(taken)) > BELIEVED * len(taken) and None not in taken:
            by_time = sorted(by_name, key=lambda i: (images.records[i].taken_at or 0.0, i))
            orders.append(Row(tuple(by_time), "time", next_share(by_time, similarity)))
        best = max(orders, key=lambda row: row.share)  # the first of equal ones
        if best.share >= max(IN_A_ROW, min(BEYOND_CHANCE * NEAREST / len(names), 1.0)):
            found.append(best)
    return found


def next_share(places: list[int], similarity: Similarity) -> float:
    """Share of the images of a row whose next one is among the NEAREST most alike of them in this row."""
    if len(places) < 2:
        return 0.0
    row = np.array(places, np.int64)
    hits = 0
    for own, following in pairwise(places):
        others = similarity[own, row]
        more = int(np.count_nonzero(others > similarity[own, following])) - int(
            similarity[own, own] > similarity[own, following]
        )
        hits += more < NEAREST
    return hits / (len(places) - 1)


def located(images: ImageSet, similarity: Similarity) -> Located | None:
    """The positions of the images, where most have one of their own and images that are alike are near each other.

    Single wrong ones do no harm: medians are compared.
    """
    positions = positions_of(images.records, keep_repeated=True)
    num = len(positions.names)
    if num < max(LEAST_IN_A_ROW, LOCATED * len(images.records)):
        return None
    own = len({tuple(row) for row in np.round(positions.wgs84[:, :2], 8).tolist()})
    if own < BELIEVED * num:
        return None
    place = {name: i for i, name in enumerate(images.names)}
    places = np.array([place[name] for name in positions.names], np.int64)
    points = points_of(positions.enu(positions.origin))
    is_consistent = _ratio(points, places, similarity) <= NEARER
    return Located(places, points) if is_consistent else None


def _ratio(points: Float64, places: Int64, similarity: Similarity) -> float:
    """Median distance of most alike images, of that of any two."""
    alike, any_two = [], []
    for i, place in enumerate(places.tolist()):
        distance = np.linalg.norm(points - points[i], axis=1)
        order = np.argsort(-similarity[place, places], kind="stable")
        alike.append(np.median(distance[order[order != i][:ALIKE]]))
        any_two.append(np.median(np.delete(distance, i)))
    usual = float(np.median(any_two))
    return float(np.median(alike)) / usual if usual > 0 else float("inf")
