"""sample: of many images some that differ, and no more observations than are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from sfm.calibration import sample as S
from sfm.calibration.self_calibration import calibrated_cameras, prepare
from tests.sfm.calibration.test_self_calibration import WIDTH, arc, looking, make_model, scene_points, true_camera

STILL, MOVED = 140, 60


@pytest.fixture(scope="module")
def video():
    """A camera that stands nearly still for most of its images, and walks around the scene in the others."""
    rng = np.random.default_rng(3)
    still = [looking(np.array([0.0, -6.0, 0.2]) + rng.normal(0, 0.02, 3), np.zeros(3)) for _ in range(STILL)]
    behind = rng.uniform([-6, 15, -4], [6, 20, 4], (150, 3))  # what these see more of, so they share the most points
    return make_model([*still, *arc(MOVED)], np.concatenate([scene_points(150, rng), behind]), true_camera(0.02, -0.01))


def test_of_many_images_some_of_every_part_are_chosen(video):
    problem = prepare(video, video.camera(1), sorted(video.reg_image_ids()))
    assert len(problem.state.R) == S.MAX_IMAGES
    assert 9000 < len(problem.views) <= S.OF_MANY
    centres = -np.einsum("nji,nj->ni", problem.state.R, problem.state.t)
    middle = np.median(centres, axis=0)
    apart = np.linalg.norm(centres - middle, axis=1) > 0.1 * np.linalg.norm(centres - middle, axis=1).max()
    assert np.count_nonzero(apart) == pytest.approx(S.MAX_IMAGES * MOVED / (STILL + MOVED), abs=3)


def test_images_of_a_camera_that_stands_still_do_not_decide(video):
    cameras, (report,) = calibrated_cameras(video)
    deviation = {estimate.name: estimate.sd for estimate in report.estimated}
    assert deviation["cx"] < 0.4  # of the 80 images that share most, all from one place, .7
    assert deviation["f"] < 0.6  # .95
    found = (cameras[1].principal_point_x, cameras[1].principal_point_y)
    np.testing.assert_allclose(found, [0.52 * WIDTH, 300 - 0.01 * WIDTH], atol=2.0)


def test_of_more_images_than_a_region_the_well_connected_part_is_taken(monkeypatch):
    monkeypatch.setattr(S, "REGION", 100)
    image = np.repeat(np.arange(150), 4)
    point = image.copy()  # images 0 to 99 see the same four points, all others each their own
    point[image < 100] = np.tile(np.arange(4), 100)
    point[image >= 100] = np.arange(1000, 1200)
    chosen = S.choose_images(image, point, 150)
    assert len(chosen) == len(set(chosen.tolist())) == S.MAX_IMAGES
    assert chosen[0] == 0
    assert chosen[-1] == 99
