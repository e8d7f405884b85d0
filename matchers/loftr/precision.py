"""Where half precision must stop: inside autocast, products and sums that overflow or lose sub-pixel digits in it."""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(like: Tensor) -> torch.autocast:
    """Context in which matrix products on the tensor's device keep the dtype of their operands."""
    return torch.autocast(like.device.type, enabled=False)
