"""What the tests of mapping share: an exact scene's tracks, and what one run makes of them."""

import pytest

from sfm.mapping import stage as mapping
from tests.support.mapping_scene import OPTIONS, make_input


@pytest.fixture(scope="session")
def mapping_data():
    """Six images of one scene, and one that matches nothing."""
    return make_input(extra=("zzz.jpg",))


@pytest.fixture(scope="session")
def mapped(mapping_data, tmp_path_factory):
    """The results' folder and mapping.Mapped; read only."""
    output = tmp_path_factory.mktemp("mapped")
    return output, mapping.reconstruct(mapping_data, OPTIONS, output)
