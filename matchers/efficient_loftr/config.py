"""EfficientLoFTR's configuration. Checkpoints hold none: widths and depths are read from their tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

COARSE_STRIDE = 8  # px per cell of the coarse grid
WINDOW = 8  # px along a side of a fine window: a cell's own pixels
AGGREGATION = 4  # cells along a side that attention takes together
NET_STRIDE = COARSE_STRIDE * AGGREGATION  # px that sides of the network's image are multiples of


@dataclass(frozen=True, slots=True)
class EfficientLoFTRConfig:
    """One network. Defaults are the published one, its full model (Wang et al., CVPR 2024, section 4.1).

    dims: channels at 1/2 (and of the fine features at 1/1), at 1/4, and at 1/8 (of the cells). blocks: RepVGG blocks at
    1/2 after the first, at 1/4, at 1/8. num_heads, layers: of the transformer over the cells. trained_side: px, longer
    side of the images that it was trained on; positions in larger ones are scaled down to it, as its authors advise.
    temperature: of the dual-softmax. threshold: least confidence of a coarse match. border: cells at the image's rim
    that match nothing. d_regress: channels at the end of the fine features that the second stage uses, the others are
    the first's. regress_temperature: of its softmax.
    """

    dims: tuple[int, int, int] = (64, 128, 256)
    blocks: tuple[int, int, int] = (2, 4, 14)
    num_heads: int = 8
    layers: tuple[Literal["self", "cross"], ...] = ("self", "cross") * 4
    trained_side: int = 832
    temperature: float = 0.1
    threshold: float = 0.2
    border: int = 2
    d_regress: int = 8
    regress_temperature: float = 10.0

    def __post_init__(self) -> None:
        if self.dims[2] % (4 * self.num_heads):
            raise ValueError("EfficientLoFTRConfig: dims[2] must divide by 4 and by the heads")
        if self.dims[0] <= self.d_regress:
            raise ValueError("EfficientLoFTRConfig: dims[0] must be more than d_regress")
        if self.border < 1:
            raise ValueError(
                "EfficientLoFTRConfig: border must be at least 1, since windows reach a pixel out of a cell"
            )
        if not self.layers or self.layers[0] != "self":
            raise ValueError("EfficientLoFTRConfig: the first layer must be of an image alone")
