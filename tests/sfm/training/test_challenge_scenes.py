"""The Image Matching Challenge's training set as a source of pairs: with depth maps, and without."""

import h5py
import numpy as np
import pycolmap
import pytest

from sfm.datasets.imc2022 import write_scene
from sfm.datasets.training_pairs.depth_pairs import DepthDifficulty, DepthPairs
from sfm.datasets.training_pairs.track_pairs import TrackPairs
from sfm.errors import BadFile
from sfm.training.challenge_scenes import read_challenge
from tests.support.depth_sequence import FOCAL, HEIGHT, NUM, WIDTH, depth_of, frame_pose, roof_sequence


@pytest.fixture(scope="module")
def challenge(tmp_path_factory):
    """train/roof in the challenge's layout. Read only."""
    folder = tmp_path_factory.mktemp("challenge")
    images = roof_sequence(folder / "roof") / "images"
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(
        model="PINHOLE", width=WIDTH, height=HEIGHT, params=[FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2], camera_id=1
    )
    model.add_camera_with_trivial_rig(camera)
    xyz = np.random.default_rng(0).uniform([-1.5, -1.2, 0], [1.5, 1.2, 0], (80, 3))
    xyz[:, 2] = 0.4 * np.abs(xyz[:, 0])
    for i in range(NUM):
        pose = frame_pose(i)
        image = pycolmap.Image(name=f"{i:02}.png", camera_id=1, image_id=i + 1)
        image.points2D = [pycolmap.Point2D(xy) for xy in camera.img_from_cam(xyz @ pose[:, :3].T + pose[:, 3])]
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose))
    for n, point in enumerate(xyz):
        model.add_point3D(point, pycolmap.Track([pycolmap.TrackElement(i + 1, n) for i in range(NUM)]))
    write_scene(model, images, folder, "roof")
    return folder


@pytest.mark.slow
def test_without_depth_the_poses_triangulate_tracks(challenge, tmp_path):
    scenes, sequences = read_challenge(challenge, tmp_path)
    assert sequences == ()
    (scene,) = scenes
    model = pycolmap.Reconstruction(scene.models[0])
    assert model.num_points3D() > 100
    for image in model.images.values():
        pose = frame_pose(int(image.name[:2]))
        np.testing.assert_allclose(image.cam_from_world().matrix(), pose, atol=1e-6)
    pair = TrackPairs(scenes, size=(96, 128)).pair(0)
    assert len(pair.points0) >= 30
    first = (scene.models[0] / "points3D.bin").stat().st_mtime_ns
    read_challenge(challenge, tmp_path)
    assert (scene.models[0] / "points3D.bin").stat().st_mtime_ns == first  # made once


def test_with_depth_maps_pairs_are_dense(challenge, tmp_path):
    maps = challenge / "train" / "roof" / "depth_maps"
    maps.mkdir()
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    xy = np.stack([x.ravel(), y.ravel()], axis=1)
    try:
        for i in range(NUM):
            with h5py.File(maps / f"{i:02}.h5", "w") as file:
                file["depth"] = depth_of(i, xy).reshape(HEIGHT, WIDTH)
        scenes, (sequence,) = read_challenge(challenge, tmp_path)
        assert scenes == ()
        made = DepthPairs([sequence], size=(96, 128), difficulty=DepthDifficulty(overlap=(0.1, 1.0)))
        assert np.isfinite(made.pair(1).warp01).mean() > 0.1
    finally:
        for path in maps.iterdir():
            path.unlink()
        maps.rmdir()


def test_a_folder_without_scenes_is_named(tmp_path):
    with pytest.raises(BadFile, match="no scene of the challenge"):
        read_challenge(tmp_path, tmp_path)
