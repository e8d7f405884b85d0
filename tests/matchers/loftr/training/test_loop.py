"""A tiny training run: it learns, resumes, and writes weights that say what they are."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from sfm.errors import BadFile
from sfm.matchers.loftr.config import COMPACT
from sfm.matchers.loftr.model import LoFTR
from sfm.matchers.loftr.training.loop import (
    Batch,
    DenseBatch,
    SparseBatch,
    TrainingOptions,
    batch_losses,
    save_weights,
    train,
)

TINY = replace(
    COMPACT, d_coarse=32, num_heads_coarse=2, coarse_layers=("self", "cross"), d_fine=16, num_heads_fine=2
)  # fmt: skip
HW = (8, 10)


def translation_batch(seed: int) -> DenseBatch:
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
    return DenseBatch(image0, image1, *(seen(anchor + sign * shift).expand(2, -1, -1, -1) for sign in (1, -1)))


def seen(points: torch.Tensor) -> torch.Tensor:
    inside = ((points >= 0) & (points < torch.tensor([80, 64]))).all(dim=2, keepdim=True)
    return torch.where(inside, points, torch.nan)[None]


def batches(step: int) -> Iterator[Batch]:
    while True:
        yield translation_batch(step % 4)
        step += 1


def options(out: Path, steps: int) -> TrainingOptions:
    return TrainingOptions(
        out, steps=steps, learning_rate=5e-3, backbone_rate=5e-3, warmup_steps=5, fine_matches=32, checkpoint_s=1e9
    )


def mean_loss(model: LoFTR) -> tuple[float, float]:
    torch.manual_seed(0)
    with torch.no_grad():
        losses = [batch_losses(model, translation_batch(seed), options(Path(), 1)) for seed in range(4)]
    return tuple(float(sum(column)) / 4 for column in zip(*losses, strict=True))  # type: ignore[return-value]


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


def test_resumes_where_it_stopped(tmp_path: Path) -> None:
    torch.manual_seed(0)
    asked: list[int] = []

    def stream(step: int) -> Iterator[Batch]:
        asked.append(step)
        return iter([translation_batch(step), translation_batch(step + 1)])

    def ended(step: int) -> Iterator[Batch]:
        asked.append(step)
        return iter(())

    train(LoFTR(TINY), stream, options(tmp_path, 100))
    first = torch.load(tmp_path / "last.pt", weights_only=True)
    other = LoFTR(TINY)
    train(other, ended, options(tmp_path, 100))
    again = torch.load(tmp_path / "last.pt", weights_only=True)
    assert asked == [0, 2]
    assert first["step"] == again["step"] == 2
    for name, value in first["model"].items():
        assert torch.equal(value, again["model"][name])
        assert torch.equal(value, other.state_dict()[name])
    moments = [state["optimiser"]["state"][0]["exp_avg"] for state in (first, again)]
    assert torch.equal(moments[0], moments[1])


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
    with pytest.raises(BadFile, match=r"last\.pt"):
        train(LoFTR(TINY), batches, options(tmp_path, 1))
    train(LoFTR(TINY), lambda step: iter(()), options(tmp_path / "wide", 1))
    with pytest.raises(BadFile, match=r"last\.pt"):
        train(LoFTR(replace(TINY, d_coarse=64)), batches, options(tmp_path / "wide", 1))


def test_sparse_batch_has_no_fine_loss() -> None:
    dense = translation_batch(0)
    points = torch.tensor([[20.0, 20.0], [40.0, 30.0], [-5.0, 3.0]])
    batch = SparseBatch(dense.image0, dense.image1, points, points + 1, torch.tensor([0, 1, 1]))
    coarse, fine = batch_losses(LoFTR(TINY), batch, options(Path(), 1))
    assert coarse > 0
    assert fine == 0


def test_average_follows_running_statistics(tmp_path: Path) -> None:
    config = replace(TINY, backbone="resnet_fpn", initial_dim=16, block_dims=(16, 16, 32))
    model = LoFTR(config)
    train(model, batches, options(tmp_path, 2))
    with safe_open(tmp_path / "weights.safetensors", "pt") as file:
        mean = file.get_tensor("backbone.bn1.running_mean")
    torch.testing.assert_close(mean, model.state_dict()["backbone.bn1.running_mean"])
    assert mean.abs().max() > 0


def test_ctrl_c_keeps_the_steps_that_are_done(tmp_path: Path) -> None:
    def interrupted(step: int) -> Iterator[Batch]:
        yield translation_batch(0)
        yield translation_batch(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(LoFTR(TINY), interrupted, options(tmp_path, 40))
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 2
