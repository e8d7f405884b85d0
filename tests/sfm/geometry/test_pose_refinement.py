"""refine_pose: what is exact decides, and a pose that cannot be refined stays."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest

from sfm.geometry.pose_refinement import refine_pose
from sfm.geometry.poses import pose_error_deg
from tests.support.pair_scene import FOCAL, HEIGHT, POSE, WIDTH, K

CAMERA = pycolmap.Camera(model="SIMPLE_PINHOLE", width=WIDTH, height=HEIGHT, params=[FOCAL, WIDTH / 2, HEIGHT / 2])
MAX_ERROR = 2.0


def scene(seed, sigmas, *, pose=POSE, num_false=0):
    """Points of image 0, exactly, and of image 1 with these standard deviations (M,), px; false ones last."""
    rng = np.random.default_rng(seed)
    xyz = rng.uniform([-2, -1.5, 4], [2, 1.5, 8], (len(sigmas), 3))
    p0, p1 = xyz @ K.T, (xyz @ pose[:, :3].T + pose[:, 3]) @ K.T
    p0, p1 = p0[:, :2] / p0[:, 2:], p1[:, :2] / p1[:, 2:]
    p1 += rng.normal(0, 1, p1.shape) * sigmas[:, None]
    p1[len(p1) - num_false :] = rng.uniform(0, [WIDTH, HEIGHT], (num_false, 2))
    return p0, p1


def estimated(p0, p1, seed):
    ransac = pycolmap.RANSACOptions(max_error=MAX_ERROR, random_seed=seed)
    return pycolmap.estimate_relative_pose(CAMERA, p0, CAMERA, p1, ransac)["cam2_from_cam1"]


def errors(seed, sigmas, num_false=0):
    p0, p1 = scene(seed, sigmas, num_false=num_false)
    pose = estimated(p0, p1, seed)
    refined = refine_pose(pose, (CAMERA, CAMERA), p0, p1, max_error=MAX_ERROR)
    return [max(pose_error_deg(each.matrix(), POSE)) for each in (pose, refined)]


def test_exact_matches_decide_beside_others_that_are_nearly_let_out():
    sigmas = np.repeat([0.1, 1.0], [300, 200])
    both = np.array([errors(seed, sigmas, num_false=50) for seed in range(10)])
    before, after = np.median(both, axis=0)
    assert after < 0.3 * before


@pytest.mark.parametrize("sigma", [0.05, 0.7])
def test_matches_of_one_kind_lose_nothing(sigma):
    both = np.array([errors(seed, np.full(400, sigma)) for seed in range(20)])
    before, after = np.sqrt(np.mean(both**2, axis=0))
    assert after < 1.05 * before


def test_a_pose_that_nothing_fits_stays():
    p0, p1 = scene(0, np.zeros(11))
    pose = pycolmap.Rigid3d(pycolmap.Rotation3d(POSE[:, :3]), POSE[:, 3])
    few = refine_pose(pose, (CAMERA, CAMERA), p0, p1, max_error=MAX_ERROR)
    np.testing.assert_array_equal(few.matrix(), pose.matrix())
    still = pycolmap.Rigid3d(pycolmap.Rotation3d(POSE[:, :3]), np.zeros(3))
    p0, p1 = scene(0, np.zeros(100))
    np.testing.assert_array_equal(
        refine_pose(still, (CAMERA, CAMERA), p0, p1, max_error=MAX_ERROR).matrix(), still.matrix()
    )


def test_a_fisheye_lens_to_the_side():
    """Rays 60 degrees off the axis: distances are angles, not pixels of a plane that has no end."""
    lens = pycolmap.Camera(model="SIMPLE_FISHEYE", width=1000, height=1000, params=[450.0, 500.0, 500.0])
    rng = np.random.default_rng(0)
    angles, around = rng.uniform(0, np.radians(65), 400), rng.uniform(0, 2 * np.pi, 400)
    rays = np.column_stack([np.sin(angles) * np.cos(around), np.sin(angles) * np.sin(around), np.cos(angles)])
    xyz = rays * rng.uniform(3, 8, (400, 1))
    moved = xyz @ POSE[:, :3].T + POSE[:, 3]
    p0, p1 = (np.asarray(lens.img_from_cam(points)) for points in (xyz, moved))
    p1 = p1 + rng.normal(0, 0.1, p1.shape)
    start = pycolmap.Rigid3d(pycolmap.Rotation3d(POSE[:, :3]), POSE[:, 3] + [0, 0.004, 0.004])
    refined = refine_pose(start, (lens, lens), p0, p1, max_error=MAX_ERROR)
    assert max(pose_error_deg(refined.matrix(), POSE)) < 0.5 * max(pose_error_deg(start.matrix(), POSE))
