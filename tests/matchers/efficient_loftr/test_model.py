"""The network: batches, sizes, masks, memory."""

import numpy as np
import pytest
import torch
from torch import Tensor

from sfm.matchers.efficient_loftr.model import EfficientLoFTR, PairMatches
from sfm.matchers.efficient_loftr.naming import reparameterised
from tests.support.efficient_loftr import TINY, matching_state, speckle


@pytest.fixture(scope="module")
def model() -> EfficientLoFTR:
    model = EfficientLoFTR(TINY).eval()
    model.load_state_dict(reparameterised(matching_state()), strict=True)
    return model.requires_grad_(False)


def batch(*images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.stack(images))[:, None].float() / 255


def assert_same(found: PairMatches, expected: PairMatches) -> None:
    assert len(expected.i_ids) > 0
    assert torch.equal(found.i_ids, expected.i_ids)
    assert torch.equal(found.j_ids, expected.j_ids)
    torch.testing.assert_close(found.confidence, expected.confidence, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.points1, expected.points1, rtol=0, atol=1e-3)


def test_an_image_matches_itself_where_it_is(model):
    (pair,) = model(batch(speckle(160, 224)), batch(speckle(160, 224)))
    assert len(pair.i_ids) >= 100
    same = pair.i_ids == pair.j_ids
    assert same.float().mean() > 0.95
    assert (pair.points0 - pair.points1)[same].abs().median() < 0.1
    rows, columns = pair.i_ids // 28, pair.i_ids % 28
    anchors = torch.stack([8 * columns + 0.5, 8 * rows + 0.5], dim=1)
    assert (pair.points0 - anchors).abs().max() <= 3.5
    assert rows.min() >= 2
    assert rows.max() <= 17
    assert pair.confidence.min() > 0.2
    assert pair.confidence.max() <= 1.0001


def test_a_batch_is_its_pairs_one_by_one(model):
    a, b, c = speckle(96, 128), np.roll(speckle(96, 128), 32, axis=1), speckle(128, 160, 4)
    fa, fb = model.encode(batch(a, b))
    (fc,) = model.encode(batch(c))
    pairs = [(fa, fb), (fc, fc), (fa, fa), (fc, fa)]
    together = model.match(pairs)
    for found, pair in list(zip(together, pairs, strict=True))[:3]:
        assert_same(found, model.match([pair])[0])
    assert model.match([]) == []
    alone = model.encode(batch(a))[0]
    torch.testing.assert_close(fa.coarse, alone.coarse, rtol=0, atol=1e-4)


def test_masked_cells_match_nothing(model):
    image = batch(speckle(128, 160))
    valid = torch.ones(1, 16, 20, dtype=torch.bool)
    valid[:, :, 10:] = False
    (masked,), (whole,) = model.encode(image, valid), model.encode(image)
    for pair, cells in (((masked, whole), "i_ids"), ((whole, masked), "j_ids")):
        (found,) = model.match([pair])
        assert len(found.i_ids) >= 20
        assert (getattr(found, cells) % 20 < 10).all()
    (nothing,) = model.encode(image, torch.zeros(1, 16, 20, dtype=torch.bool))
    assert len(model.match([(nothing, whole)])[0].i_ids) == 0


def test_the_smallest_image(model):
    (found,) = model(batch(speckle(32, 32)), batch(speckle(96, 64)))
    assert len(found.i_ids) == 0
    assert found.points0.shape == (0, 2)


def test_memory_of_features(model):
    (features,) = model.encode(batch(speckle(64, 96)))
    assert features.nbytes == 4 * (8 * 12 * 64 + 16 * 24 * 16 + 32 * 48 * 12)
    assert features.hw == (8, 12)


def test_half_precision_is_near(model):
    """By autocast, as on a GPU; on a CPU it is bfloat16."""
    image = batch(speckle(160, 224))
    (exact,) = model(image, image)
    with torch.autocast("cpu", torch.bfloat16):
        (near,) = model(image, image)
    pairs = [set(zip(found.i_ids.tolist(), found.j_ids.tolist(), strict=True)) for found in (exact, near)]
    assert len(pairs[0] & pairs[1]) > 0.8 * len(pairs[0])
    assert near.points1.dtype == torch.float32
