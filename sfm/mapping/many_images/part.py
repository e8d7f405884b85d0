"""A part of many images: so few that they are mapped in seconds, and well connected with each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

import numpy as np

from sfm.mapping.inputs import MappingInput, without_pairs
from sfm.options import SMALL_SET
from sfm.types import TwoViewGeometry

PART = 60  # images; as many as determine a camera well
MATCHES = 300  # of a pair, from which on it is as good as any
MOVED = 0.03  # of the image's diagonal, by half of the matches of images that differ


def is_large(data: MappingInput) -> bool:
    """Whether so many images are connected by pairs that they are mapped once only."""
    return len({name for own in data.matches for name in (own.pair.name0, own.pair.name1)}) > SMALL_SET


def well_connected(data: MappingInput, num: int = PART) -> MappingInput:
    """The input with the pairs of so many images only, which are well connected with each other.

    All images stay, so that ids and cameras are the same. Begins where the most matches are; then always the image of
    most matches with those that are in it, of a pair MATCHES at most. Images that hardly differ from one that is in it
    come last: from where a camera has stood still no depth is seen.
    """
    strength: dict[str, dict[str, int]] = defaultdict(dict)
    for own in data.matches:
        count = min(len(own.indices), MATCHES)
        strength[own.pair.name0][own.pair.name1] = strength[own.pair.name1][own.pair.name0] = count
    frames, near = _frames(data), nearly_equal(data)
    chosen: set[str] = set()
    put_off: set[str] = set()
    towards = {name: sum(others.values()) for name, others in strength.items()}
    while towards and len(chosen) < num:
        best = max(towards, key=lambda name: (name not in put_off, towards[name], name))
        if not chosen:
            towards = {}
        for name in frames.get(best, (best,)):
            chosen.add(name)
            put_off |= near[name]
            towards.pop(name, None)
            for other, count in strength[name].items():
                if other not in chosen:
                    towards[other] = towards.get(other, 0) + count
    return within(data, chosen)


def nearly_equal(data: MappingInput) -> dict[str, set[str]]:
    """Of each image those whose matches with it are where they are in it, but for MOVED."""
    rows = {record.name: i for i, record in enumerate(data.images)}
    result: dict[str, set[str]] = defaultdict(set)
    for own in data.matches:
        image0, image1 = rows[own.pair.name0], rows[own.pair.name1]
        xy0, xy1 = data.keypoints[image0].xy[own.indices[:, 0]], data.keypoints[image1].xy[own.indices[:, 1]]
        size = np.hypot(data.images[image0].width, data.images[image0].height)
        if len(xy0) and np.median(np.linalg.norm(xy1 - xy0, axis=1)) < MOVED * size:
            result[own.pair.name0].add(own.pair.name1)
            result[own.pair.name1].add(own.pair.name0)
    return result


def geometries_of_motion(data: MappingInput) -> tuple[TwoViewGeometry, ...]:
    """Of pairs of images that differ. Those of neighbours in a video are the strongest, but tell of no focal length."""
    near = nearly_equal(data)
    return tuple(g for g in data.geometries if g.pair.name1 not in near[g.pair.name0])


def _frames(data: MappingInput) -> dict[str, tuple[str, ...]]:
    """The images of its frame, by image, of those that are mounted together."""
    frames = (tuple(n for n in frame if n is not None) for rig in data.rigs for frame in rig.frames)
    return {name: frame for frame in frames for name in frame}


def within(data: MappingInput, names: Collection[str]) -> MappingInput:
    """The input with the pairs of some images only."""
    return without_pairs(
        data, {g.pair for g in data.geometries if g.pair.name0 not in names or g.pair.name1 not in names}
    )
