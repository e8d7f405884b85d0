"""EfficientLoFTR for tests: checkpoints with random weights, and a matcher that needs no training."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter
from torch import Tensor

from sfm.matchers.efficient_loftr.config import EfficientLoFTRConfig
from sfm.matchers.efficient_loftr.matcher import EfficientLoFTRMatcher
from sfm.matchers.efficient_loftr.model import EfficientLoFTR
from sfm.matchers.efficient_loftr.naming import published_shapes, reparameterised

TINY = EfficientLoFTRConfig(dims=(12, 16, 64), blocks=(1, 1, 2), layers=("self", "cross") * 2)


def speckle(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """(H, W) u8: noise with details of some pixels, which random features tell apart."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((height, width)), 1.5)
    return np.clip((noise - noise.min()) / (noise.max() - noise.min()) * 255, 0, 255).astype(np.uint8)


def random_state(config: EfficientLoFTRConfig = TINY, *, branches: bool = True, seed: int = 0) -> dict[str, Tensor]:
    """By the authors' names, without `matcher.`; activations keep their size from layer to layer."""
    torch.manual_seed(seed)
    state = {}
    for name, shape in published_shapes(config, branches=branches).items():
        last = name.rsplit(".", 1)[1]
        if last == "running_var":
            state[name] = torch.rand(shape) + 0.5
        elif last in ("bias", "running_mean"):
            state[name] = 0.1 * torch.randn(shape)
        elif len(shape) == 1:
            state[name] = 0.7 + 0.1 * torch.rand(shape)
        else:
            state[name] = torch.randn(shape) * torch.Size(shape[1:]).numel() ** -0.5
    return state


@cache
def _matching_state() -> dict[str, Tensor]:
    state = random_state(TINY)
    model = EfficientLoFTR(TINY).eval()
    model.load_state_dict(reparameterised(state))
    images = torch.from_numpy(np.stack([speckle(160, 224, seed) for seed in range(3)]))[:, None].float() / 255
    last = TINY.blocks[2] - 1
    backbone = model.backbone
    with torch.no_grad():
        x = backbone.layer3[:last](backbone.layer2(backbone.layer1(backbone.layer0(images))))
        y = backbone.layer3[last].rbr_reparam(x)
    mean, scale = y.mean(dim=(0, 2, 3)), 3 / y.std(dim=(0, 2, 3))
    block = f"backbone.layer3.{last}"
    for name in (f"{block}.{branch}.{part}" for branch in BRANCHES for part in ("weight", "bias")):
        state[name] *= scale
    state[f"{block}.rbr_dense.bn.bias"] -= mean * scale + 1.5
    return {name: torch.full_like(value, 3) if "norm2.weight" in name else value for name, value in state.items()}


BRANCHES = ("rbr_dense.bn", "rbr_1x1.bn", "rbr_identity")


def matching_state() -> dict[str, Tensor]:
    """`random_state` whose cells are of one length and differ, so that what looks the same is matched."""
    return dict(_matching_state())


def save_checkpoint(path: Path, state: dict[str, Tensor], *, prefix: str = "matcher.") -> Path:
    """As the authors save it (.ckpt), or as a .safetensors file."""
    named = {prefix + name: value for name, value in state.items()}
    if path.suffix == ".safetensors":
        save_file(named, path)
    else:
        torch.save({"state_dict": named}, path)
    return path


class PatchBackbone(torch.nn.Module):
    """Features that need no training: the image's own patches, of zero mean and unit norm."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 1, H, W) → (B, 64, H/2, W/2), (B, 1, H/4, W/4), (B, 1024, H/8, W/8)."""
        half = patches(image, 7, 2)
        half = torch.cat([half, torch.zeros_like(half[:, :15])], dim=1)  # the last channels regress: nothing
        return half, F.avg_pool2d(image, 4), patches(image, 32, 8)


def patches(image: Tensor, side: int, stride: int) -> Tensor:
    unfolded = F.unfold(F.pad(image, (side // 2,) * 4, mode="replicate"), side, stride=stride)
    unfolded = F.normalize(unfolded - unfolded.mean(dim=1, keepdim=True), dim=1) * side
    h, w = image.shape[2] // stride, image.shape[3] // stride
    return unfolded.reshape(len(image), side * side, -1, (image.shape[3] + side // 2 * 2 - side) // stride + 1)[
        :, :, :h, :w
    ]


class NoTransformer(torch.nn.Module):
    def encode(self, feat: Tensor, mask: Tensor | None = None) -> Tensor:
        return feat

    def forward(
        self, feat0: Tensor, feat1: Tensor, mask0: Tensor | None, mask1: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        return feat0, feat1


class HalfMap(torch.nn.Module):
    def forward(self, coarse: Tensor, quarter: Tensor, half: Tensor) -> Tensor:
        return half * 20


def patch_matcher() -> EfficientLoFTRMatcher:
    """The whole matcher, its learned parts replaced: patches as features, no transformer layer."""
    model = EfficientLoFTR(EfficientLoFTRConfig(temperature=0.015))
    model.backbone, model.loftr_coarse, model.fine_preprocess = PatchBackbone(), NoTransformer(), HalfMap()
    return EfficientLoFTRMatcher(model, name="efficient-loftr-patches", checksum="0" * 64, resize=0)
