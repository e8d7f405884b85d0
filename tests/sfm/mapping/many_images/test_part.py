"""part: of many images those that are well connected, by ids and cameras of the whole set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sfm.mapping.many_images.part import geometries_of_motion, is_large, well_connected, within
from sfm.options import SMALL_SET
from sfm.types import ImagePair, KeypointMatches, TwoViewGeometry
from tests.support.corridor import walk


def images_of(data):
    return {name for own in data.matches for name in (own.pair.name0, own.pair.name1)}


def test_a_part_is_connected_and_keeps_the_ids_of_all():
    data = walk(120, per_image=400).data
    part = well_connected(data, 30)
    names = images_of(part)
    assert len(names) == 30
    assert part.images == data.images
    assert part.keypoints == data.keypoints
    rows = sorted(int(name[:5]) for name in names)
    steps = sorted((b - a) % 120 for a, b in zip(rows, [*rows[1:], rows[0]], strict=True))
    assert steps[-2] <= 11  # neighbours in the walk, around its end as well: but for one gap none is wide
    assert all(own.pair.name0 in names and own.pair.name1 in names for own in part.matches)
    assert {own.pair for own in part.matches} == {own.pair for own in part.geometries}


def test_only_images_with_pairs_make_a_set_large():
    data = walk(SMALL_SET + 1, per_image=400, false_pairs=0).data
    assert is_large(data)
    assert not is_large(within(data, [record.name for record in data.images[1:]]))


def still(data, name, times):
    """The input with an image taken several times more from the same place, each matched with all that it is."""
    row = [record.name for record in data.images].index(name)
    names = [f"{name}.{i:02d}" for i in range(times)]
    images = (*data.images, *(replace(data.images[row], name=again) for again in names))
    keypoints = (*data.keypoints, *[data.keypoints[row]] * times)
    matches = list(data.matches)
    same = np.stack([np.arange(len(data.keypoints[row]))] * 2, axis=1)
    for i, again in enumerate(names):
        matches += [KeypointMatches(ImagePair(other, again), same, np.ones(len(same))) for other in (name, *names[:i])]
        for own in data.matches:
            if name in (own.pair.name0, own.pair.name1):
                other = own.pair.name1 if own.pair.name0 == name else own.pair.name0
                turn = 1 if (own.pair.name0 == name) == (again < other) else -1
                matches.append(KeypointMatches(ImagePair.of(again, other), own.indices[:, ::turn], own.score))
    geometries = [TwoViewGeometry(m.pair, np.arange(len(m.indices)), "uncalibrated", None, np.eye(3)) for m in matches]
    return replace(data, images=images, keypoints=keypoints, geometries=tuple(geometries), matches=tuple(matches))


def test_images_from_where_a_camera_stood_still_are_no_part_but_for_one():
    data = still(walk(120, per_image=400, false_pairs=0).data, "00060.jpg", 40)
    names = images_of(well_connected(data, 30))
    assert len(names) == 30
    assert sum(name.startswith("00060.jpg") for name in names) <= 1


def test_focal_lengths_come_from_pairs_of_images_that_differ():
    data = still(walk(120, per_image=400, false_pairs=0, has_focal_prior=False).data, "00060.jpg", 40)
    pairs = [own.pair for own in geometries_of_motion(data)]
    assert 400 < len(pairs) < len(data.geometries)
    assert not any(pair.name0.startswith("00060.jpg") and pair.name1.startswith("00060.jpg") for pair in pairs)
