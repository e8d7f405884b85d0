"""batched: its losses against plain ones, its windows against the model's, and a try of a run that goes on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from sfm.datasets.batched_pairs.batch import PairBatch
from sfm.datasets.batched_pairs.made_textures import made_textures
from sfm.matchers.loftr.config import COMPACT, COMPACT_WIDE
from sfm.matchers.loftr.fine_matching import padded_fine_map, windows_at
from sfm.matchers.loftr.model import LoFTR
from sfm.training import batched_steps as batched
from sfm.training import timed_run


def identity_batch(num: int = 2, points: torch.Tensor | None = None) -> PairBatch:
    """Pairs of equal images of 32 x 64 px, but the last row of cells, which sees nothing."""
    image = torch.rand(num, 1, 32, 64)
    y, x = torch.meshgrid(torch.arange(4) * 8 + 0.5, torch.arange(8) * 8 + 0.5, indexing="ij")
    warp = torch.stack([x, y], dim=-1).repeat(num, 1, 1, 1)
    warp[:, -1] = torch.nan
    known = torch.ones(num, 4, 8, dtype=torch.bool)
    known[:, :, 0] = False
    points = torch.zeros(0, 2) if points is None else points
    return PairBatch(image, image, warp, warp, known, known, points, points, torch.zeros(len(points), dtype=torch.long))


def test_truth_leaves_out_what_is_not_known():
    truth = batched.truth_of(identity_batch())
    assert len(truth.b_ids) == 2 * 24
    assert torch.equal(truth.i_ids, truth.j_ids)
    assert truth.dense.unmatched0.sum() == 2 * 7  # the last row, without its first cell
    assert truth.weight.tolist() == pytest.approx([1 / math.sqrt(24)] * 48)


def test_sparse_points_join_with_the_weight_of_their_nearness():
    points = torch.tensor([[8.5, 24.5], [12.0, 24.5], [-30.0, 2.0]])
    truth = batched.truth_of(identity_batch(points=points))
    assert truth.i_ids[-3:-1].tolist() == [25, 25]
    assert truth.weight[-1] == 0
    assert truth.weight[-2] / truth.weight[-3] == pytest.approx(
        math.exp(-2 * 3.5**2 / 32), rel=1e-3
    )  # px² on both sides


def test_focal_loss_against_the_full_matrix():
    torch.manual_seed(0)
    feat0, feat1 = torch.randn(2, 32, 16), torch.randn(2, 32, 16)
    truth = batched.truth_of(identity_batch())
    loss, confidence = batched.focal_loss(batched.coarse_terms(feat0, feat1), truth)
    similarity = torch.einsum("blc,bsc->bls", feat0, feat1)
    matrix = similarity.log_softmax(1) + similarity.log_softmax(2)
    true = matrix[truth.b_ids, truth.i_ids, truth.j_ids]
    positive = -((1 - true.exp()) * true).mean()
    negative = torch.zeros(())
    for axis, unmatched in ((2, truth.dense.unmatched0), (1, truth.dense.unmatched1)):
        claim = matrix.amax(axis)[unmatched].exp()
        negative = negative - (torch.log1p(-claim) * claim).sum()
    assert confidence.item() == pytest.approx(true.mean().item(), rel=1e-5)
    assert loss.item() == pytest.approx((positive + 0.5 * negative / 48).item(), rel=1e-4)


def test_windows_of_a_batch_are_those_of_each_image():
    maps = torch.rand(3, 5, 16, 32)
    b_ids, cells = torch.tensor([2, 0, 1, 2]), torch.tensor([0, 31, 9, 17])
    found = batched.windows_of_batch(maps, b_ids, cells, 8, 5)
    for row, b, cell in zip(found, b_ids, cells, strict=True):
        torch.testing.assert_close(row, windows_at(padded_fine_map(maps[b], 5), cell[None], 8, 5)[0])


def test_a_batch_without_matches_has_a_finite_loss():
    batch = identity_batch()
    none = torch.full_like(batch.warp01, torch.nan)
    batch = PairBatch.dense((batch.image0, batch.image1), (none, none), (batch.known0, batch.known1))
    losses = batched.losses(LoFTR(COMPACT), batch, batched.truth_of(batch))
    assert all(torch.isfinite(value) for value in losses)


def test_rates_warm_up_and_fall():
    rates = batched.Rates(warmup=0.1, last=0.0)
    assert [rates.factor(d) for d in (0.05, 0.1, 0.55, 1.0)] == pytest.approx([0.5, 1, 0.5, 0], abs=1e-6)
    groups = rates.groups(LoFTR(COMPACT_WIDE))
    assert sum(len(g["params"]) for g in groups) == len(list(LoFTR(COMPACT_WIDE).parameters()))
    assert {g["rate"] for g in groups} == {rates.context, rates.transformer, rates.backbone}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of data with two of everything."""
    folder = tmp_path_factory.mktemp("data")
    images = made_textures(8)
    for name in ("photos", "scenes", "frames", "depth"):
        (folder / name).mkdir()
    for k in range(2):
        Image.fromarray(images[k]).save(folder / "photos" / f"{k}.jpg")
        Image.fromarray(images[2 + k]).save(folder / "scenes" / f"{k}.jpg")
        Image.fromarray(images[4]).save(folder / "frames" / f"{k}.jpg")
        Image.fromarray(np.full((192, 192), 500, np.uint16)).save(folder / "depth" / f"{k}.png")
    points = np.random.default_rng(0).integers(60 * 32, 300 * 32, (1, 20, 4)).astype(np.uint16)
    names = np.array(["0.jpg", "1.jpg"])
    np.savez(folder / "tracks.npz", names=names, pairs=np.array([[0, 1]]), points=points, weight=np.ones(1, np.float32))
    pose = np.tile(np.eye(4, dtype=np.float32)[:3], (2, 1, 1))
    pose[1, 0, 3] = -0.1
    K = np.array([[300, 0, 191.5], [0, 300, 191.5], [0, 0, 1]], np.float32)
    one = np.ones(1, np.float32)
    np.savez(folder / "frames.npz", cam_from_world=pose, K=K, pairs=np.array([[0, 1]]), angle_deg=one, weight=one)
    return folder


def test_a_run_writes_weights_that_load_and_goes_on_from_them(data, tmp_path):
    first = tmp_path / "first"
    common = [
        "--device",
        "cpu",
        "--no-compile",
        "--size",
        "32",
        "64",
        "--batch",
        "8",
        "--round",
        "1",
        "--log-every",
        "1",
    ]
    shares = ["--shares", "3", "0", "0", "0", "3", "2"]
    start = tmp_path / "start.safetensors"
    from sfm.matchers.loftr.training.loop import save_weights

    save_weights(LoFTR(COMPACT), start)
    timed_run.run(timed_run.parse([str(data), str(first), "--init", str(start), "--steps", "2", *common, *shares]))
    assert (first / "log.csv").read_text().count("\n") >= 2
    from sfm import weights

    assert weights.load(str(first / "weights.safetensors")).model.config == COMPACT_WIDE
    again = [
        "--init",
        str(first / "model.safetensors"),
        "--moments",
        str(first / "moments.safetensors"),
        "--steps",
        "1",
    ]
    timed_run.run(timed_run.parse([str(data), str(tmp_path / "second"), *again, *common, *shares]))
    before, after = (
        timed_run.read_network(tmp_path / name / "model.safetensors").state_dict() for name in ("first", "second")
    )
    moved = max(float((before[key] - after[key]).abs().max()) for key in before)
    assert 0 < moved < 0.1
