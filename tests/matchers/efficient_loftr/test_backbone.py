"""Sizes of the maps, and where a cell lies."""

import torch

from sfm.matchers.efficient_loftr.backbone import RepVGG, block_shapes
from sfm.matchers.efficient_loftr.config import EfficientLoFTRConfig
from tests.support.efficient_loftr import TINY


def test_blocks_of_the_published_network():
    shapes = block_shapes(EfficientLoFTRConfig())
    assert len(shapes) == 1 + 2 + 4 + 14
    assert shapes["layer0"] == (1, 64, 2)
    assert shapes["layer1.0"] == (64, 64, 1)
    assert shapes["layer2.0"] == (64, 128, 2)
    assert shapes["layer3.0"] == (128, 256, 2)
    assert shapes["layer3.13"] == (256, 256, 1)


@torch.no_grad()
def test_maps_at_a_half_a_quarter_and_an_eighth():
    maps = RepVGG(TINY)(torch.rand(2, 1, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(2, 12, 32, 48), (2, 16, 16, 24), (2, 64, 8, 12)]
    assert all((m >= 0).all() for m in maps)
