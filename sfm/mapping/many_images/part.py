"""A part of many images: so few that they are mapped in seconds, and well connected with each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from sfm.mapping.inputs import MappingInput, without_pairs
from sfm.options import SMALL_SET

PART = 60  # images; as many as determine a camera well
MATCHES = 300  # of a pair, from which on it is as good as any


def is_large(data: MappingInput) -> bool:
    """Whether so many images are connected by pairs that they are mapped once only."""
    return len({name for own in data.matches for name in (own.pair.name0, own.pair.name1)}) > SMALL_SET


def well_connected(data: MappingInput, num: int = PART) -> MappingInput:
    """The input with the pairs of so many images only, which are well connected with each other.

    All images stay, so that ids and cameras are the same. Begins where the most matches are; then always the image of
    most matches with those that are in it, of a pair MATCHES at most.
    """
    strength: dict[str, dict[str, int]] = defaultdict(dict)
    for own in data.matches:
        count = min(len(own.indices), MATCHES)
        strength[own.pair.name0][own.pair.name1] = strength[own.pair.name1][own.pair.name0] = count
    frames = _frames(data)
    chosen: set[str] = set()
    towards = {name: sum(others.values()) for name, others in strength.items()}
    while towards and len(chosen) < num:
        best = max(towards, key=lambda name: (towards[name], name))
        if not chosen:
            towards = {}
        for name in frames.get(best, (best,)):
            chosen.add(name)
            towards.pop(name, None)
            for other, count in strength[name].items():
                if other not in chosen:
                    towards[other] = towards.get(other, 0) + count
    return within(data, chosen)


def _frames(data: MappingInput) -> dict[str, tuple[str, ...]]:
    """The images of its frame, by image, of those that are mounted together."""
    frames = (tuple(n for n in frame if n is not None) for rig in data.rigs for frame in rig.frames)
    return {name: frame for frame in frames for name in frame}


def within(data: MappingInput, names: Collection[str]) -> MappingInput:
    """The input with the pairs of some images only."""
    return without_pairs(
        data, {g.pair for g in data.geometries if g.pair.name0 not in names or g.pair.name1 not in names}
    )
