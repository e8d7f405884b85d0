"""Pictures against what a pinhole camera must see."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest

from sfm.drawing.rasterizer import Fragments, draw, image_fragments, line_fragments, point_fragments
from sfm.drawing.scene import Scene, scene_of
from sfm.drawing.shapes import frustum_lines, image_corners, segments
from sfm.drawing.viewpoint import View, from_camera

BLACK, RED, GREEN = (0, 0, 0), (255, 0, 0), (0, 255, 0)


def view(size: tuple[int, int] = (80, 60), focal: float = 50.0) -> View:
    """From the origin along z."""
    return View(np.eye(3, 4), np.full(2, focal), np.array(size) / 2, size)


def points(xyz: list[tuple[float, float, float]], colours: list[tuple[int, int, int]], size: float = 3) -> Fragments:
    return point_fragments(view(), np.array(xyz, np.float32), np.array(colours, np.uint8), size)


def centre_of(picture: np.ndarray, channel: int = 0) -> np.ndarray:
    """(2,) px, the middle of what is bright in a channel."""
    weight = picture[:, :, channel].astype(float)
    rows, columns = np.indices(weight.shape) + 0.5
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("xyz", [(0.0, 0.0, 1.0), (0.31, -0.2, 1.3), (-1.1, 0.73, 2.0)])
def test_a_point_lands_where_the_pinhole_puts_it_in_its_colour(xyz: tuple[float, float, float]) -> None:
    picture = draw((80, 60), [points([xyz], [(200, 100, 50)])], BLACK, 3)
    x, y = 50 * xyz[0] / xyz[2] + 40, 50 * xyz[1] / xyz[2] + 30
    np.testing.assert_allclose(centre_of(picture), (x, y), atol=0.25)
    assert tuple(picture[int(y), int(x)]) == (200, 100, 50)
    covered = picture[:, :, 0].astype(float).sum() / 200
    assert covered == pytest.approx(np.pi * 1.5**2, rel=0.35)  # px of a disc 3 px across


def test_near_points_hide_far_ones_in_any_order() -> None:
    for order in ([0, 1], [1, 0]):
        xyz, colours = [(0, 0, 1.0), (0, 0, 2.0)], [RED, GREEN]
        picture = draw((80, 60), [points([xyz[i] for i in order], [colours[i] for i in order])], BLACK)
        assert tuple(picture[30, 40]) == RED


def test_points_behind_or_beside_the_picture_are_not_drawn() -> None:
    picture = draw((80, 60), [points([(0, 0, -1), (9, 0, 1), (0, -9, 1), (0, 0, 0)], [RED] * 4)], (7, 8, 9))
    assert (picture == (7, 8, 9)).all()


def test_a_point_across_the_edge_stays_on_its_side() -> None:
    picture = draw((80, 60), [points([(40 / 50, 0, 1)], [RED], 6)], BLACK)
    assert picture[30, 78, 0] > 0
    assert not picture[:, :40].any()


def test_points_all_around_the_edge_are_drawn_on_their_side_only() -> None:
    around = [(x, y, 1.0) for x in np.linspace(-0.95, 0.95, 9) for y in np.linspace(-0.75, 0.75, 9)]
    outside = [(x, y, z) for x, y, z in around if abs(x) > 0.8 + 0.06 or abs(y) > 0.6 + 0.06]
    assert not draw((80, 60), [points(outside, [RED] * len(outside), 6)], BLACK).any()
    picture = draw((80, 60), [points([(0.82, 0.62, 1.0), (-0.82, -0.62, 1.0)], [RED, GREEN], 12)], BLACK)
    assert tuple(picture[59, 79]) == RED
    assert tuple(picture[0, 0]) == GREEN
    assert not picture[10:50].any()


def test_nothing_is_the_background() -> None:
    assert draw((8, 6), [], (1, 2, 3)).tolist() == [[[1, 2, 3]] * 8] * 6


def test_lines_are_clipped_and_straight() -> None:
    ends = np.array([[-5.0, 0.1, 1.0]]), np.array([[5.0, 0.1, 1.0]])
    picture = draw((80, 60), [line_fragments(view(), segments(*ends, RED), 1.0)], BLACK)
    assert (picture[35, :, 0] > 100).all()
    assert not picture[:32].any()
    assert not picture[38:].any()


def test_a_line_from_behind_the_eye_is_cut() -> None:
    line = segments(np.array([[0.3, 0.0, -1.0]]), np.array([[0.3, 0.0, 3.0]]), RED)
    picture = draw((80, 60), [line_fragments(view(), line, 1.0)], BLACK)
    assert picture[30, 46:, 0].min() > 100  # from its end at 45 px out of the picture
    assert not picture[:, :43].any()


def test_lines_and_points_hide_each_other_by_depth() -> None:
    line = line_fragments(view(), segments(np.array([[-1.0, 0, 1.5]]), np.array([[1.0, 0, 1.5]]), RED), 2.0)
    picture = draw((80, 60), [line, points([(0.2, 0, 1), (-0.6, 0, 3)], [GREEN, GREEN], 4)], BLACK)
    assert tuple(picture[29, 50]) == GREEN
    assert tuple(picture[29, 30]) == RED


def test_a_image_fills_its_rectangle_the_right_way_round() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 0], image[0, 1], image[1, 0], image[1, 1] = RED, GREEN, (0, 0, 255), (255, 255, 255)
    corners = np.array([[-0.4, -0.2, 1], [0.4, -0.2, 1], [0.4, 0.2, 1], [-0.4, 0.2, 1]])
    picture = draw((80, 60), [image_fragments(view(), corners, image, 2)], BLACK)
    assert [tuple(picture[y, x]) for y, x in ((21, 21), (21, 58), (38, 21), (38, 58))] == [
        RED,
        GREEN,
        (0, 0, 255),
        (255, 255, 255),
    ]
    filled = picture.any(axis=2)
    assert filled[20:40, 20:60].all()
    assert filled.sum() == 20 * 40


@pytest.fixture(scope="module")
def model() -> pycolmap.Reconstruction:
    pycolmap.set_random_seed(5)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 5, 1, 1
    options.num_points3D = 80
    options.camera_model_id = pycolmap.CameraModelId.PINHOLE
    options.camera_params = [900.0, 880.0, 500.0, 390.0]
    return pycolmap.synthesize_dataset(options)


@pytest.fixture(scope="module")
def scene(model: pycolmap.Reconstruction) -> Scene:
    return scene_of(model, "synthetic")


def test_the_view_of_a_camera_is_its_image(model: pycolmap.Reconstruction, scene: Scene) -> None:
    for row, name in enumerate(scene.cameras.names):
        image = next(i for i in model.images.values() if i.name == name)
        camera = model.cameras[image.camera_id]
        seen = from_camera(scene, row, (camera.width // 2, camera.height // 2))
        for point_id in model.point3D_ids():
            xyz = model.points3D[point_id].xyz
            expected = image.project_point(xyz)
            if expected is not None and seen.local(xyz[None])[0, 2] > 0:
                np.testing.assert_allclose(seen.pixels(seen.local(xyz[None]))[0], expected / 2, atol=1e-6)


def test_frustum_corners_are_where_the_camera_sees_its_corners(model: pycolmap.Reconstruction, scene: Scene) -> None:
    corners = image_corners(scene.cameras, 0.7)
    for row, name in enumerate(scene.cameras.names):
        image = next(i for i in model.images.values() if i.name == name)
        width, height = scene.cameras.size[row].tolist()
        pixels = [image.project_point(corner) for corner in corners[row]]
        np.testing.assert_allclose(pixels, [(0, 0), (width, 0), (width, height), (0, height)], atol=1e-6)
        own = corners[row] @ image.cam_from_world().rotation.matrix().T + image.cam_from_world().translation
        np.testing.assert_allclose(own[:, 2], 0.7)


def test_a_frustum_is_four_rays_and_a_frame(scene: Scene) -> None:
    lines = frustum_lines(scene.cameras, 0.5, RED)
    assert len(lines.start) == 8 * len(scene.cameras.names)
    for row, centre in enumerate(scene.cameras.centres):
        np.testing.assert_allclose(lines.start[8 * row : 8 * row + 4], np.tile(centre, (4, 1)))
        np.testing.assert_allclose(lines.end[8 * row + 4 : 8 * row + 7], lines.start[8 * row + 5 : 8 * row + 8])
