from __future__ import annotations

import numpy as np
import pycolmap
import pytest

from sfm.drawing.scene import Scene, scene_of, upright
from sfm.drawing.viewpoint import camera_row, framed, from_camera, landmarks, look_at, looking, named_view, orbit
from sfm.errors import BadOption


@pytest.fixture(scope="module")
def scene() -> Scene:
    pycolmap.set_random_seed(4)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 7, 1, 1
    options.num_points3D = 90
    return upright(scene_of(pycolmap.synthesize_dataset(options), "seven"))


@pytest.mark.parametrize("angles", [(0, 0), (35, 20), (-120, 60), (0, 90)])
def test_looking_is_a_rotation_that_keeps_up_up(angles: tuple[float, float]) -> None:
    rotation = looking(*angles)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert rotation[0, 2] == pytest.approx(0)  # level
    assert rotation[1, 2] <= 1e-12  # y, which points down, does not point up


def test_look_at_puts_its_target_into_the_middle() -> None:
    pose = look_at(np.array([3.0, -2, 1]), np.array([0.5, 0.5, 0.2]))
    local = pose[:, :3] @ [0.5, 0.5, 0.2] + pose[:, 3]
    np.testing.assert_allclose(local, [0, 0, np.linalg.norm([2.5, -2.5, 0.8])], atol=1e-12)


@pytest.mark.parametrize("size", [(640, 480), (300, 700)])
def test_framed_shows_all_and_no_more_than_needed(size: tuple[int, int]) -> None:
    xyz = np.random.default_rng(1).normal(size=(300, 3)) * [1, 2, 0.5]
    seen = framed(looking(20, 30), xyz, size, margin=0.05)
    local = seen.local(xyz)
    part = seen.pixels(local) / np.array(size)
    assert local[:, 2].min() > 0
    assert part.min() >= 0.05 - 1e-9
    assert part.max() <= 0.95 + 1e-9
    spread = part.max(axis=0) - part.min(axis=0)
    assert spread.max() == pytest.approx(0.9, abs=1e-6)  # one of the sides is touched at both ends


@pytest.mark.parametrize("name", ["overview", "front", "side", "top"])
def test_named_views_show_the_scene(scene: Scene, name: str) -> None:
    seen = named_view([scene], name, (400, 300))
    pixels = seen.pixels(seen.local(landmarks(scene)))
    assert (pixels > 0).all()
    assert (pixels < (400, 300)).all()
    if name == "top":
        np.testing.assert_allclose(seen.cam_from_world[2, :3], [0, 0, -1], atol=1e-12)


def test_an_orbit_goes_round_at_one_distance_and_shows_all(scene: Scene) -> None:
    views = orbit([scene], (400, 300), 12)
    eyes = np.array([view.eye for view in views])
    np.testing.assert_allclose(np.linalg.norm(eyes[:, :2], axis=1), np.linalg.norm(eyes[0, :2]))
    np.testing.assert_allclose(eyes[:, 2], eyes[0, 2])
    turns = np.degrees(np.diff(np.unwrap(np.arctan2(eyes[:, 1], eyes[:, 0]))))
    np.testing.assert_allclose(turns, 30)
    for view in views:
        pixels = view.pixels(view.local(landmarks(scene)))
        assert (pixels > 0).all()
        assert (pixels < (400, 300)).all()


def test_a_cameras_whole_image_fits(scene: Scene) -> None:
    seen = from_camera(scene, 2, (500, 500))
    width, height = scene.cameras.size[2]
    corners = np.array([[0, 0], [width, height]]) - scene.cameras.principal[2]
    pixels = corners / scene.cameras.focal[2] * seen.focal + seen.principal
    assert pixels.min() >= -1e-9
    assert pixels.max() <= 500 + 1e-9
    assert (pixels[1] - pixels[0]).max() == pytest.approx(500)


def test_cameras_by_name(scene: Scene) -> None:
    name = scene.cameras.names[3]
    assert camera_row(scene, name) == 3
    with pytest.raises(BadOption, match=r"did you mean .*") as raised:
        camera_row(scene, name[:-1] + "x")
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)
