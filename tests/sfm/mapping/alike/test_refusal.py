"""Pairs of places that look alike are refused, and no others."""

from __future__ import annotations

import pytest

from sfm.mapping.alike.refusal import Refusals, Together, contradicted, least_share, refused_note
from sfm.mapping.alike.sightlines import Sightlines
from sfm.mapping.inputs import without_pairs
from sfm.mapping.stage import reconstruct
from sfm.match_graph import RefusedPair
from sfm.options import MappingOptions
from sfm.types import ImagePair
from tests.support.alike_scene import alike_places


def _names(model):
    return sorted(model.image(i).name for i in model.reg_image_ids())


def _until_settled(data, refusals, folder):
    for _ in range(6):
        models = reconstruct(without_pairs(data, set(refusals.refused)), MappingOptions(), folder).models
        if not refusals.add(models):
            return models
    raise AssertionError("never settled")


def test_two_places_become_two_models(tmp_path):
    places = alike_places()
    refusals = Refusals.of(places.data)
    models = _until_settled(places.data, refusals, tmp_path)
    assert sorted(map(_names, models)) == [[f"{place}{k:02d}.jpg" for k in range(6)] for place in "ab"]
    assert set(refusals.refused) == places.across


def test_of_one_place_no_pair_is_refused(tmp_path):
    places = alike_places(8, num_places=1)
    refusals = Refusals.of(places.data)
    assert refusals.add(reconstruct(places.data, MappingOptions(), tmp_path).models) == 0


def test_trusted_pairs_are_not_refused(tmp_path):
    places = alike_places()
    models = reconstruct(places.data, MappingOptions(), tmp_path).models
    assert Refusals.of(places.data, places.across).add(models) == 0
    one = min(_refused(places.data, models))
    assert one not in _refused(places.data, models, {one})


def _refused(data, models, trusted=()):
    refusals = Refusals.of(data, trusted)
    refusals.add(models)
    return set(refusals.refused)


@pytest.mark.parametrize("shared", [20, 200, 2000])
def test_few_blocks_need_a_larger_share(shared):
    """What is a clear sign among many blocks is chance among few."""
    assert not contradicted(Sightlines(shared, shared, 0, shared, shared))
    assert not contradicted(Sightlines(shared, shared, shared // 20, shared, 0))
    assert contradicted(Sightlines(shared, shared, shared // 2, shared, 0))
    assert contradicted(Sightlines(shared, shared, shared // 7, shared, 0)) == (shared > 20)


def test_places_need_several_pairs_and_single_signs_more_than_two_together():
    """Blocks as of nine pairs, of which one alone would not be contradicted."""
    none, few = Together(9, 900, 4, 900, 900), Together(3, 900, 90, 900, 0)
    assert not none.are_apart
    assert not few.are_apart
    assert few.may_be_apart
    assert few._replace(pairs=4).are_apart
    assert not Together(9, 900, 32, 900, 10).are_apart
    assert Together(9, 900, 32, 900, 300).are_apart


def test_least_share_is_wilsons():
    assert least_share(0, 0) == 0
    assert least_share(5, 5) == pytest.approx(0.2327, abs=1e-3)
    assert least_share(500, 500) == pytest.approx(0.4684, abs=1e-3)


def test_note_counts_pairs_and_images():
    refused = [RefusedPair(ImagePair("a", "b"), 9, 3), RefusedPair(ImagePair("a", "c"), 9, 0)]
    assert refused_note(()) == ()
    assert refused_note(refused)[0].startswith("2 pairs of 3 images were refused, because they show places")
    assert refused_note(refused[:1])[0].startswith("1 pair of 2 images was refused")
    assert "--trust-pairs" in refused_note(refused)[0]
