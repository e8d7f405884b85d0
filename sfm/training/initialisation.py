"""Where a training starts: a new network, weights of any configuration, or XFeat's CNN."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sfm.errors import BadFile, BadOption
from sfm.matchers.loftr import checkpoint
from sfm.matchers.loftr.config import COMPACT, COMPACT_WIDE
from sfm.matchers.loftr.model import LoFTR

_LAYERS = {  # ours: XFeat's
    "stem.0": "block1.0", "stem.1": "block1.1", "stem.2": "block1.2", "down": "block1.3",
    **{f"block{b}.{i}": f"block{b}.{i}" for b, count in ((2, 2), (3, 3), (4, 3), (5, 4)) for i in range(count)},
    "fusion.0": "block_fusion.0", "fusion.1": "block_fusion.1",
}  # fmt: skip
_PLAIN = {"skip1.1": "skip1.1", "fusion.2": "block_fusion.2"}


def network(init: str | None, *, wide: bool = False) -> LoFTR:
    """A network to train: a new compact one, named weights, a checkpoint of any configuration, or XFeat's CNN (.pt).

    wide: with the global stage of compact-wide; where the weights have none, it starts as one that changes no match.
    Raises BadFile and BadOption for weights that do not fit or cannot be trained.
    """
    is_xfeat = init is not None and Path(init).suffix == ".pt"
    choice = None if init is None or is_xfeat else checkpoint.choose(init, device="cpu")
    config = COMPACT if choice is None else choice.config
    if wide and not config.global_layers:
        config = replace(config, global_layers=COMPACT_WIDE.global_layers)
    if config.match_type != "dual_softmax":
        raise BadOption(f"--init {init}: optimal transport cannot be trained here; give weights of the dual softmax")
    model = LoFTR(config)
    if choice is not None:
        start = model.state_dict()
        new = {} if choice.config.global_layers else {k: v for k, v in start.items() if k.startswith("global_context.")}
        tensors = new | checkpoint.read_tensors(choice.path)
        if (fault := checkpoint.mismatch(start, tensors)) is not None:
            raise BadFile(f"{choice.path}: does not fit the network ({fault}); give a LoFTR checkpoint")
        model.load_state_dict(tensors)
    elif init is not None:
        start_from_xfeat(model, Path(init))
    return model


def start_from_xfeat(model: LoFTR, path: Path) -> None:
    """Loads XFeat's CNN (a state dict as its authors publish it) into the backbone of a compact model, in place.

    Its batch normalisation is folded into the convolutions. The coarse output starts as XFeat's 64 channels and zeros,
    so that before any training the dual-softmax matches XFeat's descriptors. Raises BadFile when the file is not
    XFeat's.
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
