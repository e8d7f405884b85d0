"""CNN backbones: image → coarse map at 1/8 and fine map at 1/2.

Every strided convolution has a centred kernel, so coarse cell (r, c) sits on pixel index
(8 r, 8 c) and fine cell (r, c) on (2 r, 2 c), whatever the image's size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfm.matchers.loftr.config import LoFTRConfig


def build_backbone(config: LoFTRConfig) -> nn.Module:
    """The configuration's backbone: (B, 1, H, W) in [0, 1] → (B, d_coarse, H/8, W/8), (B, d_fine, H/2, W/2)."""
    return CompactBackbone(config) if config.backbone == "compact" else ResNetFPN(config)


def _conv1x1(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)


def _conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


def _conv_bn(x: Tensor, conv: nn.Conv2d, bn: nn.BatchNorm2d) -> Tensor:
    """Convolution, then batch normalisation; at inference as one convolution, which halves the memory."""
    if bn.training:
        normalised: Tensor = bn(conv(x))
        return normalised
    assert bn.running_mean is not None
    assert bn.running_var is not None
    scale = bn.weight * torch.rsqrt(bn.running_var + bn.eps)
    weight, bias = conv.weight * scale[:, None, None, None], bn.bias - bn.running_mean * scale
    return F.conv2d(x, weight, bias, conv.stride, conv.padding)


class BasicBlock(nn.Module):
    """Residual block of two 3x3 convolutions (He et al., CVPR 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv3x3(inputs, outputs, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = _conv3x3(outputs, outputs), nn.BatchNorm2d(outputs)
        self.downsample = (
            nn.Sequential(_conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs)) if stride != 1 else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) → (B, outputs, H / stride, W / stride)."""
        y = F.relu(_conv_bn(x, self.conv1, self.bn1), inplace=True)
        y = _conv_bn(y, self.conv2, self.bn2)
        y += x if self.downsample is None else _conv_bn(x, *self.downsample)
        return F.relu(y, inplace=True)


def _smooth(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        _conv3x3(inputs, inputs), nn.BatchNorm2d(inputs), nn.LeakyReLU(inplace=True), _conv3x3(inputs, outputs)
    )


def _smoothed(x: Tensor, layers: nn.Sequential) -> Tensor:
    conv1, bn, activation, conv2 = layers
    y: Tensor = conv2(activation(_conv_bn(x, conv1, bn)))  # type: ignore[arg-type]
    return y


def _add_upsampled(skip: Tensor, coarser: Tensor) -> Tensor:
    """In place: skip + coarser at twice its resolution."""
    up = F.interpolate(coarser, scale_factor=2.0, mode="bilinear", align_corners=True)
    skip += up[..., : skip.shape[2], : skip.shape[3]]
    return skip


class ResNetFPN(nn.Module):
    """The published ResNet-FPN with outputs at 1/8 and 1/2 (LoFTR section 3.1); names as in its checkpoints."""

    def __init__(self, config: LoFTRConfig) -> None:
        super().__init__()
        initial, (d1, d2, d3) = config.initial_dim, config.block_dims
        self.conv1 = nn.Conv2d(1, initial, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(initial)
        self.layer1 = nn.Sequential(BasicBlock(initial, d1, 1), BasicBlock(d1, d1, 1))  # 1/2
        self.layer2 = nn.Sequential(BasicBlock(d1, d2, 2), BasicBlock(d2, d2, 1))  # 1/4
        self.layer3 = nn.Sequential(BasicBlock(d2, d3, 2), BasicBlock(d3, d3, 1))  # 1/8
        self.layer3_outconv = _conv1x1(d3, d3)
        self.layer2_outconv, self.layer2_outconv2 = _conv1x1(d2, d3), _smooth(d3, d2)
        self.layer1_outconv, self.layer1_outconv2 = _conv1x1(d1, d2), _smooth(d2, d1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, H, W) → coarse (B, d3, H/8, W/8), fine (B, d1, H/2, W/2)."""
        x1 = self.layer1(F.relu(_conv_bn(image, self.conv1, self.bn1), inplace=True))  # (B, d1, H/2, W/2)
        x2 = self.layer2(x1)  # (B, d2, H/4, W/4)
        coarse = self.layer3_outconv(self.layer3(x2))  # (B, d3, H/8, W/8)
        x2 = _smoothed(_add_upsampled(self.layer2_outconv(x2), coarse), self.layer2_outconv2)
        x1 = self.layer1_outconv(x1)  # rebinding frees the map of before: at 1/2 each is 0.5 GB for 2000 x 2000 px
        return coarse, _smoothed(_add_upsampled(x1, x2), self.layer1_outconv2)


class ConvReLU(nn.Sequential):
    """Convolution with bias, then ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2), nn.ReLU(inplace=True))


class CompactBackbone(nn.Module):
    """XFeat's CNN (Potje et al., CVPR 2024, section 3.1), normalisation folded into it, with a fine branch at 1/2.

    Early layers have few channels and the resolution falls fast, so a 640 x 480 image costs some
    2 GFLOP where the published backbone takes 170.
    """

    def __init__(self, config: LoFTRConfig) -> None:
        super().__init__()
        d_fine = config.d_fine
        self.skip1 = nn.Sequential(nn.AvgPool2d(4, stride=4), nn.Conv2d(1, 24, 1))
        self.stem = nn.Sequential(ConvReLU(1, 4), ConvReLU(4, 8, stride=2), ConvReLU(8, 8))  # 1/2
        self.down = ConvReLU(8, 24, stride=2)  # 1/4
        self.block2 = nn.Sequential(ConvReLU(24, 24), ConvReLU(24, 24))
        self.block3 = nn.Sequential(ConvReLU(24, 64, stride=2), ConvReLU(64, 64), ConvReLU(64, 64, 1))  # 1/8
        self.block4 = nn.Sequential(ConvReLU(64, 64, stride=2), ConvReLU(64, 64), ConvReLU(64, 64))  # 1/16
        self.block5 = nn.Sequential(
            ConvReLU(64, 128, stride=2), ConvReLU(128, 128), ConvReLU(128, 128), ConvReLU(128, 64, 1)
        )  # 1/32
        self.fusion = nn.Sequential(ConvReLU(64, 64), ConvReLU(64, 64), nn.Conv2d(64, 64, 1))
        self.coarse_out = nn.Conv2d(64, config.d_coarse, 1)
        self.quarter_skip = nn.Conv2d(24, d_fine, 1)
        self.quarter_top = nn.Conv2d(64, d_fine, 1)
        self.quarter_out = ConvReLU(d_fine, d_fine)
        self.half_skip = nn.Conv2d(8, d_fine, 1)
        self.half_out = nn.Conv2d(d_fine, d_fine, 3, padding=1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, H, W), H and W multiples of 8 → coarse (B, d_coarse, H/8, W/8), fine (B, d_fine, H/2, W/2)."""
        variance, mean = torch.var_mean(image, dim=(2, 3), keepdim=True, correction=0)
        image = (image - mean) * torch.rsqrt(variance + 1e-5)
        half = self.stem(image)  # (B, 8, H/2, W/2)
        quarter = self.block2(self.down(half) + self.skip1(image))  # (B, 24, H/4, W/4)
        x3 = self.block3(quarter)  # (B, 64, H/8, W/8)
        x4 = self.block4(x3)
        x5 = self.block5(x4)
        x3 = self.fusion(x3 + _resized(x4, x3) + _resized(x5, x3))
        top = self.quarter_skip(quarter) + _doubled(self.quarter_top(x3), quarter)
        fine = self.half_skip(half) + _doubled(self.quarter_out(top), half)
        return self.coarse_out(x3), self.half_out(F.relu(fine, inplace=True))


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear")


def _doubled(x: Tensor, like: Tensor) -> Tensor:
    """x at twice its resolution, cell k read exactly at k / 2, so that centred strides stay centred."""
    h, w = x.shape[2:]
    x = F.interpolate(x, size=(2 * h - 1, 2 * w - 1), mode="bilinear", align_corners=True)
    pad = (0, max(0, like.shape[3] - x.shape[3]), 0, max(0, like.shape[2] - x.shape[2]))
    return F.pad(x, pad, mode="replicate")[..., : like.shape[2], : like.shape[3]]
