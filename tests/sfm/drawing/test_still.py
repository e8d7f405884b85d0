from __future__ import annotations

import numpy as np
import pytest

from sfm.drawing.scene import scene_of, upright
from sfm.drawing.still import panels, still
from tests.support.finished_run import synthetic_model

GREY, BLUE, RED = (244, 245, 247), (29, 110, 214), (200, 0, 0)


@pytest.mark.parametrize("num", [1, 2, 3, 4])
def test_each_model_has_a_panel_with_its_points_and_its_own_cameras(num: int):
    scene = upright(scene_of(synthetic_model(tuple(f"{k}.jpg" for k in range(6))), ""))
    tints = [BLUE if k % 2 == 0 else RED for k in range(num)]
    picture = np.asarray(still([scene] * num, (480, 240), tints, GREY)).astype(int)
    assert picture.shape == (240, 480, 3)
    across, down = panels(num)
    assert across * down >= num
    for k in range(num):
        x, y = k % across * (480 // across), k // across * (240 // down)
        panel = picture[y : y + 240 // down, x : x + 480 // across]
        near = [(np.abs(panel - colour).max(axis=2) < 40).sum() for colour in (BLUE, RED)]
        assert near[k % 2] > 30 > near[1 - k % 2]
        edge = np.concatenate([panel[:2].reshape(-1, 3), panel[-2:].reshape(-1, 3), panel[:, :2].reshape(-1, 3)])
        assert (np.abs(edge - GREY).max(axis=1) <= 1).mean() > 0.97, "something is cut off"


def test_a_model_without_points_or_cameras_is_a_picture_too():
    model = synthetic_model(("0.jpg", "1.jpg"))
    for point in list(model.points3D):
        model.delete_point3D(point)
    picture = np.asarray(still([upright(scene_of(model, ""))], (120, 80), [BLUE], GREY))
    assert (picture == GREY).all(axis=2).mean() > 0.5
    for image in model.images.values():
        model.deregister_frame(image.frame_id)
    empty = np.asarray(still([upright(scene_of(model, ""))], (120, 80), [BLUE], GREY))
    assert (empty == GREY).all()
