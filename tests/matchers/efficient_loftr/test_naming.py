"""Every published form of the weights is the same network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sfm.matchers.efficient_loftr.backbone import block_shapes
from sfm.matchers.efficient_loftr.config import EfficientLoFTRConfig
from sfm.matchers.efficient_loftr.model import EfficientLoFTR
from sfm.matchers.efficient_loftr.naming import as_published, published_shapes, reparameterised
from tests.support.efficient_loftr import TINY, random_state

FULL = EfficientLoFTRConfig()


def shapes_of(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


def test_names_of_transformers_are_those_of_the_authors_one_to_one():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra: test)")
    theirs = transformers.EfficientLoFTRForKeypointMatching(transformers.EfficientLoFTRConfig()).state_dict()
    named = as_published(theirs)
    assert shapes_of(named) == published_shapes(FULL)
    assert len(named) == sum("num_batches_tracked" not in name for name in theirs)
    at = "efficientloftr.local_feature_transformer.layers.2.cross_attention"
    assert torch.equal(named["loftr_coarse.layers.5.merge.weight"], theirs[f"{at}.attention.o_proj.weight"])
    assert torch.equal(named["loftr_coarse.layers.5.norm2.bias"], theirs[f"{at}.mlp.layer_norm.bias"])
    at = "efficientloftr.backbone.stages"
    assert torch.equal(named["backbone.layer0.rbr_1x1.conv.weight"], theirs[f"{at}.0.blocks.0.conv2.conv.weight"])
    assert torch.equal(named["backbone.layer3.9.rbr_identity.bias"], theirs[f"{at}.3.blocks.9.identity.bias"])
    at = "refinement_layer.out_conv_layers"
    assert torch.equal(named["fine_preprocess.layer1_outconv2.3.weight"], theirs[f"{at}.1.out_conv3.weight"])
    assert torch.equal(named["fine_preprocess.layer2_outconv.weight"], theirs[f"{at}.0.out_conv1.weight"])


def test_the_authors_names_lose_their_prefix_and_nothing_else():
    state = random_state()
    given = {f"matcher.{name}": value for name, value in state.items()}
    given["matcher.backbone.layer1.0.rbr_dense.bn.num_batches_tracked"] = torch.tensor(7)
    assert as_published(given).keys() == state.keys()
    assert as_published({"other": torch.zeros(1)}).keys() == {"other"}


@pytest.mark.parametrize("config", [TINY, FULL], ids=["tiny", "full"])
@pytest.mark.parametrize("branches", [True, False])
def test_random_weights_of_either_form_fit_the_network(config: EfficientLoFTRConfig, branches: bool):
    made = reparameterised(random_state(config, branches=branches))
    with torch.device("meta"):
        expected = EfficientLoFTR(config).state_dict()
    assert shapes_of(made) == shapes_of(expected)
    assert all(value.dtype == torch.float32 for value in made.values())


def normalised(x: Tensor, state: dict[str, Tensor], bn: str) -> Tensor:
    mean, var, weight, bias = (state[f"{bn}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, mean, var, weight, bias)


def by_branches(image: Tensor, state: dict[str, Tensor], config: EfficientLoFTRConfig) -> Tensor:
    """The backbone as it is trained: three branches a block."""
    x = image
    for place, (_, _, stride) in block_shapes(config).items():
        block = f"backbone.{place}"
        dense = F.conv2d(x, state[f"{block}.rbr_dense.conv.weight"], stride=stride, padding=1)
        point = F.conv2d(x, state[f"{block}.rbr_1x1.conv.weight"], stride=stride)
        y = normalised(dense, state, f"{block}.rbr_dense.bn") + normalised(point, state, f"{block}.rbr_1x1.bn")
        if f"{block}.rbr_identity.weight" in state:
            y = y + normalised(x, state, f"{block}.rbr_identity")
        x = F.relu(y)
    return x


@pytest.mark.parametrize("config", [TINY, FULL], ids=["tiny", "full"])
@torch.no_grad()
def test_one_convolution_is_what_the_branches_are(config: EfficientLoFTRConfig):
    state = random_state(config)
    model = EfficientLoFTR(config).eval()
    model.load_state_dict(reparameterised(state), strict=True)
    image = torch.rand(1, 1, 64, 64)
    expected = by_branches(image, state, config)
    torch.testing.assert_close(model.backbone(image)[2], expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    coarse = torch.randn(1, config.dims[2], 4, 4)
    step = "fine_preprocess.layer2_outconv2"
    expected = F.conv2d(coarse, state[f"{step}.0.weight"], padding=1)
    expected = F.leaky_relu(normalised(expected, state, f"{step}.1"))
    expected = F.conv2d(expected, state[f"{step}.3.weight"], padding=1)
    found = model.fine_preprocess.layer2_outconv2(coarse)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
