from __future__ import annotations

import numpy as np
import pytest

from sfm.drawing.scene import scene_of, upright
from sfm.drawing.still import still
from tests.support.finished_run import synthetic_model

GREY, BLUE, RED = (244, 245, 247), (29, 110, 214), (200, 0, 0)


@pytest.mark.parametrize("num", [1, 2, 4])
def test_each_model_has_a_panel_with_its_points_and_its_own_cameras(num: int):
    scene = upright(scene_of(synthetic_model(tuple(f"{k}.jpg" for k in range(6))), ""))
    tints = [BLUE if k % 2 == 0 else RED for k in range(num)]
    picture = np.asarray(still([scene] * num, (480, 240), tints, GREY)).astype(int)
    assert picture.shape == (240, 480, 3)
    across, down = min(num, 3), -(-num // 3)
    for k in range(num):
        x, y = k % across * (480 // across), k // across * (240 // down)
        panel = picture[y : y + 240 // down, x : x + 480 // across]
        near = [(np.abs(panel - colour).max(axis=2) < 40).sum() for colour in (BLUE, RED)]
        assert near[k % 2] > 30 > near[1 - k % 2]
        edge = np.concatenate([panel[:2].reshape(-1, 3), panel[-2:].reshape(-1, 3), panel[:, :2].reshape(-1, 3)])
        assert (np.abs(edge - GREY).max(axis=1) <= 1).mean() > 0.97, "something is cut off"
