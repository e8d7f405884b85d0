"""Checkpoints in every published form, and files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sfm.errors import BadFile
from sfm.matchers.efficient_loftr import checkpoint
from sfm.matchers.efficient_loftr.config import EfficientLoFTRConfig
from sfm.matchers.efficient_loftr.naming import reparameterised
from sfm.weights.first_load import record_of
from tests.support.efficient_loftr import TINY, random_state, save_checkpoint


def deployed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As the authors re-parameterise: blocks of the backbone only, the fine features keep their normalisation."""
    made = reparameterised(state)
    kept = {name: value for name, value in state.items() if ".rbr_" not in name}
    return kept | {name: value for name, value in made.items() if ".rbr_" in name}


@pytest.mark.parametrize("form", ["ckpt", "reparameterised", "safetensors", "bare", "ckpt named safetensors"])
def test_every_form_is_the_same_network(form: str, tmp_path: Path):
    state = random_state()
    if form == "ckpt":
        path = save_checkpoint(tmp_path / "a.ckpt", state)
    elif form == "reparameterised":
        path = save_checkpoint(tmp_path / "a.ckpt", deployed(state))
    elif form == "safetensors":
        path = save_checkpoint(tmp_path / "a.safetensors", state, prefix="")
    elif form == "bare":
        path = tmp_path / "a.pth"
        torch.save(state, path)
    else:
        path = save_checkpoint(tmp_path / "a.ckpt", state).rename(tmp_path / "a.safetensors")
    config, tensors = checkpoint.network_tensors(path)
    assert config == TINY
    expected = reparameterised(state)
    assert tensors.keys() == expected.keys()
    for name, value in tensors.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6)


def test_the_copy_of_transformers_gives_what_the_network_of_transformers_gives(tmp_path: Path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra: test)")
    theirs = transformers.EfficientLoFTRForKeypointMatching(transformers.EfficientLoFTRConfig()).eval()
    theirs.save_pretrained(tmp_path)
    matcher = checkpoint.load(str(tmp_path / "model.safetensors"))
    assert matcher.model.config == EfficientLoFTRConfig()
    assert matcher.name == "efficient-loftr-model"
    image = torch.rand(1, 1, 64, 96)
    with torch.no_grad():
        for found, expected in zip(matcher.model.backbone(image), theirs.efficientloftr.backbone(image), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def without(name: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in random_state().items() if key != name}


@pytest.mark.parametrize(
    ("state", "what"),
    [
        ({"a": torch.zeros(3)}, "is no EfficientLoFTR checkpoint"),
        (without("fine_preprocess.layer3_outconv.weight"), "layer3_outconv.weight is missing"),
        (
            without("backbone.layer2.0.rbr_1x1.bn.bias"),
            r"1 tensors missing, first backbone\.layer2\.0\.rbr_1x1\.bn\.bias",
        ),
        (random_state() | {"loftr_fine.a": torch.zeros(3)}, "1 tensors too many, first loftr_fine.a"),
        (
            random_state() | {"loftr_coarse.layers.1.merge.weight": torch.zeros(64, 1)},
            "1 of wrong shape|of wrong shape",
        ),
        (random_state() | {"loftr_coarse.layers.999.merge.weight": torch.zeros(1)}, "1000 of loftr_coarse"),
        (random_state() | {"loftr_coarse.layers.2.merge.weight": torch.zeros(1)}, "tensors"),
        (random_state() | {"fine_preprocess.layer3_outconv.weight": torch.zeros(20, 1)}, "is no EfficientLoFTR"),
        ({k: v.to(torch.int32) for k, v in random_state().items()}, "of type torch.int32"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(state: dict[str, torch.Tensor], what: str, tmp_path: Path):
    path = save_checkpoint(tmp_path / "w.ckpt", state)
    with pytest.raises(BadFile, match=what) as error:
        checkpoint.load(str(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_weights_of_another_network_are_named(tmp_path: Path):
    with pytest.raises(BadFile, match="outdoor: weights of another network; give --matcher loftr as well"):
        checkpoint.choose("outdoor")
    with pytest.raises(BadFile, match=r"absent\.ckpt: no such weights; give auto, eloftr-outdoor, or the path"):
        checkpoint.choose("absent.ckpt")


@pytest.mark.parametrize("name", ["auto", "eloftr-outdoor"])
def test_a_file_without_a_published_checksum_is_held_to_its_first_load(name: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("LOFTR_SFM_CACHE", str(tmp_path))
    with pytest.raises(BadFile, match=r"eloftr-outdoor: not on this machine, and the network is forbidden; put https"):
        checkpoint.choose(name, offline=True)
    folder = tmp_path / "weights"
    folder.mkdir()
    path = save_checkpoint(folder / "eloftr_outdoor.ckpt", random_state())
    first = checkpoint.choose(name, offline=True)
    assert (first.name, first.path) == ("outdoor", path)
    assert "recorded at this first load" in first.reason
    assert "unchanged since it was first loaded" in checkpoint.choose(name, offline=True).reason
    assert checkpoint.load(name, offline=True).name == "efficient-loftr-outdoor"
    save_checkpoint(path, random_state(seed=1))
    with pytest.raises(BadFile, match=r"differs from when it was first loaded; delete it"):
        checkpoint.choose(name, offline=True)
    record_of(path).unlink()
    checkpoint.choose(name, offline=True)
