"""Sources read from files: the same frames, poses and points as the files have, reduced to what is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from sfm.datasets.batched_pairs import reading
from sfm.datasets.batched_pairs.batch import Difficulty
from sfm.datasets.batched_pairs.reading import read_mixture
from sfm.datasets.batched_pairs.rgbd_pairs import rgbd_pairs
from sfm.datasets.batched_pairs.scenes.scene_parts import Draws
from sfm.datasets.batched_pairs.track_pairs import track_pairs
from sfm.datasets.courtyard.demo_scene import copy_demo_scene
from sfm.datasets.training_pairs.depth_pairs import DepthSequence
from sfm.datasets.training_pairs.textures import image_size
from sfm.datasets.training_pairs.track_pairs import TrackDifficulty, TrackScene, candidate_pairs
from sfm.errors import BadFile
from tests.support.depth_sequence import FOCAL, HEIGHT, NUM, WIDTH, depth_of, frame_pose, roof_sequence

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def few_textures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making them takes seconds."""
    monkeypatch.setattr(reading, "NUM_MADE", 4)


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> DepthSequence:
    """The exact roof. Read only."""
    return DepthSequence.read(roof_sequence(tmp_path_factory.mktemp("sequence") / "roof"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> TrackScene:
    """The demo's images with their true tracks. Read only."""
    out = tmp_path_factory.mktemp("scene")
    copy_demo_scene(out)
    return TrackScene(out / "images", (out / "gt",))


def roof_errors(sequence: DepthSequence, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Of points of frame 7 seen from frame 9: distance from the exact place, px of what is kept, and relative depth."""
    frames = read_mixture(None, (), [sequence], CPU).frames
    assert frames is not None
    rng = np.random.default_rng(0)
    xy = rng.uniform([40, 40], [WIDTH - 40, HEIGHT - 40], (50, 2))
    z = depth_of(7, xy)
    rays = np.concatenate([(xy - (WIDTH / 2, HEIGHT / 2)) / FOCAL, np.ones((50, 1))], axis=1) * z[:, None]
    poses = frame_pose(7), frame_pose(9)
    local = ((rays - poses[0][:, 3]) @ poses[0][:, :3]) @ poses[1][:, :3].T + poses[1][:, 3]
    expected = FOCAL * local[:, :2] / local[:, 2:] + (WIDTH / 2, HEIGHT / 2)
    index = torch.tensor([[7]])[0]
    kept = torch.from_numpy(scale * xy).float()[None]
    depth, smooth = frames.depth_at(index, kept)
    there, far = frames.project(index + 2, frames.world(index, kept, depth))
    assert smooth.float().mean() > 0.9
    ok = smooth[0].numpy()
    ratio = far[0].numpy()[ok] / local[ok, 2]
    return np.linalg.norm(there[0].numpy() / scale - expected, axis=1)[ok], ratio


def test_frames_are_where_they_are(sequence):
    error, ratio = roof_errors(sequence, 1.0)
    assert np.median(error) < 0.5
    assert np.abs(ratio - 1).max() < 0.02


def test_frames_that_are_reduced_stay_where_they_are(sequence, monkeypatch):
    monkeypatch.setattr(reading, "SIDE", 160)
    error, ratio = roof_errors(sequence, 0.5)
    assert np.median(error) < 1
    assert np.abs(ratio - 1).max() < 0.04


def test_scenes_without_a_unit_get_one(sequence):
    """Of a thousandth of the size."""
    poses = sequence.world_from_cam.copy()
    poses[:, :3, 3] = 1e-3 * poses[:, :3, 3]
    shrunk = replace(sequence, world_from_cam=poses, metric=False)
    frames = read_mixture(None, (), [shrunk], CPU).frames
    assert frames is not None
    assert frames.depth[frames.depth > 0].float().median() == pytest.approx(reading.MEDIAN_DEPTH, rel=0.1)


def test_sequences_of_different_sizes_are_together(sequence, tmp_path):
    other = DepthSequence.read(roof_sequence(tmp_path / "roof", depth_every=4))
    mixture = read_mixture(None, (), [sequence, other], CPU)
    frames = mixture.frames
    assert frames is not None
    assert mixture.textures.num_photos == 0
    assert frames.first == mixture.textures.num_all == 4
    assert len(mixture.bank.mean) == 4 + 2 * NUM
    assert frames.depth.shape == (2 * NUM, HEIGHT // 2, WIDTH // 2)
    assert frames.depth_step[0].tolist() == [2, 2]
    assert frames.depth_step[NUM].tolist() == [4, 4]
    sides = frames.pairs >= NUM
    assert torch.equal(sides[:, 0], sides[:, 1])  # no pair of two sequences
    assert sides.any()
    assert frames.angle_deg.max() <= 75
    total = frames.weight[sides[:, 0]].sum()
    assert total == pytest.approx(float(frames.weight[~sides[:, 0]].sum()), rel=1e-4)
    batch = rgbd_pairs(Draws.seeded(CPU, 0), mixture.bank, frames, 12, (96, 128), Difficulty(1.3, 0.3, 1.5))
    assert batch.warp01.isfinite().float().mean() > 0.1


def test_warps_of_frames_show_the_same(sequence):
    mixture = read_mixture(None, (), [sequence], CPU)
    assert mixture.frames is not None
    batch = rgbd_pairs(Draws.seeded(CPU, 1), mixture.bank, mixture.frames, 16, (96, 128), Difficulty(0.4, 0.0, 1.2))
    ok = batch.warp01.isfinite().all(dim=3)
    grid = batch.warp01.nan_to_num(0) / torch.tensor([64.0, 48.0]) - 1
    there = torch.nn.functional.grid_sample(batch.image1, grid, align_corners=False)[:, 0]
    here = batch.image0[:, 0, ::8, ::8]
    assert ok.sum() > 500
    assert torch.corrcoef(torch.stack([here[ok], there[ok]]))[0, 1] > 0.8


def test_tracks_have_the_points_of_their_model(scene, monkeypatch):
    monkeypatch.setattr(reading, "SIDE", 300)
    held = scene.without(8)
    mixture = read_mixture(None, [held], (), CPU)
    tracks = mixture.tracks
    assert tracks is not None
    candidates = candidate_pairs([held], TrackDifficulty())
    assert len(tracks.weight) == len(candidates)
    assert mixture.textures.num_photos == len({path for c in candidates for path in (c.path0, c.path1)})
    scale = 300 / max(image_size(candidates[0].path0))
    first = tracks.points[0][tracks.points[0].isfinite().all(dim=1)]
    assert len(first) == min(reading.MAX_POINTS, len(candidates[0].points0))
    own = np.hstack([candidates[0].points0, candidates[0].points1]) * scale
    distance = np.linalg.norm(own[None] - first.numpy()[:, None], axis=2).min(axis=1)
    assert distance.max() < 0.5
    batch = track_pairs(Draws.seeded(CPU, 0), mixture.bank, tracks, 8, (96, 128), Difficulty())
    assert len(batch.b_ids) > 20


def test_what_is_kept_is_bounded(sequence, scene, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_IMAGES", 4)
    monkeypatch.setattr(reading, "SIDE", 64)
    for k in range(9):
        Image.fromarray(np.full((90, 120), 20 * k, np.uint8)).save(tmp_path / f"{k}.png")
    mixture = read_mixture(tmp_path, [scene], [sequence], CPU)
    assert mixture.textures.num_photos <= 3 + 4
    assert mixture.frames is not None
    assert len(mixture.frames.K) == 4
    photos = slice(0, mixture.textures.num_photos)
    assert max(mixture.bank.width[photos].max(), mixture.bank.height[photos].max()) == 64


def test_sequences_without_overlap_are_named(sequence):
    with pytest.raises(BadFile, match="no two frames overlap"):
        read_mixture(None, (), [sequence.frames([0])], CPU)
