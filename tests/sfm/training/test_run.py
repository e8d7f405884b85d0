"""The verb `train` on tiny images: the same batches whenever asked, and weights that matching can load."""

from __future__ import annotations

import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from sfm import weights
from sfm.cli import main as cli
from sfm.datasets.courtyard.demo_scene import copy_demo_scene
from sfm.datasets.training_pairs.track_pairs import TrackScene
from sfm.errors import BadOption
from sfm.training.run import TrainingRun, batches

pytest.importorskip("open3d", reason="Open3D, which makes the pairs, cannot be loaded", exc_type=ImportError)

from sfm.matchers.loftr.training.loop import Batch, DenseBatch, SparseBatch

SIZE = (64, 96)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two smooth random images."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(2):
        noise = sum(gaussian_filter(rng.normal(size=(160, 200)), s) * s for s in (2, 5, 15))
        grey = 128 + 45 * noise / np.std(noise)
        Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> TrackScene:
    """The demo's images with their true tracks."""
    out = tmp_path_factory.mktemp("scene")
    copy_demo_scene(out)
    return TrackScene(out / "images", (out / "gt",))


def tensors(batch: Batch) -> list[torch.Tensor]:
    return [getattr(batch, name) for name in batch.__dataclass_fields__]


def test_a_batch_depends_on_its_step_alone(images, scene):
    run = TrainingRun(images, (scene,), SIZE, batch_size=2, scenes_every=2, workers=0)
    from_start = list(islice(batches(run, 0, "cpu"), 4))
    resumed = list(islice(batches(run, 2, "cpu"), 2))
    assert [type(batch) for batch in from_start] == [DenseBatch, SparseBatch, DenseBatch, SparseBatch]
    for early, late in zip(from_start[2:], resumed, strict=True):
        assert all(
            torch.equal(a.nan_to_num(-1), b.nan_to_num(-1)) for a, b in zip(tensors(early), tensors(late), strict=True)
        )
    assert not torch.equal(from_start[0].image0, from_start[2].image0)


def test_batches_hold_what_the_loop_expects(images, scene):
    run = TrainingRun(images, (scene,), SIZE, batch_size=2, scenes_every=2, workers=0, seed=1)
    dense, sparse = islice(batches(run, 0, "cpu"), 2)
    for batch in (dense, sparse):
        assert batch.image0.shape == batch.image1.shape == (2, 1, *SIZE)
        assert batch.image0.min() >= 0
        assert 0.5 < batch.image0.max() <= 1
    assert dense.warp01.shape == dense.warp10.shape == (2, 8, 12, 2)
    assert 0.1 < dense.warp01.isfinite().float().mean() <= 1
    assert sparse.points0.shape == sparse.points1.shape == (len(sparse.b_ids), 2)
    assert sparse.b_ids.unique().tolist() == [0, 1]
    limit = torch.tensor([SIZE[1], SIZE[0]])
    assert ((sparse.points0 >= 0) & (sparse.points0 <= limit)).all()


def test_sizes_that_the_network_cannot_take_are_refused(images):
    with pytest.raises(BadOption, match="multiples of 32"):
        TrainingRun(images, size=(64, 100))


def test_trained_weights_can_be_used_and_training_carries_on(images, tmp_path, capsys):
    out = tmp_path / "run"
    command = [
        "train",
        "--photos",
        str(images),
        "--out",
        str(out),
        "--size",
        "64",
        "96",
        "--batch",
        "1",
        "--workers",
        "0",
    ]
    assert cli.main([*command, "--steps", "3", "--device", "cpu"]) == 0
    assert f"--weights {out / 'weights.safetensors'}" in capsys.readouterr().out
    assert torch.load(out / "last.pt", weights_only=True)["step"] == 3
    matcher = weights.load(str(out / "weights.safetensors"), device="cpu", offline=True)
    image = np.asarray(Image.open(images / "0.png"))
    (matches,) = matcher.match([tuple(matcher.encode([image, image]))])
    assert ((matches.confidence >= 0) & (matches.confidence <= 1)).all()
    first = (out / "weights.safetensors").read_bytes()
    assert cli.main([*command, "--steps", "4", "--device", "cpu"]) == 0
    assert torch.load(out / "last.pt", weights_only=True)["step"] == 4
    assert (out / "weights.safetensors").read_bytes() != first


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no signal for a parent's death")
def test_workers_end_with_a_training_that_is_killed(images, tmp_path):
    script = """
import os, sys, time
from pathlib import Path
from sfm.training.run import TrainingRun, batches
stream = batches(TrainingRun(Path(sys.argv[1]), workers=1), 0, "cpu")
next(stream)
Path(sys.argv[2]).write_text(Path(f"/proc/self/task/{os.getpid()}/children").read_text())
time.sleep(3)  # the worker fills its queue
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", script, str(images), str(tmp_path / "workers")], check=False)
    workers = (tmp_path / "workers").read_text().split()
    assert done.returncode == -9
    assert workers
    deadline = time.monotonic() + 30
    while (alive := [pid for pid in workers if is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive


def is_alive(pid: str) -> bool:
    """Whether there is such a process, and not only its exit code that nobody has asked for."""
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_absent_images_are_named(tmp_path, capsys):
    assert cli.main(["train", "--photos", str(tmp_path / "absent"), "--out", str(tmp_path / "run")]) == 2
    assert str(tmp_path / "absent") in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batch", "0"], "--batch 0: must be at least 1"),
        (["--steps", "-1"], "--steps -1: must not be negative"),
        (["--hours", "0"], "--hours 0.0: must be positive"),
        (["--workers", "-1"], "--workers -1: must not be negative"),
        (["--learning-rate", "-3"], "--learning-rate -3.0: must be positive"),
        (["--size", "0", "0"], "--size 0 0: both must be multiples of 32"),
        (["--photos", "absent"], "absent: no such folder"),
        (["--out", "file"], "file: is a file"),
    ],
)
def test_bad_options_are_one_line_before_any_work(images, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert cli.main(["train", "--photos", str(images), "--out", "run", *words]) == 2
    assert capsys.readouterr().err.startswith(f"loftr-sfm: error: {message}")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
