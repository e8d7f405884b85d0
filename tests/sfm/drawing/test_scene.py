from __future__ import annotations

from dataclasses import replace

import numpy as np
import pycolmap
import pytest

from sfm.drawing.scene import Scene, aligned, moved, read_scene, scene_of, upright
from sfm.evaluation.model import Similarity


def model(seed: int = 3, num: int = 8) -> pycolmap.Reconstruction:
    pycolmap.set_random_seed(seed)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = num, 1, 1
    options.num_points3D = 60
    return pycolmap.synthesize_dataset(options)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return scene_of(model(), "one")


def random_similarity(seed: int) -> Similarity:
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return Similarity(float(rng.uniform(0.2, 5)), rotation * np.sign(np.linalg.det(rotation)), rng.normal(size=3))


def test_columns_are_the_models(scene: Scene) -> None:
    original = model()
    assert scene.cameras.names == tuple(sorted(image.name for image in original.images.values()))
    by_name = {image.name: image for image in original.images.values()}
    for row, name in enumerate(scene.cameras.names):
        image = by_name[name]
        np.testing.assert_allclose(scene.cameras.cam_from_world[row], image.cam_from_world().matrix())
        np.testing.assert_allclose(scene.cameras.centres[row], image.projection_center())
        seen = [p for p in image.points2D if p.has_point3D()]
        own = scene.observations.of_camera(row)
        got = {tuple(xy) for xy in np.round(scene.observations.xy[own], 2).tolist()}
        assert got == {tuple(np.round(p.xy.astype(np.float32), 2).tolist()) for p in seen}
        assert scene.observation_counts()[row] == len(seen)


def test_shared_points_count_what_two_cameras_both_see(scene: Scene) -> None:
    shared = scene.shared_points()
    seen = [set(scene.observations.point[scene.observations.of_camera(row)].tolist()) for row in range(len(shared))]
    for i in range(len(shared)):
        for j in range(len(shared)):
            assert shared[i, j] == (0 if i == j else len(seen[i] & seen[j]))


@pytest.mark.parametrize("seed", range(5))
def test_upright_does_not_depend_on_the_models_frame(scene: Scene, seed: int) -> None:
    ours, other = upright(scene), upright(moved(scene, random_similarity(seed)))
    assert np.median(np.linalg.norm(other.points.xyz, axis=1)) == pytest.approx(1, rel=1e-3)
    np.testing.assert_allclose(ours.cameras.centres[:, 2], other.cameras.centres[:, 2], atol=1e-4)  # heights


def ring(tilt: float, on_side: int = 0, upside_down: int = 0) -> Scene:
    """Twelve cameras on a circle in the plane z = 0 that look at its middle, from above where tilted."""
    scene = scene_of(model(num=12), "ring")
    poses = []
    for k, angle in enumerate(np.linspace(0, 2 * np.pi, 12, endpoint=False)):
        forward = -np.array([np.cos(angle) * np.cos(tilt), np.sin(angle) * np.cos(tilt), np.sin(tilt)])
        right = np.cross(forward, [0, 0, 1.0]) / np.cos(tilt)
        rotation = np.array([right, np.cross(forward, right), forward])
        if k < on_side:
            rotation = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]]) @ rotation
        elif k < on_side + upside_down:
            rotation = np.diag([-1.0, -1, 1]) @ rotation
        poses.append(np.column_stack([rotation, -rotation @ (-4 * forward)]))
    cameras = type(scene.cameras)(
        scene.cameras.names, np.array(poses), scene.cameras.size, scene.cameras.focal, scene.cameras.principal
    )
    return type(scene)("ring", scene.points, cameras, scene.observations)


@pytest.mark.parametrize(("tilt", "on_side", "upside_down"), [(0, 0, 0), (0.4, 0, 0), (0.4, 0, 4), (0.3, 3, 1)])
def test_up_is_where_most_heads_are(tilt: float, on_side: int, upside_down: int) -> None:
    rotated = upright(moved(ring(tilt, on_side, upside_down), random_similarity(7)))
    heads = -rotated.cameras.cam_from_world[on_side + upside_down :, 1, :3]
    np.testing.assert_allclose(heads[:, 2], np.cos(tilt), atol=0.02)


@pytest.mark.parametrize("quarter", [1, 3])
def test_a_ring_of_images_on_their_side_stands_upright(quarter: int) -> None:
    around = ring(0.3)
    rotation = np.linalg.matrix_power(np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]]), quarter)
    cameras = replace(around.cameras, cam_from_world=rotation @ around.cameras.cam_from_world)
    rotated = upright(moved(replace(around, cameras=cameras), random_similarity(5)))
    heights = rotated.cameras.centres[:, 2]
    np.testing.assert_allclose(heights, heights.mean(), atol=1e-3)
    np.testing.assert_allclose(rotated.cameras.cam_from_world[:, 2, 2], -np.sin(0.3), atol=0.02)


def test_aligned_brings_common_cameras_together(scene: Scene) -> None:
    away = moved(scene, random_similarity(11))
    back = aligned(away, scene)
    assert back is not None
    np.testing.assert_allclose(back.cameras.centres, scene.cameras.centres, atol=1e-6)
    np.testing.assert_allclose(back.points.xyz, scene.points.xyz, atol=1e-3)
    np.testing.assert_array_equal(back.points.error, scene.points.error)


def test_too_few_common_images_are_not_aligned(scene: Scene) -> None:
    other = scene_of(model(num=3), "two")
    cameras = type(scene.cameras)(
        ("x", "y", "z"), *(getattr(other.cameras, name) for name in ("cam_from_world", "size", "focal", "principal"))
    )
    assert aligned(type(scene)("two", other.points, cameras, other.observations), scene) is None


def test_a_folder_is_read_and_named(tmp_path, scene: Scene) -> None:
    (tmp_path / "castle").mkdir()
    model().write(tmp_path / "castle")
    assert read_scene(tmp_path / "castle").title == "castle"
    np.testing.assert_array_equal(read_scene(tmp_path / "castle").points.xyz, scene.points.xyz)


def test_an_empty_model_is_an_empty_scene() -> None:
    empty = upright(scene_of(pycolmap.Reconstruction(), "empty"))
    assert empty.cameras.names == ()
    assert empty.points.xyz.shape == (0, 3)
    assert empty.shared_points().shape == (0, 0)
