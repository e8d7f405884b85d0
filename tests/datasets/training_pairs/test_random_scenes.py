import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sfm.datasets.training_pairs.meshes import Mesh, grid_mesh, random_body
from sfm.datasets.training_pairs.random_scenes import Backdrop, Body, Camera, Lights, Material, Scene
from sfm.datasets.training_pairs.textures import Texture, grid_xy

SIZE = (96, 128)
DOWN = np.array([0.0, -1.0, 0.0])


def _camera(position: tuple[float, float, float], roll: float = 0.0) -> Camera:
    return Camera.looking_at(np.array(position), np.zeros(3), up=DOWN, roll=roll, focal=120.0, size=SIZE)


def _wall(half: float, z: float) -> Body:
    """A square wall that faces -z."""
    x, y = np.meshgrid([-half, half], [-half, half], indexing="xy")
    mesh = grid_mesh(np.stack([x, y, np.full_like(x, z)], 2).astype(np.float32), outward=np.array([0, 0, -1.0]))
    texture = Texture.of(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8))
    return Body(mesh, Material(texture, 0.5, 1.0, 20.0, np.zeros((3, 2), np.float32)), np.eye(3), np.zeros(3))


def _scene(*bodies: Body, texture: Texture | None = None) -> Scene:
    light = Lights(np.array([[0, 0, -1]], np.float32), np.ones(1, np.float32), 1.0)
    return Scene(list(bodies), light, Backdrop(texture, 7.0, np.eye(3), 100.0))


def test_rays_and_projection_are_inverse() -> None:
    camera = _camera((0.5, -0.3, -3), roll=0.2)
    xy = grid_xy(*SIZE)[::97]
    rays = camera.rays(xy).astype(np.float64)
    back, depth = camera.project(rays[:, :3] + 2.5 * rays[:, 3:])
    np.testing.assert_allclose(back, xy, atol=1e-3)
    np.testing.assert_allclose(depth, 2.5, atol=1e-5)
    np.testing.assert_allclose(camera.rotation @ camera.rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(camera.rotation) == pytest.approx(1)


def test_upright_camera_has_y_down() -> None:
    below, _ = _camera((0, 0, -3)).project(np.array([[0.0, 0.5, 0.0]]))
    np.testing.assert_allclose(below, [[64, 48 + 120 * 0.5 / 3]])


def test_warp_of_a_wall_is_the_homography_of_its_plane() -> None:
    """H = K (R + t n^T / d) K^-1 (Hartley and Zisserman, 13.1), the plane being n^T x = d in camera 0."""
    camera0, camera1 = _camera((0.4, 0.1, -3)), _camera((-0.9, 0.2, -2.6), roll=0.1)
    rotation = camera1.rotation @ camera0.rotation.T
    translation = camera1.translation - rotation @ camera0.translation
    normal = camera0.rotation @ np.array([0, 0, 1.0])
    distance = normal @ camera0.translation  # the plane z = 0 of the world
    K = np.array([[120.0, 0, 64], [0, 120.0, 48], [0, 0, 1]])
    H = K @ (rotation + np.outer(translation, normal) / distance) @ np.linalg.inv(K)
    xy = grid_xy(*SIZE)[::13]
    expected = np.column_stack([xy, np.ones(len(xy))]) @ H.T
    expected = expected[:, :2] / expected[:, 2:]
    warp = _scene(_wall(5, 0)).warp(camera0, camera1, xy)
    np.testing.assert_array_equal(np.isfinite(warp[:, 0]), camera1.sees(expected))
    ok = camera1.sees(expected)
    assert 0.5 < ok.mean() < 1
    np.testing.assert_allclose(warp[ok], expected[ok], atol=2e-3)


def test_what_stands_in_front_hides() -> None:
    camera0, camera1 = _camera((0, 0, -3)), _camera((1.0, 0, -3))
    xy = grid_xy(*SIZE)
    open_wall = _scene(_wall(5, 0)).warp(camera0, camera1, xy)
    shut = _scene(_wall(5, 0), _wall(0.2, -1)).warp(camera0, camera1, xy)
    rays = camera0.rays(xy).astype(np.float64)
    on_wall = rays[:, :3] - rays[:, 3:] * (rays[:, 2:3] / rays[:, 5:6])
    half_way = camera1.centre + (on_wall - camera1.centre) * (2 / 3)  # where the line of sight crosses z = -1
    behind = (np.abs(half_way[:, :2]) < 0.2).all(axis=1)
    on_small = np.abs(rays[:, :2] + 2 * rays[:, 3:5] / rays[:, 5:6]).max(axis=1) < 0.2
    lost = np.isfinite(open_wall[:, 0]) & ~np.isfinite(shut[:, 0])
    expected = np.isfinite(open_wall[:, 0]) & behind & ~on_small
    assert expected.sum() > 50
    assert np.mean(lost == expected) > 0.995  # the rim may fall to either side


def test_image_backdrop_lies_at_infinity_and_plain_one_nowhere() -> None:
    camera0, camera1 = _camera((0, 0, -3)), _camera((0.5, 0.2, -3))
    xy = grid_xy(*SIZE)[::11]
    texture = Texture.of(np.full((40, 40), 90, np.uint8))
    small = _wall(0.01, 0)
    assert np.isnan(_scene(small).warp(camera0, camera1, xy)).mean() > 0.99
    warp = _scene(small, texture=texture).warp(camera0, camera1, xy)
    rotated = camera0.rays(xy)[:, 3:].astype(np.float64) @ camera1.rotation.T
    expected = 120 * rotated[:, :2] / rotated[:, 2:] + (64, 48)
    ok = np.isfinite(warp[:, 0])
    assert ok.mean() > 0.5
    np.testing.assert_allclose(warp[ok], expected[ok], atol=2e-3)
    assert _scene(small).render(camera0)[0][0, 0] == 7.0


def test_light_is_lambert_with_cast_shadow() -> None:
    scene = _scene(_wall(0.5, 0))
    np.testing.assert_allclose(scene.shade, 1, atol=1e-6)
    shadowed = _scene(_wall(0.5, 0), _wall(5.0, -1))
    np.testing.assert_allclose(shadowed.shade[:4], 0, atol=1e-6)
    np.testing.assert_allclose(shadowed.shade[4:], 1, atol=1e-6)


@pytest.mark.parametrize("kind", ["blob", "lathe", "torus", "box"])
def test_bodies_are_closed_with_outward_normals(kind: str) -> None:
    for seed in range(3):
        mesh = random_body(np.random.default_rng(seed), triangles=2000, kind=kind)
        assert 1200 < len(mesh.triangles) < 2800
        np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-3)
        scene = _scene(Body(mesh, _wall(1, 0).material, np.eye(3), np.zeros(3)))
        outside = np.concatenate([mesh.vertices + 0.02 * mesh.normals, mesh.normals], axis=1).astype(np.float32)
        hits = scene.caster.count_intersections(outside).numpy()
        assert np.mean(hits % 2 == 0) > 0.97  # from outside, a closed surface is crossed an even number of times


def test_moved_mesh_keeps_its_form() -> None:
    mesh = random_body(np.random.default_rng(0), triangles=500, kind="blob")
    pose = Rotation.from_euler("xyz", [0.3, 0.2, 0.1]).as_matrix()
    moved = Mesh.joined([mesh, mesh.moved(pose, np.array([1.0, 2, 3]))])
    count = len(mesh.vertices)
    np.testing.assert_allclose(moved.vertices[count:], mesh.vertices @ pose.T + [1, 2, 3], atol=1e-5)
    np.testing.assert_array_equal(moved.triangles[len(mesh.triangles) :], mesh.triangles + count)
