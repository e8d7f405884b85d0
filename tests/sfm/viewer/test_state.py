from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sfm.drawing.scene import Cameras, Observations, Points, Scene
from sfm.drawing.shapes import image_corners
from sfm.drawing.viewpoint import View
from sfm.errors import BadOption
from sfm.viewer.state import (
    ViewState,
    arranged,
    camera_card,
    colour_range,
    pick_camera,
    point_colours,
    ramp,
    remember,
    remembered,
    state_from_json,
    state_json,
    visible_points,
)


def scene(rotated: float = 0.0) -> Scene:
    """Three cameras in a row that look along z; five points, of which camera b sees all, a two and c one."""
    poses = np.tile(np.eye(3, 4), (3, 1, 1))
    poses[:, 0, 3] = [1.0, 0.0, -1.0]  # centres at x = -1, 0, 1
    xyz = np.array([(0, 0, 4), (1, 0, 4), (0, 1, 4), (-1, 0, 4), (0, -1, 4)], np.float32)
    camera = np.array([0, 0, 1, 1, 1, 1, 1, 2])
    point = np.array([0, 1, 0, 1, 2, 3, 4, 0])
    return Scene(
        "row",
        Points(
            xyz,
            np.arange(15, dtype=np.uint8).reshape(5, 3) * 10,
            np.array([0.1, 0.5, 1.0, 2.0, np.inf], np.float32),
            np.array([3, 2, 1, 1, 1]),
        ),
        Cameras(
            ("a.jpg", "b.jpg", "c.jpg"), poses, np.full((3, 2), 100), np.full((3, 2), 100.0), np.full((3, 2), 50.0)
        ),
        Observations(camera, point, np.zeros((8, 2), np.float32), np.array([1, 3, 1, 1, 1, 1, np.inf, 5], np.float32)),
    )


def test_filters_hide_points() -> None:
    assert visible_points(scene(), ViewState(min_track=0)).tolist() == [True] * 5
    assert visible_points(scene(), ViewState(min_track=2)).tolist() == [True, True, False, False, False]
    assert visible_points(scene(), ViewState(min_track=0, max_error=1.0)).tolist() == [True, True, True, False, False]
    assert visible_points(scene(), ViewState(min_track=2, max_error=0.2)).tolist() == [True, False, False, False, False]


def test_colours_follow_the_measure() -> None:
    np.testing.assert_array_equal(point_colours(scene(), ViewState()), scene().points.rgb)
    error = point_colours(scene(), ViewState(colour="error")).astype(int)
    assert (np.diff(error[:4, 1]) >= 0).all()  # viridis grows greener
    assert error[4].tolist() == [253, 231, 37]
    assert colour_range(scene(), "length") == (2.0, 3.0)
    assert ramp(np.array([0.0, 1.0, np.nan])).tolist() == [[68, 1, 84], [253, 231, 37], [253, 231, 37]]


def test_tinted_points_keep_their_brightness_and_take_the_hue() -> None:
    tinted = point_colours(scene(), ViewState(), (100, 200, 40)).astype(int)
    assert (np.diff(tinted.sum(axis=1)) > 0).all()
    np.testing.assert_allclose(tinted[:, 1] / tinted[:, 0], 2.0, atol=0.05)


def test_a_cameras_card() -> None:
    card = camera_card(scene(), 0)
    assert card.name == "a.jpg"
    assert card.observations == 2
    assert card.mean_error == 2.0
    assert card.neighbours == ((1, 2), (2, 1))
    assert card.text == "a.jpg\n2 observations, mean error 2.00 px"
    assert camera_card(scene(), 1).mean_error == 1.0  # what is behind the camera does not count
    assert camera_card(scene(), 1, limit=1).neighbours == ((0, 2),)
    rows = scene().shared_points()
    assert dict(camera_card(scene(), 1).neighbours) == {0: rows[1, 0], 2: rows[1, 2]}


def behind(distance: float = 3.0) -> View:
    """A view that looks at the cameras' backs."""
    pose = np.eye(3, 4)
    pose[2, 3] = distance
    return View(pose, np.full(2, 300.0), np.array([320.0, 240.0]), (640, 480))


@pytest.mark.parametrize("row", range(3))
def test_a_click_on_a_frustum_picks_its_camera(row: int) -> None:
    corners = image_corners(scene().cameras, 0.4)
    inside = behind().pixels(behind().local(corners[row].mean(axis=0)[None]))[0]
    assert pick_camera(scene(), behind(), tuple(inside), 0.4) == row
    beyond = behind().pixels(behind().local(corners[row, :1]))[0] - 40
    assert pick_camera(scene(), behind(), tuple(beyond), 0.4) is None


def test_of_two_frustums_under_a_click_the_nearer_is_picked() -> None:
    own = scene()
    poses = own.cameras.cam_from_world.copy()
    poses[2] = poses[1]
    poses[2, 2, 3] = -0.5  # half a unit before b
    stacked = replace(own, cameras=replace(own.cameras, cam_from_world=poses))
    assert pick_camera(stacked, behind(), (320.0, 240.0), 0.4) == 1


def test_cameras_behind_the_eye_are_not_picked() -> None:
    assert pick_camera(scene(), behind(-2.0), (320.0, 240.0), 0.4) is None
    nothing = replace(scene().cameras, names=(), cam_from_world=np.zeros((0, 3, 4)))
    assert pick_camera(replace(scene(), cameras=nothing), behind(), (320.0, 240.0), 0.4) is None


def test_models_that_share_no_image_stand_upright_alone_and_it_is_said() -> None:
    own = scene()
    other = replace(own, cameras=replace(own.cameras, names=("x", "y", "z")))
    placed, note = arranged([own, other])
    assert note is not None
    assert "not aligned" in note
    assert len(placed) == 2


def test_a_state_is_remembered(tmp_path: Path) -> None:
    state = ViewState(0.7, 4, 2.5, "light", "error", "over", False, False, False, False, (1, "é.jpg"), tuple(range(12)))
    remember(state, tmp_path / "deep" / "view.json")
    assert remembered(tmp_path / "deep" / "view.json") == state
    assert state_from_json(state_json(ViewState())) == ViewState()
    assert remembered(tmp_path / "absent.json") == ViewState()
    remember(state, tmp_path / "deep" / "view.json" / "not a folder")  # says nothing


@pytest.mark.parametrize(
    "text",
    [
        *["", "[]", "3", '{"pose": [1, 2]}', '{"pose": "x"}', '{"colour": "pink"}', '{"max_error": -1}', '{"grid": 1}'],
        *['{"selected": [1]}', '{"point_size": 1e9}', '{"unknown": 1}', '{"min_track": null}', '{"max_error": true}'],
    ],
)
def test_a_damaged_memory_is_no_memory(text: str) -> None:
    assert state_from_json(text) == ViewState()


def test_what_is_right_in_a_damaged_memory_stays() -> None:
    assert state_from_json('{"colour": "error", "layout": 7}') == ViewState(colour="error")


@pytest.mark.parametrize(
    "values", [{"max_error": 0.0}, {"max_error": math.nan}, {"point_size": 0.0}, {"min_track": -1}]
)
def test_values_that_make_no_sense_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(BadOption):
        ViewState(**values)  # type: ignore[arg-type]


def test_a_state_of_version_010_is_read():
    assert not state_from_json('{"photos":false}').images
