"""Learning rates: of three groups of parameters, and how they rise and fall over a run."""

from __future__ import annotations

import math

from torch import Tensor

from sfm.matchers.loftr.model import LoFTR

GLOBAL_STAGE, CNN = 1.875, 0.5  # of the learning rate, which is that of the transformers and the fine stage
WEIGHT_DECAY = 0.01
WARMUP = 0.02  # of the run's length, over which the rates rise
LAST = 0.01  # of the peak, to which they fall
_OUTPUTS = ("backbone.coarse_out", "backbone.quarter", "backbone.half")  # of the compact CNN, not of XFeat's


def rate_factor(done: float) -> float:
    """Of the peak, when `done` of the run is over (0 to 1): a linear rise, then a cosine."""
    if done < WARMUP:
        return max(done / WARMUP, 0.01)
    part = min(1.0, (done - WARMUP) / (1 - WARMUP))
    return LAST + (1 - LAST) * 0.5 * (1 + math.cos(math.pi * part))


def parameter_groups(model: LoFTR) -> list[dict[str, object]]:
    """AdamW's groups, each with its part of the learning rate in "part"; gains, biases and norms do not decay."""
    split: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        part = 1.0
        if name.startswith("global_context."):
            part = GLOBAL_STAGE
        elif name.startswith("backbone.") and not name.startswith(_OUTPUTS):
            part = CNN
        split.setdefault((part, WEIGHT_DECAY if parameter.dim() > 1 else 0.0), []).append(parameter)
    return [{"params": own, "part": part, "weight_decay": decay} for (part, decay), own in split.items()]
