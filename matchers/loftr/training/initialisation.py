"""Start of the compact network: XFeat's weights, their batch normalisation folded into the convolutions."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sfm.errors import BadFile
from sfm.matchers.loftr.model import LoFTR

_LAYERS = {  # ours: XFeat's
    "stem.0": "block1.0", "stem.1": "block1.1", "stem.2": "block1.2", "down": "block1.3",
    **{f"block{b}.{i}": f"block{b}.{i}" for b, count in ((2, 2), (3, 3), (4, 3), (5, 4)) for i in range(count)},
    "fusion.0": "block_fusion.0", "fusion.1": "block_fusion.1",
}  # fmt: skip
_PLAIN = {"skip1.1": "skip1.1", "fusion.2": "block_fusion.2"}


def start_from_xfeat(model: LoFTR, path: Path) -> None:
    """Loads XFeat's CNN (a state dict as its authors publish it) into the backbone of a compact model, in place.

    The coarse output starts as XFeat's 64 channels and zeros, so that before any training the
    dual-softmax matches XFeat's descriptors. Raises BadFile when the file is not XFeat's.
    """
    try:
        xfeat: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        folded = {f"{ours}.0.{key}": value for ours, theirs in _LAYERS.items() for key, value in _fold(xfeat, theirs)}
        plain = {f"{ours}.{k}": xfeat[f"{theirs}.{k}"] for ours, theirs in _PLAIN.items() for k in ("weight", "bias")}
    except Exception as error:
        raise BadFile(f"{path}: not XFeat's weights ({error}); give the file xfeat.pt as published") from error
    state = model.backbone.state_dict() | folded | plain
    state["coarse_out.weight"] = torch.eye(*state["coarse_out.weight"].shape[:2])[:, :, None, None]
    state["coarse_out.bias"] = torch.zeros_like(state["coarse_out.bias"])
    model.backbone.load_state_dict(state)


def _fold(xfeat: dict[str, Tensor], name: str) -> list[tuple[str, Tensor]]:
    weight, mean = xfeat[f"{name}.layer.0.weight"], xfeat[f"{name}.layer.1.running_mean"]
    scale = torch.rsqrt(xfeat[f"{name}.layer.1.running_var"] + 1e-5)
    return [("weight", weight * scale[:, None, None, None]), ("bias", -mean * scale)]
