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
from sfm.datasets.batched_pairs.batch import PairBatch
from sfm.datasets.courtyard.demo_scene import copy_demo_scene
from sfm.datasets.training_pairs.depth_pairs import DepthSequence
from sfm.datasets.training_pairs.track_pairs import TrackScene
from sfm.errors import BadOption
from sfm.training.options import StreamOptions
from sfm.training.sources import Sources
from sfm.training.steps.supervision import supervise
from sfm.training.worker_stream import PairStream, worker_batches

pytest.importorskip("open3d", reason="Open3D, which makes the pairs, cannot be loaded", exc_type=ImportError)

from tests.support.depth_sequence import roof_sequence
from tests.support.folders import ROOT

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


def tensors(batch: PairBatch) -> list[torch.Tensor]:
    return [getattr(batch, name) for name in batch.__dataclass_fields__]


def test_a_batch_depends_on_its_step_alone(images, scene):
    options = StreamOptions(SIZE, batch_size=2, workers=0)
    stream = PairStream(Sources(images, (scene,)), options)
    from_start = list(islice(worker_batches(stream, options, 0, "cpu"), 6))
    resumed = list(islice(worker_batches(stream, options, 3, "cpu"), 3))
    assert [len(batch.b_ids) > 0 for batch in from_start] == [False] * 4 + [True, False]
    for early, late in zip(from_start[3:], resumed, strict=True):
        assert all(
            torch.equal(a.nan_to_num(-1), b.nan_to_num(-1)) for a, b in zip(tensors(early), tensors(late), strict=True)
        )
    assert not torch.equal(from_start[0].image0, from_start[2].image0)


def test_workers_give_dense_pairs_or_points(images, scene):
    options = StreamOptions(SIZE, batch_size=2, workers=0, seed=1)
    made = worker_batches(PairStream(Sources(images, (scene,)), options), options, 0, "cpu")
    dense, *_, sparse = islice(made, 5)
    for batch in (dense, sparse):
        assert isinstance(batch, PairBatch)
        assert batch.image0.shape == batch.image1.shape == (2, 1, *SIZE)
        assert batch.image0.min() >= 0
        assert 0.5 < batch.image0.max() <= 1
        assert batch.warp01.shape == batch.warp10.shape == (2, 8, 12, 2)
    assert 0.1 < dense.warp01.isfinite().float().mean() <= 1
    assert dense.known0.all()
    assert len(dense.points0) == 0
    assert not sparse.warp01.isfinite().any()
    assert not sparse.known1.any()
    assert sparse.points0.shape == sparse.points1.shape == (len(sparse.b_ids), 2)
    assert sparse.b_ids.unique().tolist() == [0, 1]
    limit = torch.tensor([SIZE[1], SIZE[0]])
    assert ((sparse.points0 >= 0) & (sparse.points0 <= limit)).all()
    truth = supervise(dense)
    assert 0 < truth.num_dense == len(truth.b_ids)
    assert truth.unmatched0.any()
    truth = supervise(sparse)
    assert 0 < len(truth.b_ids) <= len(sparse.b_ids)
    assert not truth.unmatched0.any()
    assert not truth.unmatched1.any()


def test_depth_that_is_not_known_is_not_known_in_the_batch(tmp_path):
    options = StreamOptions(SIZE, batch_size=2, workers=0)
    sequence = DepthSequence.read(roof_sequence(tmp_path / "roof"))
    batch = next(worker_batches(PairStream(Sources(sequences=(sequence,)), options), options, 0, "cpu"))
    assert not batch.known0.all()
    assert (batch.known0 | ~batch.warp01.isfinite().all(dim=3)).all()  # what is seen is known


def test_sizes_that_the_network_cannot_take_are_refused():
    with pytest.raises(BadOption, match="multiples of 32"):
        StreamOptions(size=(64, 100))


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
def test_a_training_with_workers_comes_to_its_end(images, tmp_path):
    sizes = ["--size", "64", "96", "--batch", "1", "--steps", "2", "--workers", "1", "--device", "cpu"]
    program = [sys.executable, str(ROOT / "reconstruct.py"), "train"]
    command = [*program, "--photos", str(images), "--out", str(tmp_path / "run"), *sizes]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "weights.safetensors" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no signal for a parent's death")
def test_workers_end_with_a_training_that_is_killed(images, tmp_path):
    script = """
import os, sys, time
from pathlib import Path
from sfm.training.options import StreamOptions
from sfm.training.sources import Sources
from sfm.training.worker_stream import PairStream, worker_batches
options = StreamOptions(workers=1)
stream = worker_batches(PairStream(Sources(Path(sys.argv[1])), options), options, 0, "cpu")
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
        (["--seed", "-1"], "--seed -1: must not be negative"),
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


def test_a_sequence_with_depth_trains_and_is_evaluated_on_frames_that_it_was_not_trained_on(tmp_path, capsys):
    """The loss curves and the held-out AUC are files of the run, and a published configuration is trained likewise."""
    out = tmp_path / "run"
    command = ["train", "--rgbd", str(roof_sequence(tmp_path / "roof")), "--out", str(out), "--init", "compact"]
    command += ["--size", "96", "128", "--batch", "1", "--workers", "0", "--evaluations", "1", "--device", "cpu"]
    assert cli.main([*command, "--steps", "3", "--learning-rate", "1e-6"]) == 0
    said = capsys.readouterr().out
    assert f"held-out pairs: {out / 'held_out.csv'}" in said
    header, *rows = (out / "held_out.csv").read_text().split()
    assert header == "step,auc5,auc10,auc20"
    assert [row.split(",")[0] for row in rows] == ["0", "3"]
    areas = np.array([row.split(",")[1:] for row in rows], float)
    assert (areas[:, 2] > 0.5).all()  # the weights match textured roofs, and three small steps leave them as they were
    with Image.open(out / "curves.png") as curves:
        assert min(curves.size) > 300


def test_without_poses_there_is_no_held_out_auc(images, tmp_path, capsys):
    command = ["train", "--images", str(images), "--out", str(tmp_path / "run"), "--size", "64", "96", "--batch", "1"]
    assert cli.main([*command, "--workers", "0", "--steps", "1", "--device", "cpu"]) == 0
    assert "no held-out AUC: images alone have no true poses" in capsys.readouterr().out
    assert (tmp_path / "run" / "curves.png").is_file()
    assert not (tmp_path / "run" / "held_out.csv").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="torchrun's gloo is not tried there")
def test_processes_that_train_together_agree(images, tmp_path):
    """torchrun: both processes end with the same network, and only the first one writes."""
    script = tmp_path / "together.py"
    script.write_text("""
import sys
from pathlib import Path
from sfm.training.options import TrainOptions
from sfm.training import run
import torch
kept = []
made = run.network
def network(init, wide):
    kept.append(made(init, wide=wide))
    return kept[0]
run.network = network
leave = []
from sfm.training.steps.processes import Processes
options = TrainOptions(Path(sys.argv[2]), images=Path(sys.argv[1]), steps=2, batch=1, size=(64, 96), workers=0)
before = Processes.leave
def checked(group):
    flat = torch.cat([p.detach().reshape(-1) for p in kept[0].parameters()])
    other = flat.clone()
    torch.distributed.all_reduce(other)
    other /= group.world
    assert torch.allclose(flat, other, atol=1e-7), (flat - other).abs().max()
    Path(sys.argv[2], f"agree-{group.rank}-of-{group.world}").touch()
    before(group)
Processes.leave = checked
run.run_training(options)
""")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29611"]
    done = subprocess.run(
        [*command, str(script), str(images), str(tmp_path / "run")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "run").glob("agree-*")) == ["agree-0-of-2", "agree-1-of-2"]
    assert (tmp_path / "run" / "weights.safetensors").is_file()
