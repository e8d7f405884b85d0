"""A tiny training run: it learns, resumes, and writes weights that say what they are."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from sfm.datasets.batched_pairs.batch import PairBatch
from sfm.datasets.batched_pairs.scenes.scene_parts import Draws
from sfm.errors import BadFile
from sfm.matchers.loftr.config import COMPACT
from sfm.matchers.loftr.model import LoFTR
from sfm.training.steps.checkpoint import save_weights
from sfm.training.steps.loop import COLUMNS, Done, TrainingOptions, train
from sfm.training.steps.losses import batch_losses

TINY = replace(
    COMPACT, d_coarse=32, num_heads_coarse=2, coarse_layers=("self", "cross"), d_fine=16, num_heads_fine=2
)  # fmt: skip
HW = (8, 10)


def translation_batch(seed: int) -> PairBatch:
    """Two pairs of one texture, moved by whole and fractional cells."""
    generator = torch.Generator().manual_seed(seed)
    texture = torch.rand(2, 1, 14, 16, generator=generator)
    texture = torch.nn.functional.interpolate(texture, scale_factor=8, mode="bilinear")
    shift = torch.randint(-12, 13, (2,), generator=generator)
    x, y = (int(s) for s in shift)
    image0 = texture[..., 16:80, 16:96]
    image1 = texture[..., 16 - y : 80 - y, 16 - x : 96 - x]
    rows, columns = torch.meshgrid(torch.arange(HW[0]), torch.arange(HW[1]), indexing="ij")
    anchor = torch.stack([columns, rows], dim=2) * 8 + 0.5
    warp01, warp10 = (seen(anchor + sign * shift).expand(2, -1, -1, -1) for sign in (1, -1))
    known = torch.ones(2, *HW, dtype=torch.bool)
    return PairBatch.dense((image0, image1), (warp01, warp10), (known, known))


def seen(points: torch.Tensor) -> torch.Tensor:
    inside = ((points >= 0) & (points < torch.tensor([80, 64]))).all(dim=2, keepdim=True)
    return torch.where(inside, points, torch.nan)[None]


def batches(step: int, done: Done) -> Iterator[PairBatch]:
    del done
    while True:
        yield translation_batch(step % 4)
        step += 1


def options(out: Path, steps: int) -> TrainingOptions:
    return TrainingOptions(out, steps=steps, learning_rate=5e-3, fine_matches=32, ema=0.998, checkpoint_s=1e9)


def mean_loss(model: LoFTR) -> tuple[float, float]:
    with torch.no_grad():
        found = [
            batch_losses(model, translation_batch(seed), Draws.seeded(torch.device("cpu"), seed), fine_matches=32)
            for seed in range(4)
        ]
    return sum(losses.coarse.item() for losses in found) / 4, sum(losses.fine.item() for losses in found) / 4


def test_learns(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LoFTR(TINY)
    before = mean_loss(model)
    weights = train(model, batches, options(tmp_path, 40))
    after = mean_loss(model)
    assert after[0] < 0.8 * before[0]
    assert after[1] < before[1]
    assert weights == tmp_path / "weights.safetensors"
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["40"]
    assert tuple(rows[0]) == COLUMNS
    assert 0 < float(rows[0]["coarse_loss"]) < 10
    assert float(rows[0]["log_confidence"]) < 0


def saved(out: Path) -> dict[str, Any]:
    return torch.load(out / "last.pt", weights_only=True)


def assert_equal(one: Any, other: Any) -> None:
    """Of two nests of dictionaries and lists, to the last bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    else:
        assert one == other


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """To the last bit, moments and average too, with another state of torch's own random numbers."""
    asked: list[int] = []

    def stream(step: int, done: Done) -> Iterator[PairBatch]:
        asked.append(step)
        assert done(3) == 3 / 6
        return islice(batches(step, done), 2)

    torch.manual_seed(0)
    start = LoFTR(TINY).state_dict()
    for out, own in ((tmp_path / "whole", batches), *[(tmp_path / "parts", stream)] * 3):
        model = LoFTR(TINY)
        model.load_state_dict(start)
        train(model, own, options(out, 6))
    assert asked == [0, 2, 4]
    whole, parts = saved(tmp_path / "whole"), saved(tmp_path / "parts")
    assert whole.pop("elapsed_s") != parts.pop("elapsed_s")
    assert whole["step"] == 6
    assert_equal(whole, parts)


def test_a_run_that_is_killed_while_it_writes_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(state: object, part: Path) -> None:
        part.write_bytes(b"half")
        raise SystemExit

    train(LoFTR(TINY), lambda step, done: islice(batches(step, done), 2), options(tmp_path, 4))
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", killed)
        with pytest.raises(SystemExit):
            train(LoFTR(TINY), batches, options(tmp_path, 4))
    assert saved(tmp_path)["step"] == 2
    train(LoFTR(TINY), batches, options(tmp_path, 4))
    assert saved(tmp_path)["step"] == 4


def test_nothing_is_asked_of_the_stream_when_the_run_is_over(tmp_path: Path) -> None:
    def stream(step: int, done: Done) -> Iterator[PairBatch]:
        yield from islice(batches(step, done), 2 - step)
        raise AssertionError

    for _ in range(2):
        train(LoFTR(TINY), stream, options(tmp_path, 2))
    assert saved(tmp_path)["step"] == 2


def test_a_gradient_that_is_not_finite_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = translation_batch(0)
    bad = replace(good, image0=torch.full_like(good.image0, torch.inf))
    model = LoFTR(TINY)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, lambda step, done: iter([bad]), options(tmp_path, 2))
    assert saved(tmp_path)["step"] == 1
    assert_equal(before, model.state_dict())
    assert "step 0: its gradient is not finite" in caplog.text


def test_weights_carry_their_configuration(tmp_path: Path) -> None:
    model = LoFTR(TINY)
    save_weights(model, tmp_path / "w.safetensors")
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        config = json.loads(file.metadata()["config"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert config == json.loads(json.dumps(asdict(TINY)))
    LoFTR(TINY).load_state_dict(tensors, strict=True)
    assert not list(tmp_path.glob("*.part"))


def test_foreign_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(BadFile, match=r"last\.pt: not a checkpoint"):
        train(LoFTR(TINY), batches, options(tmp_path, 1))
    train(LoFTR(TINY), lambda step, done: iter(()), options(tmp_path / "wide", 1))
    with pytest.raises(BadFile, match=r"last\.pt: a checkpoint of another network"):
        train(LoFTR(replace(TINY, d_coarse=64)), batches, options(tmp_path / "wide", 1))


def test_a_checkpoint_of_an_older_version_is_refused_in_one_line(tmp_path: Path) -> None:
    """As earlier versions wrote it: two groups of parameters, and no number of the version."""
    model = LoFTR(TINY)
    groups = [{"params": list(model.parameters())[1:], "rate": 1e-3}, {"params": list(model.parameters())[:1]}]
    state = {"model": model.state_dict(), "average": model.state_dict(), "step": 3, "elapsed_s": 1.0}
    torch.save(state | {"optimiser": torch.optim.AdamW(groups).state_dict()}, tmp_path / "last.pt")
    with pytest.raises(BadFile, match=r"last\.pt: of another version .* give another --out") as refused:
        train(LoFTR(TINY), batches, options(tmp_path, 6))
    assert "\n" not in str(refused.value)


def test_average_follows_running_statistics(tmp_path: Path) -> None:
    config = replace(TINY, backbone="resnet_fpn", initial_dim=16, block_dims=(16, 16, 32))
    model = LoFTR(config)
    train(model, batches, options(tmp_path, 2))
    with safe_open(tmp_path / "weights.safetensors", "pt") as file:
        mean = file.get_tensor("backbone.bn1.running_mean")
    torch.testing.assert_close(mean, model.state_dict()["backbone.bn1.running_mean"])
    assert mean.abs().max() > 0


def test_ctrl_c_keeps_the_steps_that_are_done(tmp_path: Path) -> None:
    def interrupted(step: int, done: Done) -> Iterator[PairBatch]:
        yield translation_batch(0)
        yield translation_batch(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(LoFTR(TINY), interrupted, options(tmp_path, 40))
    assert saved(tmp_path)["step"] == 2
