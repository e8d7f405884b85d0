"""several_models: which of several models are kept, and where each image is."""

from __future__ import annotations

import pycolmap
import pytest

from sfm.colmap.several_models import in_other_models, names_of, needed
from sfm.mapping.retry_strategy import drop_images
from tests.support.mapping_scene import NAMES


@pytest.fixture(scope="module")
def whole(mapped):
    return mapped[1].models[0]


def without(model, names):
    found = pycolmap.Reconstruction(model)
    drop_images(found, frozenset(names))
    return found


def test_models_whose_images_are_all_in_larger_ones_are_left_out(whole):
    part = without(whole, NAMES[2:])
    assert names_of(part) == set(NAMES[:2])
    assert needed([whole, part]) == (whole,)
    assert needed([part, whole]) == (part, whole)
    most = without(whole, NAMES[:1])
    assert needed([most, whole], 1) == (most, whole)
    assert needed([most, whole], 2) == (most,)  # one image that the first does not have


def test_each_image_that_is_not_in_the_first_model_is_in_the_largest_of_the_others(whole):
    first, second, third = without(whole, NAMES[2:]), without(whole, NAMES[3:]), whole
    assert in_other_models([first]) == {}
    assert in_other_models([first, second, third]) == {
        NAMES[2]: "in another model (sparse/1)",
        **dict.fromkeys(NAMES[3:], "in another model (sparse/2)"),
    }
