"""LoFTR behind the Matcher interface: image in, Matches out in pixels of the image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from sfm.matchers.dense_network import DenseNetworkMatcher, NetworkMatches
from sfm.matchers.loftr.config import COARSE_STRIDE
from sfm.matchers.loftr.model import ImageFeatures, LoFTR, PairMatches


class LoFTRMatcher(DenseNetworkMatcher[LoFTR, ImageFeatures, PairMatches]):
    """A LoFTR network with its weights on a device.

    Each coarse match gives two rows: the first cell's anchor refined in image 1, and the second's in image 0.
    """

    stride = net_stride = COARSE_STRIDE
    pairs_a_core = 4
    anchor = 0.5 / COARSE_STRIDE  # the centre of the cell's first network pixel

    def at_confidence(self, least: float) -> LoFTRMatcher:
        """The same network, with the same tensors, that leaves out matches below another confidence, 0 to 1."""
        with torch.device("meta"):
            model = LoFTR(replace(self.model.config, threshold=least))
        model.load_state_dict(self.model.state_dict(), assign=True)
        return self._with(model, self._resize)

    @staticmethod
    def _by_confidence(found: PairMatches) -> NetworkMatches:
        order = torch.argsort(found.confidence, descending=True, stable=True)
        columns = (found.confidence[order].clamp(0, 1), found.i_ids[order], found.j_ids[order])
        return NetworkMatches(
            torch.cat([found.anchors0[order], found.refined0[order]]),
            torch.cat([found.refined1[order], found.anchors1[order]]),
            *(torch.cat([column, column]) for column in columns),
        )

    @staticmethod
    def _valid(usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return usable.reshape(len(usable), -1)
