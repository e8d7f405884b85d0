"""What is looked through in a model: nothing in a right one, much where two places are in one spot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pycolmap
import pytest

from sfm.mapping.alike.sightlines import Blocks, MatchedBlocks, sightlines
from sfm.mapping.stage import reconstruct
from sfm.options import MappingOptions
from sfm.types import Grid, ImagePair
from tests.support.alike_scene import alike_places


@pytest.fixture(scope="module")
def folded(tmp_path_factory):
    """Two places in one model."""
    places = alike_places()
    (model,) = reconstruct(places.data, MappingOptions(), tmp_path_factory.mktemp("folded")).models
    assert model.num_reg_images() == 12
    return places, model


def test_one_looks_through_the_things_of_the_other_place(folded):
    places, model = folded
    matched = MatchedBlocks.of(places.data)
    found = sightlines(model, matched, matched.packed)
    assert set(found) == set(matched.packed)
    assert max(own.through for pair, own in found.items() if pair not in places.across) == 0
    nearest = found[ImagePair("a03.jpg", "b03.jpg")]  # three degrees apart
    assert nearest.through > 0.05 * nearest.compared
    assert min(nearest.shared, nearest.unmatched) > 50
    assert nearest.shared <= nearest.compared <= nearest.matched


def test_in_a_right_model_nothing_is_looked_through_or_unmatched(tmp_path):
    places = alike_places(num_places=1)
    (model,) = reconstruct(places.data, MappingOptions(), tmp_path).models
    matched = MatchedBlocks.of(places.data)
    for own in sightlines(model, matched, matched.packed).values():
        assert own.through == 0
        assert own.unmatched <= 0.02 * own.shared


def test_pairs_of_images_that_are_not_in_the_model_are_left_out(folded):
    places, model = folded
    fewer = pycolmap.Reconstruction(model)
    fewer.deregister_frame(fewer.images[1].frame_id)
    name = fewer.images[1].name
    matched = MatchedBlocks.of(places.data)
    found = sightlines(fewer, matched, matched.packed)
    assert len(found) == len(matched.packed) - 11
    assert not any(name in (pair.name0, pair.name1) for pair in found)


def test_blocks_of_a_grid_and_without_one():
    blocks = Blocks.of(Grid(8.0, 8.0, 80), 640, 480)
    assert (blocks.columns, blocks.rows) == (40, 30)
    assert blocks.numbers(np.array([[0.0, 0.0], [17.0, 0.0], [0.0, 17.0], [640.0, 480.0]])).tolist() == [0, 1, 40, 1199]
    assert Blocks.of(None, 4000, 3000).shape == (30, 40)


def test_blocks_that_a_pair_matches_are_kept_as_they_were():
    data = alike_places(3).data
    matched, own = MatchedBlocks.of(data), data.matches[1]
    for side, blocks in enumerate(matched.of_pair(own.pair)):
        name = (own.pair.name0, own.pair.name1)[side]
        xy = data.keypoints[[r.name for r in data.images].index(name)].xy[own.indices[:, side]]
        expected = np.zeros((30, 40), bool)
        expected[(xy[:, 1] // 16).astype(int), (xy[:, 0] // 16).astype(int)] = True
        assert (blocks == expected).all()


def test_all_matches_count_where_tracks_have_left_some_out():
    data = alike_places(3).data
    fewer = replace(data, matches=tuple(replace(m, indices=m.indices[::20], score=m.score[::20]) for m in data.matches))
    xy = {record.name: own.xy for record, own in zip(data.images, data.keypoints, strict=True)}
    indices = {m.pair: m.indices.astype(np.int64) for m in data.matches}

    def read(pair):
        return xy[pair.name0][indices[pair][:, 0]], xy[pair.name1][indices[pair][:, 1]]

    whole, some = MatchedBlocks.of(data), MatchedBlocks.of(fewer)
    one, other = data.matches[0].pair, data.matches[1].pair
    exact = some.exact(read, [one])
    assert all((a == b).all() for a, b in zip(exact.of_pair(one), whole.of_pair(one), strict=True))
    assert all((a == b).all() for a, b in zip(exact.of_pair(other), some.of_pair(other), strict=True))
    assert some.of_pair(one)[0].sum() < 0.5 * whole.of_pair(one)[0].sum()
