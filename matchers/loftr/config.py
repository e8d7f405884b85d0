"""LoFTR's configurations: the published ones and our compact one.

A configuration is bound to its weights by the weights registry: the position encoding's formula is
not in a checkpoint, and a wrong one loads without an error and only degrades the matches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

COARSE_STRIDE = 8  # px per cell of the coarse grid
FINE_STRIDE = 2  # px per cell of the fine map


@dataclass(frozen=True, slots=True)
class LoFTRConfig:
    """One LoFTR network. Defaults are the published outdoor network (Sun et al., CVPR 2021, section 4.1).

    backbone: "resnet_fpn" (published) or "compact" (XFeat's shape, Potje et al., CVPR 2024).
    initial_dim, block_dims: channels of the ResNet-FPN at 1/2 and of its three stages.
    d_coarse, num_heads_coarse, coarse_layers: the transformer over the cells of the coarse grid.
    global_layers, d_global, num_heads_global: attention in full over patches of the grid, between the coarse
    transformer's first round and the rest; none as published.
    d_fine, num_heads_fine, fine_layers, fine_window: the transformer over windows of the fine map.
    temp_bug_fix: position encoding with the corrected frequency formula.
    match_type: "dual_softmax" or "sinkhorn" (optimal transport, section 3.3).
    temperature: of the dual-softmax; learned from this start where learned_temperature is set.
    position_gain: None adds the position encoding as published; a number is the start of a learned gain.
    threshold: least confidence of a coarse match. border: cells at the image's rim that match nothing.
    sinkhorn_iterations, sinkhorn_prefilter: optimal transport; a cell whose best partner is the dustbin is dropped.
    """

    backbone: Literal["resnet_fpn", "compact"] = "resnet_fpn"
    initial_dim: int = 128
    block_dims: tuple[int, int, int] = (128, 196, 256)
    d_coarse: int = 256
    num_heads_coarse: int = 8
    coarse_layers: tuple[Literal["self", "cross"], ...] = ("self", "cross") * 4
    global_layers: tuple[Literal["self", "cross"], ...] = ()
    d_global: int = 192
    num_heads_global: int = 6
    d_fine: int = 128
    num_heads_fine: int = 8
    fine_layers: tuple[Literal["self", "cross"], ...] = ("self", "cross")
    fine_window: int = 5
    temp_bug_fix: bool = False
    match_type: Literal["dual_softmax", "sinkhorn"] = "dual_softmax"
    temperature: float = 0.1
    learned_temperature: bool = False
    position_gain: float | None = None
    threshold: float = 0.2
    border: int = 2
    sinkhorn_iterations: int = 3
    sinkhorn_prefilter: bool = True

    def __post_init__(self) -> None:
        if self.d_coarse % (4 * self.num_heads_coarse) or self.d_fine % self.num_heads_fine:
            raise ValueError("LoFTRConfig: d_coarse must divide by 4 and by its heads, d_fine by its heads")
        if self.d_global % (4 * self.num_heads_global):
            raise ValueError("LoFTRConfig: d_global must divide by 4 and by its heads")
        dims = (self.initial_dim, self.block_dims[0], self.block_dims[2])
        if self.backbone == "resnet_fpn" and dims != (self.d_fine, self.d_fine, self.d_coarse):
            raise ValueError(
                "LoFTRConfig: initial_dim and block_dims[0] must be d_fine, block_dims[2] must be d_coarse"
            )
        if self.fine_window % 2 == 0:
            raise ValueError("LoFTRConfig: fine_window must be odd")


OUTDOOR = LoFTRConfig()
INDOOR = LoFTRConfig()
INDOOR_NEW = replace(OUTDOOR, temp_bug_fix=True)
MINIMA = replace(OUTDOOR, temp_bug_fix=True)  # as its authors load it (LSXI7/MINIMA, src/utils/load_model.py)
COMPACT = LoFTRConfig(
    backbone="compact",
    d_coarse=96,
    num_heads_coarse=4,
    coarse_layers=("self", "cross") * 2,
    d_fine=32,
    num_heads_fine=4,
    temp_bug_fix=True,
    learned_temperature=True,
    position_gain=0.1,
    border=1,
)
COMPACT_WIDE = replace(COMPACT, global_layers=("self", "cross") * 4)
CONFIGS = MappingProxyType(
    {
        "outdoor": OUTDOOR,
        "indoor": INDOOR,
        "indoor_new": INDOOR_NEW,
        "minima": MINIMA,
        "compact": COMPACT,
        "compact-wide": COMPACT_WIDE,
    }
)
