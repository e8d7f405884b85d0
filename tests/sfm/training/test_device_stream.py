"""Pairs that the training device makes: of every source, the same whenever asked, and a run of them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sfm import weights
from sfm.cli import main as cli
from sfm.datasets.batched_pairs import reading
from sfm.datasets.batched_pairs.batch import PairBatch
from sfm.datasets.batched_pairs.made_textures import made_textures
from sfm.datasets.batched_pairs.mixture import Mixture
from sfm.datasets.batched_pairs.reading import read_mixture
from sfm.datasets.courtyard.demo_scene import copy_demo_scene
from sfm.datasets.training_pairs.depth_pairs import DepthSequence
from sfm.datasets.training_pairs.track_pairs import TrackScene
from sfm.matchers.loftr.config import COMPACT_WIDE
from sfm.training.device_stream import ROUND, device_batches
from sfm.training.options import StreamOptions
from sfm.training.steps.supervision import supervise
from tests.support.depth_sequence import roof_sequence
from tests.support.folders import SHARED

SIZE = (32, 64)
OPTIONS = StreamOptions(SIZE, batch_size=2)


@pytest.fixture(scope="module", autouse=True)
def few_textures() -> Iterator[None]:
    """Making them takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "NUM_MADE", 4)
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/, a roof/ with depth, and the demo's images/ and gt/. Read only."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "photos").mkdir()
    for k, image in enumerate(made_textures(4, seed=1)):
        Image.fromarray(image).save(folder / "photos" / f"{k}.png")
    roof_sequence(folder / "roof")
    copy_demo_scene(folder)
    return folder


@pytest.fixture(scope="module")
def mixture(folders: Path) -> Mixture:
    scene = TrackScene(folders / "images", (folders / "gt",))
    return read_mixture(folders / "photos", [scene], [DepthSequence.read(folders / "roof")], torch.device("cpu"))


def equal(one: PairBatch, other: PairBatch) -> bool:
    names = PairBatch.__dataclass_fields__
    return all(torch.equal(getattr(one, n).nan_to_num(-1), getattr(other, n).nan_to_num(-1)) for n in names)


@pytest.mark.slow
def test_a_batch_depends_on_its_step_alone(mixture):
    """In the middle of a round and in the next one, whatever was asked for before."""
    asked: list[int] = []

    def done(step: int) -> float:
        asked.append(step)
        return step / 40

    whole = list(islice(device_batches(mixture, OPTIONS, 0, done), ROUND + 2))
    late = list(islice(device_batches(mixture, OPTIONS, 3, done), ROUND - 1))
    assert asked == [0, ROUND, 0, ROUND]  # how hard pairs are is the same in all of a round
    assert all(equal(a, b) for a, b in zip(whole[3:], late, strict=True))
    assert not equal(whole[0], whole[1])
    other = next(device_batches(mixture, StreamOptions(SIZE, 2, rank=1, world=2), 0, done))
    assert not equal(whole[0], other)


@pytest.mark.slow
def test_truth_is_dense_or_points_and_of_its_own_pair(mixture):
    batches = list(islice(device_batches(mixture, OPTIONS, 0, lambda step: 0.5), 2 * ROUND))
    kinds = set()
    for batch in batches:
        assert batch.image0.shape == batch.image1.shape == (2, 1, *SIZE)
        assert 0 <= batch.image0.min() <= batch.image0.max() <= 1
        truth = supervise(batch)
        for b in range(2):
            points = bool((batch.b_ids == b).any())
            kinds.add(points)
            assert not (points and batch.known0[b].any())
            assert not (points and (truth.unmatched0[b] | truth.unmatched1[b]).any())
        assert truth.target0.abs().max() <= 4.001 if truth.num_dense else True
    assert kinds == {False, True}


@pytest.mark.slow
def test_a_run_on_the_device_carries_on(folders, tmp_path, capsys):
    """Of all sources at once, the new stage on top of known weights."""
    out = tmp_path / "run"
    command = ["train", "--on-device", "--device", "cpu", "--size", "32", "64", "--batch", "2", "--evaluations", "0"]
    command += ["--images", str(folders / "photos"), "--rgbd", str(folders / "roof"), "--init", "compact", "--wide"]
    command += ["--model", str(folders / "gt"), "--model-images", str(folders / "images"), "--out", str(out)]
    assert cli.main([*command, "--steps", "5"]) == 0
    assert cli.main([*command, "--steps", "9"]) == 0
    assert f"--weights {out / 'weights.safetensors'}" in capsys.readouterr().out
    with (out / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["5", "9"]
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())
    assert torch.load(out / "last.pt", weights_only=True)["step"] == 9
    assert weights.load(str(out / "weights.safetensors"), offline=True).model.config == COMPACT_WIDE


@pytest.mark.slow
def test_real_frames_give_pairs(tmp_path):
    rooms = SHARED / "train_scenes" / "hololens"
    if not rooms.is_dir():
        pytest.skip(f"{rooms} is absent; set LOFTR_SFM_SHARED")
    sequence = DepthSequence.read(rooms).frames(range(0, 60, 5))
    mixture = read_mixture(None, (), [sequence], torch.device("cpu"))
    batch = next(device_batches(mixture, StreamOptions((96, 128), 4), 0, lambda step: 0.0))
    assert supervise(batch).num_dense > 50
