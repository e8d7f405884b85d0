"""RepVGG (Ding et al., CVPR 2021) as EfficientLoFTR uses it (section 3.1), re-parameterised: one convolution a block.

In training a block is a 3x3 convolution, a 1x1 convolution and the identity side by side, each normalised; at inference
their sum is one 3x3 convolution with a bias. Checkpoints of either form become this one (naming.py).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sfm.matchers.efficient_loftr.config import EfficientLoFTRConfig


class RepVGGBlock(nn.Module):
    """3x3 convolution with bias, then ReLU; the name of the weights is that of re-parameterised checkpoints."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.rbr_reparam = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) → (B, outputs, H / stride, W / stride)."""
        return F.relu(self.rbr_reparam(x), inplace=True)


def block_shapes(config: EfficientLoFTRConfig) -> dict[str, tuple[int, int, int]]:
    """Inputs, outputs and stride of each block by its name, from the image on."""
    (d1, d2, d3), blocks = config.dims, config.blocks
    shapes = {"layer0": (1, d1, 2)}
    for stage, (inputs, outputs, stride, num) in enumerate(
        zip((d1, d1, d2), (d1, d2, d3), (1, 2, 2), blocks, strict=True)
    ):
        for k in range(num):
            shapes[f"layer{stage + 1}.{k}"] = (outputs, outputs, 1) if k else (inputs, outputs, stride)
    return shapes


class RepVGG(nn.Module):
    """Image → maps at 1/2, 1/4 and 1/8."""

    def __init__(self, config: EfficientLoFTRConfig) -> None:
        super().__init__()
        stages: dict[str, list[RepVGGBlock]] = {}
        for name, shape in block_shapes(config).items():
            stages.setdefault(name.split(".")[0], []).append(RepVGGBlock(*shape))
        self.layer0 = stages["layer0"][0]
        self.layer1, self.layer2, self.layer3 = (nn.Sequential(*stages[f"layer{k}"]) for k in (1, 2, 3))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 1, H, W) in [0, 1] → (B, d1, H/2, W/2), (B, d2, H/4, W/4), (B, d3, H/8, W/8)."""
        half = self.layer1(self.layer0(image))
        quarter = self.layer2(half)
        return half, quarter, self.layer3(quarter)
