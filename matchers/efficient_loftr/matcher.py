"""EfficientLoFTR behind the Matcher interface: image in, Matches out in pixels of the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from sfm.matchers.dense_network import DenseNetworkMatcher, NetworkMatches
from sfm.matchers.efficient_loftr.config import COARSE_STRIDE, NET_STRIDE
from sfm.matchers.efficient_loftr.model import EfficientLoFTR, ImageFeatures, PairMatches


class EfficientLoFTRMatcher(DenseNetworkMatcher[EfficientLoFTR, ImageFeatures, PairMatches]):
    """An EfficientLoFTR network with its weights on a device.

    Each match is one row: a pixel of the first cell, and a place in or next to the second. Both depend on the pair;
    what is the same in all pairs is the cell, and tracks are made of cells.
    """

    stride, net_stride = COARSE_STRIDE, NET_STRIDE
    pairs_a_core = 2
    anchor = 0.5 / COARSE_STRIDE  # matches lie around the centre of the cell's first network pixel

    @staticmethod
    def _channels_last(model: EfficientLoFTR) -> Sequence[nn.Module]:
        return (model.backbone, model.fine_preprocess)

    @staticmethod
    def _by_confidence(found: PairMatches) -> NetworkMatches:
        order = torch.argsort(found.confidence, descending=True, stable=True)
        columns = (found.points0, found.points1, found.confidence.clamp(0, 1), found.i_ids, found.j_ids)
        return NetworkMatches(*(column[order] for column in columns))
