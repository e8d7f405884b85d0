"""Our network against kornia's LoFTR under the same random weights: parity means that published checkpoints work."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from sfm.matchers.loftr.config import OUTDOOR, LoFTRConfig
from sfm.matchers.loftr.model import LoFTR, PairMatches

kornia_loftr = pytest.importorskip("kornia.feature.loftr.loftr", reason="kornia is not installed (extra: test)")

SMALL = replace(OUTDOOR, initial_dim=16, block_dims=(16, 24, 64), d_coarse=64, d_fine=16, threshold=0.0)


def kornia_config(config: LoFTRConfig) -> dict[str, Any]:
    theirs = copy.deepcopy(kornia_loftr.default_cfg)
    theirs["resnetfpn"] = {"initial_dim": config.initial_dim, "block_dims": list(config.block_dims)}
    theirs["coarse"] |= {"d_model": config.d_coarse, "d_ffn": config.d_coarse, "temp_bug_fix": config.temp_bug_fix}
    theirs["fine"] |= {"d_model": config.d_fine, "d_ffn": config.d_fine}
    theirs["match_coarse"] |= {
        "thr": config.threshold,
        "border_rm": config.border,
        "match_type": config.match_type,
        "skh_prefilter": config.sinkhorn_prefilter,
        "sparse_spvs": False,
    }
    return theirs


@torch.no_grad()
def twins(config: LoFTRConfig) -> tuple[Any, LoFTR]:
    """Kornia's network and ours with equal random weights, made so that cells can be told apart.

    The normalisation layers have seen the images, and each cell keeps more of its own than the
    untrained transformer adds.
    """
    torch.manual_seed(3)
    theirs = kornia_loftr.LoFTR(pretrained=None, config=kornia_config(config))
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    image = images(1, (128, 128), (128, 128))[0]
    theirs.backbone(image)
    coarse, fine = theirs.eval().backbone(image)
    theirs.backbone.layer3_outconv.weight *= 2 / coarse.std()
    theirs.backbone.layer1_outconv2[3].weight *= 0.2 / fine.std()
    for layer in theirs.loftr_coarse.layers:
        layer.norm2.weight *= 0.2
    ours = LoFTR(config).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return theirs.double(), ours


def matched(theirs: Any, **data: Tensor) -> dict[str, Tensor]:
    """Kornia's answer in fp64, rounded: in fp32 its elu + 1 loses the digits of small weights of the attention."""
    torch.set_default_dtype(torch.float64)
    try:
        found = theirs({name: tensor.double() for name, tensor in data.items()})
    finally:
        torch.set_default_dtype(torch.float32)
    return {name: value.float() if value.is_floating_point() else value for name, value in found.items()}


def images(batch: int, hw0: tuple[int, int], hw1: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Smoothed noise, and the same seen eight pixels further."""
    noise = torch.rand(batch, 1, 320, 320, generator=torch.Generator().manual_seed(7))
    smooth = torch.nn.functional.avg_pool2d(noise, 5, stride=1)
    smooth = (smooth - smooth.amin()) / (smooth.amax() - smooth.amin())
    return smooth[..., : hw0[0], : hw0[1]], smooth[..., 8 : 8 + hw1[0], 8 : 8 + hw1[1]]


def assert_equal(theirs: dict[str, Tensor], ours: list[PairMatches], least: int) -> None:
    assert len(theirs["confidence"]) >= least
    assert sum(len(m.confidence) for m in ours) == len(theirs["confidence"])
    for b, found in enumerate(ours):
        rows = theirs["batch_indexes"] == b
        torch.testing.assert_close(found.anchors0, theirs["keypoints0"][rows] + 0.5, rtol=0, atol=0)
        torch.testing.assert_close(
            found.refined1, theirs["keypoints1"][rows] + 0.5, rtol=0, atol=4e-4
        )  # 1e-4 half windows
        torch.testing.assert_close(found.confidence, theirs["confidence"][rows], rtol=1e-3, atol=1e-5)


@torch.no_grad()
def confidence_matrices(theirs: Any, ours: LoFTR, image0: Tensor, image1: Tensor) -> tuple[Tensor, Tensor]:
    caught: dict[str, Tensor] = {}
    hook = theirs.coarse_matching.register_forward_hook(lambda module, args, out: caught.update(args[2]))
    matched(theirs, image0=image0, image1=image1)
    hook.remove()
    tokens = [ours.loftr_coarse.encode(ours.tokens(ours.backbone(image)[0])) for image in (image0, image1)]
    return caught["conf_matrix"].float(), ours.coarse_matching.log_confidence_matrix(*ours.loftr_coarse(*tokens)).exp()


@pytest.mark.parametrize("temp_bug_fix", [False, True])
@pytest.mark.parametrize(
    ("batch", "hw0", "hw1"),
    [
        (1, (160, 160), (160, 160)),
        (3, (120, 160), (120, 160)),
        (1, (128, 168), (168, 112)),
        (2, (133, 141), (122, 150)),
    ],
    ids=["one pair", "batch", "unequal sizes", "no multiples of 8"],
)
@torch.no_grad()
def test_matches(temp_bug_fix: bool, batch: int, hw0: tuple[int, int], hw1: tuple[int, int]) -> None:
    theirs, ours = twins(replace(SMALL, temp_bug_fix=temp_bug_fix))
    image0, image1 = images(batch, hw0, hw1)
    assert_equal(matched(theirs, image0=image0, image1=image1), ours(image0, image1), 50)
    expected, found = confidence_matrices(theirs, ours, image0, image1)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_published_size() -> None:
    theirs, ours = twins(replace(OUTDOOR, threshold=0.0))
    image0, image1 = images(1, (128, 136), (136, 128))
    assert_equal(matched(theirs, image0=image0, image1=image1), ours(image0, image1), 40)


@pytest.mark.parametrize("threshold", [0.03, 0.2])
@torch.no_grad()
def test_thresholds(threshold: float) -> None:
    """Above 0.02, ours goes another way: candidates in one sweep."""
    theirs, ours = twins(replace(SMALL, threshold=threshold))
    image0, image1 = images(2, (160, 160), (160, 160))
    assert_equal(matched(theirs, image0=image0, image1=image1), ours(image0, image1), 10)


@pytest.mark.parametrize("both", [False, True])
@torch.no_grad()
def test_masks(both: bool) -> None:
    theirs, ours = twins(SMALL)
    image0, image1 = images(1, (144, 160), (160, 152))
    mask0, mask1 = torch.ones(1, 144, 160), torch.ones(1, 160, 152)
    mask0[:, 104:] = 0
    mask1[:, :, 112:] = 0
    data = {"image0": image0, "image1": image1, "mask0": mask0} | ({"mask1": mask1} if both else {})
    cells0, cells1 = (m[:, ::8, ::8].flatten(1).bool() for m in (mask0, mask1))
    features0, features1 = ours.encode(image0, cells0), ours.encode(image1, cells1 if both else None)
    found = ours.match([(features0[0], features1[0])])
    assert_equal(matched(theirs, **data), found, 40)
    assert cells0[0, found[0].i_ids].all()


def log_optimal_transport(scores: Tensor, alpha: Tensor, iters: int) -> Tensor:
    """Sinkhorn's iterations on the whole matrix with dustbins, written from the paper (SuperGlue, section 3.2)."""
    b, m, n = scores.shape
    couplings = torch.nn.functional.pad(scores, (0, 1, 0, 1))
    couplings[:, m, :] = couplings[:, :, n] = alpha
    row_mass = torch.cat([torch.ones(m), torch.tensor([float(n)])]) / (m + n)
    column_mass = torch.cat([torch.ones(n), torch.tensor([float(m)])]) / (m + n)
    u, v = torch.zeros(b, m + 1), torch.zeros(b, n + 1)
    for _ in range(iters):
        u = row_mass.log() - torch.logsumexp(couplings + v[:, None, :], dim=2)
        v = column_mass.log() - torch.logsumexp(couplings + u[:, :, None], dim=1)
    return couplings + u[:, :, None] + v[:, None, :] + torch.tensor(float(m + n)).log()


@pytest.mark.parametrize("prefilter", [False, True])
@torch.no_grad()
def test_optimal_transport(prefilter: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    superglue = ModuleType("superglue")
    superglue.log_optimal_transport = log_optimal_transport  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kornia.feature.loftr.utils.superglue", superglue)
    theirs, ours = twins(replace(SMALL, match_type="sinkhorn", sinkhorn_prefilter=prefilter))
    for model in (theirs, ours):
        model.coarse_matching.bin_score.fill_(-6.0)
    image0, image1 = images(2, (136, 160), (160, 128))
    assert_equal(matched(theirs, image0=image0, image1=image1), ours(image0, image1), 10 if prefilter else 200)
