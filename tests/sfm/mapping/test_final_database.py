"""One database for all models of a run, of which each may have freed other parameters and found other keypoints."""

import numpy as np
import pycolmap
import pytest

from sfm.mapping.final_database import reconcile, write_final_database
from tests.support.carrying_on import assert_database_is_of
from tests.support.plane_scene import HEIGHT, WIDTH, make_input, make_model, perturbed, surface_points

RAISED = {
    "RADIAL": [310.0, 150.0, 121.0, 0.01, 0.02],
    "OPENCV": [310.0, 305.0, 150.0, 121.0, 0.01, 0.02, 0.0, 0.0],
}


@pytest.fixture(scope="module")
def data():
    """What mapping read of the roof's images."""
    return make_input(perturbed(surface_points(), 1.0))


def with_camera(model, name, params):
    result = pycolmap.Reconstruction(model)
    result.cameras[1] = pycolmap.Camera(camera_id=1, model=name, width=WIDTH, height=HEIGHT, params=params)
    return result


@pytest.mark.parametrize("name", RAISED)
def test_the_database_has_the_final_cameras_and_says_of_priors_what_the_images_said(data, tmp_path, name):
    observations = perturbed(surface_points(), 0.5)
    model = with_camera(make_model(surface_points(), observations), name, RAISED[name])
    write_final_database(tmp_path / "database.db", data, [model])
    assert_database_is_of(tmp_path, model)
    database = pycolmap.Database.open(tmp_path / "database.db")
    assert database.read_camera(1).has_prior_focal_length == data.images[0].camera.has_focal_prior
    database.close()


def test_models_that_share_a_camera_get_the_same_model_of_it_and_project_as_before(data, tmp_path):
    observations = perturbed(surface_points(), 0.5)
    first = make_model(surface_points(), observations, images=range(3))
    second = with_camera(make_model(surface_points(), observations, images=range(2, 5)), "OPENCV", RAISED["OPENCV"])
    for j in range(4):  # proposed in the second one only
        second.images[3].points2D.append(pycolmap.Point2D([j, j]))
    xyz = np.array([[0.1, 0.2, 1.0], [-0.2, 0.1, 1.5]])
    before = [model.cameras[1].img_from_cam(xyz) for model in (first, second)]
    reconcile([first, second])
    for model, projected in zip((first, second), before, strict=True):
        assert model.cameras[1].model_name == "OPENCV"
        np.testing.assert_allclose(model.cameras[1].img_from_cam(xyz), projected, rtol=0, atol=1e-9)
    assert len(first.images[3].points2D) == len(second.images[3].points2D)
    write_final_database(tmp_path / "database.db", data, [first, second])
    assert_database_is_of(tmp_path, first)
    assert_database_is_of(tmp_path, second, positions=False)
    for i in (4, 5):  # of the second model alone: its keypoints, not those that mapping read
        own = make_model(surface_points(), observations).images[i]
        stored = pycolmap.Database.open(tmp_path / "database.db")
        found = np.asarray(stored.read_keypoints(i))
        stored.close()
        np.testing.assert_allclose(found[:, :2], [p.xy for p in own.points2D], atol=1e-3)
