"""Poses from correspondences, and whether their covariances are true."""

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from sfm.localization.pose import Pose, find_pose, refine_pose

ROTATION = Rotation.from_euler("yxz", [20, -10, 30], degrees=True).as_matrix()
CENTRE = np.array([0.5, -0.3, -6.0])


def camera(focal=600.0):
    return pycolmap.Camera(model="SIMPLE_RADIAL", width=640, height=480, params=[focal, 320, 240, -0.05])


def scene(num=300, seed=0):
    """xyz of points and xy, px, where the camera sees them."""
    rng = np.random.default_rng(seed)
    rays = rng.uniform([-0.5, -0.38, 1], [0.5, 0.38, 1], (num, 3))
    local = rays * rng.uniform(4, 8, (num, 1))
    return local @ ROTATION + CENTRE, camera().img_from_cam(local)


def error_of(pose):
    """(6,) as its covariance has it: rotation vector in the camera's frame, centre."""
    rotation = Rotation.from_matrix(pose.rotation @ ROTATION.T).as_rotvec()
    return np.concatenate([rotation, pose.centre - CENTRE])


@pytest.mark.parametrize(("free_focal", "focal"), [(False, 600.0), (True, 800.0)])
def test_a_pose_among_wrong_correspondences(free_focal, focal):
    xyz, xy = scene()
    rng = np.random.default_rng(1)
    wrong = rng.uniform(size=len(xy)) < 0.4
    xy = np.where(wrong[:, None], rng.uniform(0, 480, xy.shape), xy + rng.normal(0, 0.3, xy.shape))
    first = find_pose(xy, xyz, camera(focal), sigma=1.0, free_focal=free_focal, seed=0)
    assert first is not None
    assert (first.inliers == ~wrong).mean() > 0.97
    pose = refine_pose(first, xy, xyz, np.tile(0.09 * np.eye(2), (len(xy), 1, 1)), free_focal=free_focal)
    error = error_of(pose)
    assert np.degrees(np.linalg.norm(error[:3])) < 0.1
    assert np.linalg.norm(error[3:]) < 0.05
    assert pose.camera.mean_focal_length() == pytest.approx(600, rel=0.01)
    np.testing.assert_allclose(pose.cam_from_world.matrix()[:, :3], pose.rotation, atol=1e-12)


def test_the_covariance_is_that_of_the_errors():
    """Of many noisy poses the errors are as large as their covariances say, in every direction."""
    xyz, exact = scene(80)
    sigma = np.array([0.5, 2.0])  # px in x and y
    start = Pose(ROTATION, CENTRE + 0.05, camera(), np.ones(len(xyz), bool), np.zeros((6, 6)))
    covariances = np.tile(np.diag(sigma**2), (len(xyz), 1, 1))
    rng, errors, claimed = np.random.default_rng(2), [], []
    for _ in range(60):
        xy = exact + rng.normal(0, 1, exact.shape) * sigma
        pose = refine_pose(start, xy, xyz, covariances, free_focal=False)
        errors.append(error_of(pose))
        claimed.append(pose.covariance)
    ratio = np.std(errors, axis=0) / np.sqrt(np.diag(np.mean(claimed, axis=0)))
    assert (ratio > 0.7).all(), ratio
    assert (ratio < 1.4).all(), ratio


def test_no_pose_among_chance():
    xyz, xy = scene()
    found = find_pose(np.random.default_rng(0).permutation(xy), xyz, camera(), sigma=1.0, free_focal=False, seed=0)
    assert found is None or found.inliers.sum() < 15
