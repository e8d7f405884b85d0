"""LoFTR's internals: coarse features before and after the transformer, and the attention of a cell, layer by layer.

A plain twin of the forward pass that keeps what goes into each layer; it computes what the model
computes. LoFTR's attention is linear (Katharopoulos et al., ICML 2020): a layer never makes the
weights of a query, but it has them: query i gives token j the weight phi(q_i) . phi(k_j) over the
sum of the same over all j, with phi = elu + 1, in each head by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from sfm.matchers.base import GreyImage
from sfm.matchers.loftr.matcher import LoFTRMatcher
from sfm.matchers.loftr.model import LoFTR
from sfm.matchers.loftr.transformer import EncoderLayer


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer of the coarse transformer as image 0 goes through it.

    name: "self" (the source is image 0) or "cross" (image 1). x (L, C): image 0's tokens before the
    layer. source (S, C): what they look at.
    """

    name: str
    layer: EncoderLayer
    x: Tensor
    source: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Inside:
    """The coarse level of one pair. hw0, hw1: grids (h, w). before0, before1: (h * w, C) f32, as the
    backbone gives them, without position encoding. after0, after1: (h * w, C) f32, as they are matched."""

    hw0: tuple[int, int]
    hw1: tuple[int, int]
    before0: Tensor
    before1: Tensor
    after0: Tensor
    after1: Tensor
    layers: tuple[Layer, ...]


def look_inside(matcher: LoFTRMatcher, image0: GreyImage, image1: GreyImage) -> Inside:
    """The pair (H, W) u8 as this matcher sees it, in full precision on its device."""
    return trace(matcher.model, matcher.network_input(image0), matcher.network_input(image1))


@torch.inference_mode()
def trace(model: LoFTR, image0: Tensor, image1: Tensor) -> Inside:
    """The coarse forward pass of one pair, layer by layer. image0, image1: (1, 1, H, W) in [0, 1]."""
    coarse0, coarse1 = model.backbone(image0)[0], model.backbone(image1)[0]  # (1, C, h, w)
    feat0, feat1 = model.tokens(coarse0), model.tokens(coarse1)  # (1, h * w, C)
    layers = []
    transformer = model.loftr_coarse
    grids = [(coarse.shape[2], coarse.shape[3]) for coarse in (coarse0, coarse1)]
    for index, (layer, name) in enumerate(zip(transformer.layers, transformer.layer_names, strict=True)):
        assert isinstance(layer, EncoderLayer)
        layers.append(Layer(name, layer, feat0[0], (feat0 if name == "self" else feat1)[0]))
        if name == "self":
            feat0, feat1 = layer(feat0, feat0), layer(feat1, feat1)
        else:
            feat0 = layer(feat0, feat1)
            feat1 = layer(feat1, feat0)
        if model.config.global_layers and index == transformer.num_leading_self:
            feat0, feat1 = model.global_context(feat0, feat1, *grids)
    before0, before1 = (rearrange(coarse[0].float(), "c h w -> (h w) c") for coarse in (coarse0, coarse1))
    (h0, w0), (h1, w1) = coarse0.shape[2:], coarse1.shape[2:]
    return Inside((h0, w0), (h1, w1), before0, before1, feat0[0], feat1[0], tuple(layers))


@torch.inference_mode()
def attention_weights(step: Layer, cell: int, *, eps: float = 1e-6) -> Tensor:
    """(heads, S) f32: what each token of the source weighs in the message to one cell of image 0.

    A head's weights sum to 1 (but for eps, which the layer adds to the sum it divides by).
    """
    layer = step.layer
    q, k = layer.q_proj(step.x[cell]).float(), layer.k_proj(step.source).float()  # (C,), (S, C)
    q = F.elu(rearrange(q, "(h d) -> h d", h=layer.num_heads)) + 1
    k = F.elu(rearrange(k, "s (h d) -> h s d", h=layer.num_heads)) + 1
    weights = torch.einsum("hd,hsd->hs", q, k)
    return weights / (weights.sum(dim=1, keepdim=True) + eps)


def attention_map(step: Layer, cell: int, hw: tuple[int, int]) -> Tensor:
    """(h, w) f32: the mean of the heads' weights over the source's grid, times its number of cells.

    1 where the cell looks no more than everywhere. The mean, and not the maximum, because the
    message is made of all heads.
    """
    return (attention_weights(step, cell).mean(dim=0) * len(step.source)).reshape(hw)
