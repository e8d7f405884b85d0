"""The network as a whole: batches, masks, precision, chunks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sfm.matchers.loftr import model as model_module
from sfm.matchers.loftr.config import COMPACT, OUTDOOR
from sfm.matchers.loftr.model import ImageFeatures, LoFTR, PairMatches, anchors

SMALL = replace(
    OUTDOOR, initial_dim=8, block_dims=(8, 16, 32), d_coarse=32, num_heads_coarse=4, d_fine=8, num_heads_fine=2,
    coarse_layers=("self", "cross", "self", "cross"), threshold=0.0, border=1,
)  # fmt: skip


def network() -> LoFTR:
    torch.manual_seed(1)
    return LoFTR(SMALL).eval().requires_grad_(False)


def image(h: int, w: int, seed: int) -> torch.Tensor:
    return torch.rand(1, 1, h, w, generator=torch.Generator().manual_seed(seed))


def assert_same(found: PairMatches, expected: PairMatches) -> None:
    assert len(expected.i_ids) > 0
    assert torch.equal(found.i_ids, expected.i_ids)
    assert torch.equal(found.j_ids, expected.j_ids)
    for name in ("confidence", "anchors0", "anchors1", "refined0", "refined1"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-4)


def test_pairs_of_many_sizes_equal_one_by_one() -> None:
    """Padding in a batch changes nothing."""
    net = network()
    sizes = [(64, 96), (96, 64), (48, 56), (64, 96)]
    features = [net.encode(image(*hw, seed))[0] for seed, hw in enumerate(sizes)]
    pairs = [(features[0], features[1]), (features[2], features[3]), (features[1], features[2])]
    for found, pair in zip(net.match(pairs), pairs, strict=True):
        assert_same(found, net.match([pair])[0])


def test_padded_image_matches_as_the_unpadded() -> None:
    """Tokens beyond the image, masked, change nothing in the matches of those within."""
    net = network()
    f0, f1 = net.encode(image(64, 96, 0))[0], net.encode(image(64, 72, 1))[0]
    junk = torch.randn(3 * 12, 32)
    valid = torch.arange(8 * 12 + len(junk)) < 8 * 12
    padded = ImageFeatures(torch.cat([f0.coarse, junk]), torch.cat([f0.fine, torch.randn(12, 52, 8)]), (11, 12), valid)
    found, expected = net.match([(padded, f1)])[0], net.match([(f0, f1)])[0]
    inside = expected.i_ids // 12 < 7  # the taller grid's border lies elsewhere
    rows = found.i_ids // 12 < 7
    assert inside.any()
    assert torch.equal(found.i_ids[rows], expected.i_ids[inside])
    torch.testing.assert_close(found.refined1[rows], expected.refined1[inside], rtol=1e-4, atol=1e-4)


def test_masked_cells_never_match() -> None:
    net = network()
    valid = torch.arange(8 * 12)[None] % 12 < 6
    f0, f1 = net.encode(image(64, 96, 0), valid)[0], net.encode(image(64, 96, 1))[0]
    found = net.match([(f0, f1)])[0]
    assert len(found.i_ids) > 0
    assert valid[0, found.i_ids].all()


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    pair = (net.encode(image(96, 96, 0))[0], net.encode(image(96, 96, 1))[0])
    expected = net.match([pair])[0]
    assert len(expected.i_ids) > 3
    monkeypatch.setattr(model_module, "FINE_CHUNK", 3)
    assert_same(net.match([pair])[0], expected)


def test_anchors() -> None:
    assert anchors(torch.tensor([0, 7, 13]), 6).tolist() == [[0.5, 0.5], [8.5, 8.5], [8.5, 16.5]]


def test_forward_equals_encode_and_match() -> None:
    net, image0, image1 = network(), image(64, 80, 0), image(64, 80, 1)
    assert_same(net(image0, image1)[0], net.match([(net.encode(image0)[0], net.encode(image1)[0])])[0])


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_half_precision(device: str) -> None:
    """Fine maps are kept in half precision; tokens, confidences and positions in fp32."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    dtype = torch.float16 if device == "cuda" else torch.bfloat16
    net, image0 = network().to(device), image(96, 96, 0).to(device)
    exact = net(image0, image0)[0]
    with torch.autocast(device, dtype):
        features = net.encode(image0)[0]
        found = net.match([(features, features)])[0]
    assert features.fine.dtype == dtype
    assert features.coarse.dtype == torch.float32
    assert {t.dtype for t in (found.confidence, found.refined0, found.refined1)} == {torch.float32}
    same = {tuple(ids) for ids in zip(exact.i_ids.tolist(), exact.j_ids.tolist(), strict=True)}
    kept = sum(ids in same for ids in zip(found.i_ids.tolist(), found.j_ids.tolist(), strict=True))
    assert kept >= 0.5 * len(same)


def test_compact_learns_temperature_and_gain() -> None:
    state = LoFTR(COMPACT).state_dict()
    assert state["coarse_matching.log_temperature"].exp().item() == pytest.approx(0.1)
    assert state["position_gain"].item() == pytest.approx(0.1)
