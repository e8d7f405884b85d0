"""part: of many images those that are well connected, by ids and cameras of the whole set."""

from __future__ import annotations

from sfm.mapping.many_images.part import is_large, well_connected, within
from sfm.options import SMALL_SET
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
