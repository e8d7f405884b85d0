"""Cameras of priors, and priors with other focal lengths."""

import numpy as np

from sfm.colmap import camera as C
from sfm.types import CameraPrior, ImageRecord


def record(name, model, params, has_focal_prior=False):
    return ImageRecord(name, 640, 480, CameraPrior(model, np.array(params), has_focal_prior, name), "")


OPENCV = record("a", "OPENCV", [600.0, 610.0, 320.0, 240.0, 0.1, 0.0, 0.0, 0.0])
PINHOLE = record("b", "SIMPLE_PINHOLE", [500.0, 320.0, 240.0], has_focal_prior=True)


def test_the_camera_has_the_priors_parameters_and_an_id_where_one_is_given():
    camera = C.prior_camera(PINHOLE, 7)
    assert (camera.model_name, camera.width, camera.height, camera.camera_id) == ("SIMPLE_PINHOLE", 640, 480, 7)
    np.testing.assert_array_equal(camera.params, [500, 320, 240])
    assert camera.has_prior_focal_length
    assert not C.prior_camera(OPENCV).has_prior_focal_length


def test_the_focal_length_is_the_mean_of_both_directions():
    assert C.prior_focal(OPENCV) == 605.0


def test_replaced_focal_lengths_count_as_priors_and_leave_the_rest():
    changed, same = C.replace_focals([OPENCV, PINHOLE], {"a": 700.0})
    assert changed.camera.has_focal_prior
    np.testing.assert_array_equal(changed.camera.params, [700, 700, 320, 240, 0.1, 0, 0, 0])
    assert same is PINHOLE
    assert not OPENCV.camera.has_focal_prior
