"""The roof's model before and after two rounds of refinement."""

import pytest

from tests.support.plane_scene import make_input, perturbed, surface_points
from tests.support.refinement_scene import WRONG, mapped, refiner_of


@pytest.fixture(scope="module")
def observations():
    """Of each image (N, 2), 1 px off; a few are of another place altogether."""
    found = perturbed(surface_points(), 1.0)
    found[1][:WRONG] += [9.0, 7.0]
    return found


@pytest.fixture(scope="module")
def data(observations):
    return make_input(observations, known_intrinsics=True)


@pytest.fixture(scope="module")
def model(observations):
    """Read only."""
    return mapped(observations)


@pytest.fixture(scope="module")
def refined(data, model, tmp_path_factory):
    """Two rounds with known intrinsics: the state after each, and the scratch folder. Read only."""
    scratch = tmp_path_factory.mktemp("rounds")
    refiner = refiner_of(data)
    first = refiner.next_round(refiner.start(model), scratch)
    return first, refiner.next_round(first, scratch), scratch
