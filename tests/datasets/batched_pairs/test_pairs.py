"""batched_pairs: every kind of pair is true: warps against analytic points, occlusion, and back again."""

from __future__ import annotations

import math
from dataclasses import asdict, fields

import numpy as np
import pytest
import torch

from sfm.datasets.batched_pairs.batch import Difficulty, PairBatch
from sfm.datasets.batched_pairs.cameras import Cameras, anchor_grid, looking_at
from sfm.datasets.batched_pairs.flat_pairs import flat_pairs
from sfm.datasets.batched_pairs.made_textures import made_textures
from sfm.datasets.batched_pairs.mixture import Mixture, Shares, without_flat
from sfm.datasets.batched_pairs.photometric import changed
from sfm.datasets.batched_pairs.rgbd_pairs import RgbdFrames, rgbd_pairs
from sfm.datasets.batched_pairs.scenes.ray_casting import BOX, Bodies
from sfm.datasets.batched_pairs.scenes.rendering import Kernels, seen, warp
from sfm.datasets.batched_pairs.scenes.scene_parts import Draws, Textures, about_z
from sfm.datasets.batched_pairs.textures import TextureBank
from sfm.datasets.batched_pairs.track_pairs import SharedTracks, track_pairs

CPU = torch.device("cpu")
SIZE = (64, 96)


def draws(seed: int = 0) -> Draws:
    return Draws(torch.Generator().manual_seed(seed), CPU)


@pytest.fixture(scope="module")
def bank() -> TextureBank:
    return TextureBank.of(made_textures(8), CPU)


def wall_scene() -> tuple[Bodies, Cameras, Cameras]:
    """A box of 1 m half a metre before the wall y = 4, and two cameras 1 m apart that look along y."""
    scene = Bodies(
        torch.tensor([[BOX]]),
        about_z(torch.zeros(1, 1)),
        torch.tensor([[[0.0, 3, 1]]]),
        torch.full((1, 1, 3), 0.5),
        torch.tensor([[-9.0, -9, -9]]),
        torch.tensor([[9.0, 4, 9]]),
    )
    cameras = [
        looking_at(
            torch.tensor([[x, 0.0, 1.0]]), torch.tensor([[x, 1.0, 1.0]]), torch.zeros(1), torch.tensor([80.0]), SIZE
        )
        for x in (0.0, 1.0)
    ]
    return scene, cameras[0], cameras[1]


def test_warp_is_the_parallax_and_stops_behind_the_box():
    scene, camera0, camera1 = wall_scene()
    kernels = Kernels.plain()
    xy = torch.tensor([[48.5, 32.5], [84.5, 32.5], [50.5, 60.5], [6.5, 32.5]])
    found = warp(scene, kernels, seen(scene, kernels, camera0, xy), camera1)[0]
    assert found[0].tolist() == pytest.approx([48.5 - 80 / 2.5, 32.5], abs=1e-3)  # the box's face at 2.5 m
    assert found[1].tolist() == pytest.approx([84.5 - 80 / 4, 32.5], abs=1e-3)  # the wall
    assert found[2].tolist() == pytest.approx([50.5 - 80 / 4, 60.5], abs=1e-3)  # the wall below the box
    assert found[3].isnan().all()  # leaves the image


def test_places_behind_the_box_have_no_match():
    scene, camera0, camera1 = wall_scene()
    kernels = Kernels.plain()
    x = 0.7  # on the wall; from camera0 the box's face at 2.5 m spans |x| < 0.8 of it
    pixel = torch.tensor([[48 + 80 * (x - 1) / 4, 32.5]])
    here = seen(scene, kernels, camera1, pixel)
    assert here.points[0, 0].tolist() == pytest.approx([x, 4, 1 - 0.5 / 80 * 4], abs=1e-4)
    assert warp(scene, kernels, here, camera0).isnan().all()


def test_compiled_kernels_are_their_plain_twins():
    pytest.importorskip("torch._inductor")
    scene, camera0, _ = wall_scene()
    plain = seen(scene, Kernels.plain(), camera0, anchor_grid(SIZE, CPU, 1))
    again = seen(scene, Kernels.compiled(), camera0, anchor_grid(SIZE, CPU, 8))  # few rays go the plain way
    rows = plain.points.reshape(1, *SIZE, 3)[:, ::8, ::8].reshape(1, -1, 3)
    torch.testing.assert_close(again.points, rows)


def there_and_back(batch: PairBatch) -> torch.Tensor:
    """Distances in px of anchors from where they come back to, by the nearest anchor of image 1."""
    height, width = batch.warp01.shape[1:3]
    out = []
    for b in range(len(batch.image0)):
        ok = torch.isfinite(batch.warp01[b, ..., 0])
        rows, columns = torch.where(ok)
        target = batch.warp01[b][ok]
        cell = ((target - 0.5) / 8).round().long()
        inside = (cell >= 0).all(1) & (cell[:, 0] < width) & (cell[:, 1] < height)
        back = batch.warp10[b, cell[inside, 1], cell[inside, 0]]
        anchor = torch.stack([columns, rows], 1)[inside] * 8 + 0.5
        moved = (target[inside] - (cell[inside] * 8 + 0.5)).norm(dim=1)
        near = torch.isfinite(back[:, 0]) & (moved < 1.5)
        out.append((back[near] - anchor[near]).norm(dim=1))
    return torch.cat(out)


def test_flat_pairs_come_back_whatever_the_turn(bank):
    batch = flat_pairs(draws(), bank, 8, 24, SIZE, Difficulty(math.radians(50), 1.0, 2.0))
    error = there_and_back(batch)
    assert len(error) > 50
    assert error.median() < 1.5
    assert error.max() < 8


def test_flat_pairs_show_the_same_grey(bank):
    batch = flat_pairs(draws(1), bank, 3, 16, SIZE, Difficulty(0.2, 1.0, 1.2))
    ok = torch.isfinite(batch.warp01[..., 0])
    grid = batch.warp01.nan_to_num(0) / torch.tensor([SIZE[1] / 2, SIZE[0] / 2]) - 1
    there = torch.nn.functional.grid_sample(batch.image1, grid, align_corners=False)[:, 0]
    here = batch.image0[:, 0, ::8, ::8]
    assert (here - there)[ok].abs().median() < 0.05
    assert (here.flip(2) - there)[ok].abs().median() > 0.1


def frames(bank: TextureBank) -> RgbdFrames:
    """Two frames that look at a wall 2 m before them, the second 0.1 m to the right; one texture of the bank each."""
    pose = torch.eye(4)[:3].repeat(2, 1, 1)
    pose[1, 0, 3] = -0.1
    K = torch.tensor([[300.0, 0, 192], [0, 300, 192], [0, 0, 1]])
    return RgbdFrames(
        first=0,
        size=torch.full((2, 2), 384.0),
        depth=torch.full((2, 192, 192), 2.0, dtype=torch.float16),
        depth_origin=torch.full((2, 2), 0.5),
        depth_step=torch.full((2, 2), 2.0),
        cam_from_world=pose,
        K=K.repeat(2, 1, 1),
        pairs=torch.tensor([[0, 1]]),
        angle_deg=torch.tensor([5.0]),
        weight=torch.tensor([1.0]),
    )


def test_rgbd_frames_have_their_disparity(bank):
    found = frames(bank)
    index = torch.tensor([[[100.0, 80.0], [2.0, 80.0]], [[100.0, 80.0], [380.0, 80.0]]])
    there, z = found.project(torch.tensor([1, 0]), found.world(torch.tensor([0, 1]), index, torch.full((2, 2), 2.0)))
    assert z.flatten().tolist() == pytest.approx([2.0] * 4)
    assert there[0, 0].tolist() == pytest.approx([85, 80])
    assert there[1, 0].tolist() == pytest.approx([115, 80])
    batch = rgbd_pairs(draws(), bank, found, 16, SIZE, Difficulty(1.0, 0.5, 1.5))
    error = there_and_back(batch)
    assert len(error) > 100
    assert error.max() < 3.5
    assert batch.known0.float().mean() > 0.7


def test_tracks_keep_their_points(bank):
    points = torch.full((1, 10, 4), torch.nan)
    points[0, :6, :2] = torch.rand(6, 2) * 200 + 90
    points[0, :6, 2:] = points[0, :6, :2] + torch.tensor([12.0, -7])
    tracks = SharedTracks(torch.tensor([[0, 1]]), points, torch.ones(1))
    batch = track_pairs(draws(), bank, tracks, 12, SIZE, Difficulty(1.0, 0.0, 1.5))
    assert len(batch.b_ids) > 12
    assert not batch.known0.any()
    assert not torch.isfinite(batch.warp01).any()
    for b in range(12):  # a similarity takes one side to the other
        here, there = batch.points0[batch.b_ids == b], batch.points1[batch.b_ids == b]
        if len(here) >= 3:
            ratio = (there[1:] - there[0]).norm(dim=1) / (here[1:] - here[0]).norm(dim=1)
            assert ratio.std() < 1e-3 * ratio.mean() + 1e-4


@pytest.mark.slow
def test_a_mixed_batch_splits_into_whole_batches(bank):
    tracks = SharedTracks(torch.tensor([[0, 1]]), torch.rand(1, 30, 4) * 200 + 60, torch.ones(1))
    sources = Mixture(bank, Textures(4, 8), Kernels.plain(), frames(bank), tracks)
    batch = sources.batch(draws(), Shares(4, 1, 0, 0, 3, 3), (32, 64), Difficulty(), samples=1, mirrors=False)
    assert batch.image0.shape == (16, 1, 32, 64)  # six of the room's four views
    assert 0 <= batch.image0.min() <= batch.image0.max() <= 1
    parts = batch.split(5, draws())
    assert [len(p.image0) for p in parts] == [5, 5, 5]
    assert sum(len(p.b_ids) for p in parts) <= len(batch.b_ids)
    for part in parts:
        for b in range(5):
            of_this = int((part.b_ids == b).sum())
            assert of_this == 0 or not part.known0[b].any()  # sparse truth goes with its own images


def test_shares_of_kinds_without_a_source_go_to_the_others(bank):
    tracks = SharedTracks(torch.tensor([[0, 1]]), torch.rand(1, 30, 4), torch.ones(1))
    everything = Mixture(bank, Textures(4, 8), Kernels.plain(), frames(bank), tracks)
    made = [everything.shares(draws(seed), 256) for seed in range(20)]
    mean = {f.name: sum(getattr(shares, f.name) for shares in made) / 20 / 4 for f in fields(Shares)}
    assert mean == pytest.approx(asdict(Shares()), rel=0.2)
    for shares in made:
        pairs = 6 * (shares.rooms + shares.objects + shares.fronts) + shares.frames + shares.flat + shares.tracks
        assert pairs == 256
    photos = Mixture(bank, Textures(4, 8), Kernels.plain()).shares(draws(), 8)
    assert photos.frames == photos.tracks == 0
    assert photos.flat + 6 * (photos.rooms + photos.objects + photos.fronts) >= 8
    bare = Mixture(bank, Textures(0, 8), Kernels.plain()).shares(draws(), 8)
    assert bare.rooms + bare.objects + bare.fronts == 2
    assert bare.flat == 0


def test_equal_seeds_give_equal_batches(bank):
    sources = Mixture(bank, Textures(4, 8), Kernels.plain())
    one, two = (sources.batch(draws(3), Shares(0, 0, 0, 0, 4, 0), SIZE, Difficulty()) for _ in range(2))
    assert torch.equal(one.image1, two.image1)


def test_blank_cells_are_neither_true_nor_false():
    image = torch.zeros(1, 1, 96, 96)
    image[..., 48:] = torch.rand(48)
    warps = anchor_grid((96, 96), CPU).reshape(1, 12, 12, 2)
    sure = torch.ones(1, 12, 12, dtype=torch.bool)
    batch = without_flat(PairBatch.dense((image, image), (warps, warps), (sure, sure)))
    assert torch.isfinite(batch.warp01[0, :, 8:, 0]).all()
    assert not torch.isfinite(batch.warp01[0, :, :2, 0]).any()
    assert not batch.known0[0, :, :2].any()


def test_light_changes_and_places_do_not():
    images = torch.from_numpy(np.stack(made_textures(6)))[:, None, :128, :160].float() / 255
    out = changed(draws(), images)
    assert out.shape == images.shape
    assert (out - images).abs().mean() > 0.01
    for before, after in zip(images[:, 0], out[:, 0], strict=True):
        a, b = before - before.mean(), after - after.mean()
        at = torch.fft.ifft2(torch.fft.fft2(a).conj() * torch.fft.fft2(b)).real.argmax()
        assert min(int(at) % 160, 160 - int(at) % 160) <= 2


def test_textures_are_read_at_their_pixels_and_mirrored():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    found = TextureBank.of([image[:2, :2], image], CPU)
    xy = torch.tensor([[0.5, 0.5], [3.5, 2.5], [2.0, 0.5], [-0.5, 0.5], [4.5, 2.5]])
    grey = found.sample(torch.ones(5, dtype=torch.long), xy, torch.ones(5)) * 255
    assert grey.tolist() == pytest.approx([0, 220, 30, 0, 220], abs=1e-3)
