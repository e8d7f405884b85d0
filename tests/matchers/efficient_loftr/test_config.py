"""Configurations that no network can have are refused."""

import pytest

from sfm.matchers.efficient_loftr.config import NET_STRIDE, EfficientLoFTRConfig


def test_the_published_network():
    config = EfficientLoFTRConfig()
    assert (config.dims, config.blocks, len(config.layers)) == ((64, 128, 256), (2, 4, 14), 8)
    assert NET_STRIDE == 32


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"dims": (64, 128, 200)}, "dims"),
        ({"dims": (8, 128, 256)}, "d_regress"),
        ({"border": 0}, "border"),
        ({"layers": ()}, "layer"),
        ({"layers": ("cross", "self")}, "layer"),
    ],
)
def test_refused(values, what):
    with pytest.raises(ValueError, match=what):
        EfficientLoFTRConfig(**values)
