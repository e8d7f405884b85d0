"""Images near each other: each with its nearest ones by GPS, or with all within a distance."""

from __future__ import annotations

import re

import numpy as np

from sfm.errors import BadOption
from sfm.images.positions import Positions, positions_of
from sfm.pairs.base import ChosenPairs, ImageSet
from sfm.types import Float64, ImagePair

NEIGHBOURS = 20  # of an image, by default
FEW = 0.5  # of the images; with fewer positions pairs by GPS leave most of the images alone


def select(images: ImageSet, argument: str | None = None) -> ChosenPairs:
    """Each image with its N nearest ones ("N"), or with all within METRES ("50m", horizontally).

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
    points = _points(positions)
    pairs = _near(positions.names, points, number) if metres is None else _within(positions.names, points, metres)
    lost = sorted(set(images.names) - set(positions.names))
    pairs |= _beside(images, lost, number or NEIGHBOURS)
    if not pairs:
        raise BadOption(f"--pairs gps:{argument}: no two images are that near to each other; give more metres")
    note = ""
    if lost:
        note = f"--pairs gps: {len(lost)} images without a position ({lost[0]}, ...) are matched by time or name"
    return ChosenPairs(tuple(sorted(pairs)), note=note)


def _argument(text: str | None) -> tuple[int, float | None]:
    """Neighbours of an image, and metres or None."""
    if text is None:
        return NEIGHBOURS, None
    found = re.fullmatch(r"([0-9]{1,7})|([0-9]{1,6}(?:\.[0-9]{1,3})?) ?m", text)
    if found is None or float(found[1] or found[2]) <= 0:
        raise BadOption(f"--pairs gps:{text}: give a number of neighbours, as in gps:20, or metres, as in gps:50m")
    return (int(found[1]), None) if found[1] else (0, float(found[2]))


def _points(positions: Positions) -> Float64:
    points = positions.enu(positions.origin)
    points[:, 2] = 0.5 * (points[:, 2] - np.median(points[:, 2]))
    return points


def _near(names: tuple[str, ...], points: Float64, number: int) -> set[ImagePair]:
    from scipy.spatial import KDTree

    _, rows = KDTree(points).query(points, k=min(number + 1, len(names)))
    return {ImagePair.of(names[i], names[j]) for i, own in enumerate(rows.tolist()) for j in own if i != j}


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
