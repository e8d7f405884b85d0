"""Matrix products by oneDNN where torch has it: on CPUs that MKL does not favour more than twice as fast.

torch gives fp32 products on x86 to MKL, which leaves the wide vector units of CPUs not made by Intel idle; oneDNN,
in the same torch, uses them (640 x 480 pair on an AMD EPYC: 250 instead of 100 GFLOP/s). The sums are in fp32 either
way. Where gradients are wanted, on a GPU, under autocast and in a torch without oneDNN it is torch's own product.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["none", "relu", "gelu"]


def is_direct(x: Tensor) -> bool:
    """Whether x may take the paths that are faster on a CPU: nothing is differentiated or cast on the way."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: Activation = "none") -> Tensor:
    """F.linear, then the activation. x: (..., inputs), weight: (outputs, inputs), bias: (outputs,) or None."""
    if x.numel() and is_direct(x) and _has_onednn():
        algorithm = "none" if activation == "gelu" else ""
        operands = x.contiguous(), weight.contiguous()  # rows that are not dense would go a slow way
        found: Tensor = torch.ops.mkldnn._linear_pointwise(*operands, bias, activation, [], algorithm)  # noqa: SLF001
        return found
    y = F.linear(x, weight, bias)
    return y if activation == "none" else F.relu(y) if activation == "relu" else F.gelu(y)


def through(module: nn.Module, x: Tensor, activation: Activation = "none") -> Tensor:
    """`linear` of a torch.nn.Linear."""
    assert isinstance(module, nn.Linear)
    return linear(x, module.weight, module.bias, activation)


def full_precision(like: Tensor) -> torch.autocast:
    """Context in which products on the tensor's device keep the dtype of their operands, inside autocast too.

    For those that would overflow or lose sub-pixel digits in half precision.
    """
    return torch.autocast(like.device.type, enabled=False)


@cache
def _has_onednn() -> bool:
    """Tried once: the operator is torch's own way to fused layers, not a documented one."""
    try:
        x, weight = torch.ones(2, 3), torch.ones(4, 3)
        found = torch.ops.mkldnn._linear_pointwise(x, weight, torch.ones(4), "relu", [], "")  # noqa: SLF001
    except (AttributeError, RuntimeError, TypeError):
        return False
    return bool(torch.equal(found, torch.full((2, 4), 4.0)))
