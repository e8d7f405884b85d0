"""The forms in which EfficientLoFTR's weights are published, made into the one that the network has.

- The authors' checkpoints (eloftr_outdoor.ckpt): names begin with `matcher.`; a RepVGG block is three branches with
  batch normalisation (`rbr_dense`, `rbr_1x1`, `rbr_identity`), or re-parameterised to one convolution (`rbr_reparam`).
- The copies of the library `transformers` (model.safetensors): its own names, three branches.

`as_published` gives the authors' names without the prefix, `published_shapes` says which names and shapes these are,
and `reparameterised` folds branches and normalisation into the convolutions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from sfm.matchers.efficient_loftr.backbone import block_shapes
from sfm.matchers.efficient_loftr.config import AGGREGATION, EfficientLoFTRConfig

BN_EPS = 1e-5
_BN = ("weight", "bias", "running_mean", "running_var")
_UNUSED = (".num_batches_tracked", "rotary_emb.inv_freq", "rotary_emb.original_inv_freq")  # hold nothing of their own

# what transformers calls a part → what the authors call it; numbers of blocks and layers are put in by `_authors_name`
_BLOCK_PARTS = {
    "conv1.conv": "rbr_dense.conv",
    "conv1.norm": "rbr_dense.bn",
    "conv2.conv": "rbr_1x1.conv",
    "conv2.norm": "rbr_1x1.bn",
    "identity": "rbr_identity",
}
_LAYER_PARTS = {
    "aggregation.q_aggregation": "aggregate",
    "aggregation.norm": "norm1",
    "attention.q_proj": "q_proj",
    "attention.k_proj": "k_proj",
    "attention.v_proj": "v_proj",
    "attention.o_proj": "merge",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.2",
    "mlp.layer_norm": "norm2",
}
_JOINING_PARTS = {
    "out_conv1": "outconv",
    "out_conv2": "outconv2.0",
    "batch_norm": "outconv2.1",
    "out_conv3": "outconv2.3",
}
_BLOCK = re.compile(r"efficientloftr\.backbone\.stages\.(\d+)\.blocks\.(\d+)\.(.+)\.(\w+)")
_LAYER = re.compile(r"efficientloftr\.local_feature_transformer\.layers\.(\d+)\.(self|cross)_attention\.(.+)\.(\w+)")
_JOINING = re.compile(r"refinement_layer\.out_conv_layers\.([01])\.(.+)\.(\w+)")


def as_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of either naming by the authors' names, without `matcher.` and without what holds no weights."""
    named = {_authors_name(key.removeprefix("matcher.")): value for key, value in state.items()}
    return {key: value for key, value in named.items() if not key.endswith(_UNUSED)}


def _authors_name(name: str) -> str:
    if found := _BLOCK.fullmatch(name):
        stage, block, part, last = found.groups()
        place = f"layer{stage}" if stage == "0" else f"layer{stage}.{block}"
        return f"backbone.{place}.{_BLOCK_PARTS.get(part, part)}.{last}"
    if found := _LAYER.fullmatch(name):
        round_, kind, part, last = found.groups()
        index = 2 * int(round_[:6]) + (kind == "cross")
        return f"loftr_coarse.layers.{index}.{_LAYER_PARTS.get(part, part)}.{last}"
    if found := _JOINING.fullmatch(name):
        step, part, last = found.groups()
        return f"fine_preprocess.layer{2 - int(step)}_{_JOINING_PARTS.get(part, part)}.{last}"
    return name.replace("refinement_layer.out_conv.", "fine_preprocess.layer3_outconv.")


def published_shapes(config: EfficientLoFTRConfig, *, branches: bool = True) -> dict[str, tuple[int, ...]]:
    """Shapes by name of a published state dict, with three branches a block or with one."""
    shapes: dict[str, tuple[int, ...]] = {}
    for place, (inputs, outputs, stride) in block_shapes(config).items():
        name = f"backbone.{place}"
        if not branches:
            shapes |= {f"{name}.rbr_reparam.weight": (outputs, inputs, 3, 3), f"{name}.rbr_reparam.bias": (outputs,)}
            continue
        for branch, size in (("rbr_dense", 3), ("rbr_1x1", 1)):
            shapes[f"{name}.{branch}.conv.weight"] = (outputs, inputs, size, size)
            shapes |= _bn_shapes(f"{name}.{branch}.bn", outputs)
        if inputs == outputs and stride == 1:
            shapes |= _bn_shapes(f"{name}.rbr_identity", inputs)
    d1, d2, d3 = config.dims
    for index in range(len(config.layers)):
        shapes |= {f"loftr_coarse.layers.{index}.{part}": shape for part, shape in _layer_shapes(d3).items()}
    shapes["fine_preprocess.layer3_outconv.weight"] = (d3, d3, 1, 1)
    for level, inputs, outputs in ((2, d3, d2), (1, d2, d1)):
        name = f"fine_preprocess.layer{level}_outconv"
        shapes[f"{name}.weight"] = (inputs, outputs, 1, 1)
        shapes[f"{name}2.0.weight"] = (inputs, inputs, 3, 3)
        shapes |= _bn_shapes(f"{name}2.1", inputs)
        shapes[f"{name}2.3.weight"] = (outputs, inputs, 3, 3)
    return shapes


def _bn_shapes(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{part}": (channels,) for part in _BN}


def _layer_shapes(channels: int) -> dict[str, tuple[int, ...]]:
    square = {f"{part}.weight": (channels, channels) for part in ("q_proj", "k_proj", "v_proj", "merge")}
    norms = {f"norm{k}.{part}": (channels,) for k in (1, 2) for part in ("weight", "bias")}
    return {
        "aggregate.weight": (channels, 1, AGGREGATION, AGGREGATION),
        "mlp.0.weight": (2 * channels, 2 * channels),
        "mlp.2.weight": (channels, 2 * channels),
        **square,
        **norms,
    }


def reparameterised(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's tensors of a state dict that has the names and shapes of `published_shapes`, of either form."""
    made = {
        key: value
        for key, value in state.items()
        if not re.search(r"\.(rbr_(?!reparam)|layer\d_outconv2\.[01]\.)", key)
    }
    for key in state:
        if key.endswith(".rbr_dense.conv.weight"):
            block = key.removesuffix(".rbr_dense.conv.weight")
            made[f"{block}.rbr_reparam.weight"], made[f"{block}.rbr_reparam.bias"] = _one_convolution(state, block)
        elif key.endswith("_outconv2.0.weight"):
            step = key.removesuffix(".0.weight")
            made[key], made[f"{step}.0.bias"] = _folded(state[key].double(), state, f"{step}.1")
    return {key: value.to(torch.float32) for key, value in made.items()}


def _one_convolution(state: Mapping[str, Tensor], block: str) -> tuple[Tensor, Tensor]:
    """Weight (outputs, inputs, 3, 3) and bias (outputs,) of the sum of a block's branches, f64."""
    weight, bias = _folded(state[f"{block}.rbr_dense.conv.weight"].double(), state, f"{block}.rbr_dense.bn")
    point = F.pad(state[f"{block}.rbr_1x1.conv.weight"].double(), (1, 1, 1, 1))
    branches = [(point, f"{block}.rbr_1x1.bn")]
    if f"{block}.rbr_identity.weight" in state:
        same = F.pad(torch.eye(len(bias), dtype=torch.float64)[:, :, None, None], (1, 1, 1, 1))
        branches.append((same, f"{block}.rbr_identity"))
    for kernel, bn in branches:
        more, constant = _folded(kernel, state, bn)
        weight, bias = weight + more, bias + constant
    return weight, bias


def _folded(kernel: Tensor, state: Mapping[str, Tensor], bn: str) -> tuple[Tensor, Tensor]:
    """A convolution without bias and the batch normalisation after it, as one with a bias. f64."""
    gain, bias, mean, variance = (state[f"{bn}.{part}"].double() for part in _BN)
    scale = gain * torch.rsqrt(variance + BN_EPS)
    return kernel * scale[:, None, None, None], bias - mean * scale
