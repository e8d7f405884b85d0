"""focal: exact and noisy fundamental matrices of known cameras, and those that determine no focal length."""

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from sfm.geometry import focal_from_F as F
from sfm.geometry.epipolar import fundamental_matrix
from sfm.geometry.poses import relative_pose
from sfm.types import CameraPrior, ImagePair, ImageRecord, TwoViewGeometry

WIDTH, HEIGHT = 800, 600


def free_poses(num, rng):
    """cam_from_world of cameras that look past each other."""
    poses = []
    for _ in range(num):
        rotation = Rotation.from_euler("xyz", rng.uniform(-25, 25, 3), degrees=True).as_matrix()
        poses.append(np.concatenate([rotation, rng.uniform([-2, -2, 5], [2, 2, 8])[:, None]], 1))
    return poses


def ring_poses(num):
    """cam_from_world of cameras on a circle whose axes meet in its centre."""
    turns = Rotation.from_euler("y", np.arange(num)[:, None] * 15.0, degrees=True).as_matrix()
    return [np.concatenate([rotation, [[0.0], [0.0], [6.0]]], 1) for rotation in turns]


def matrices(poses, focal, noise, rng):
    """F of every pair: exact ones, or fitted by eight points to projections with Gaussian noise of so many px."""
    pycolmap.set_random_seed(0)  # of RANSAC, which otherwise goes on from where other tests left it
    K = F.calibration(np.array([focal]), WIDTH, HEIGHT)[0]
    xyz = rng.uniform(-1.5, 1.5, (300, 3))
    result = []
    for i in range(len(poses)):
        for j in range(i + 1, len(poses)):
            if not noise:
                result.append(fundamental_matrix(K, K, relative_pose(poses[i], poses[j])))
                continue
            seen = [(xyz @ p[:, :3].T + p[:, 3]) @ K.T for p in (poses[i], poses[j])]
            xy = [s[:, :2] / s[:, 2:] + rng.normal(0, noise, (len(s), 2)) for s in seen]
            result.append(pycolmap.estimate_fundamental_matrix(*xy)["F"])
    return np.stack(result)


@pytest.mark.parametrize("factor", [0.6, 1.2, 3.0])
def test_exact_matrices_give_the_focal_length_to_a_step_of_the_scan(factor):
    rng = np.random.default_rng(0)
    exact = matrices(free_poses(5, rng), factor * WIDTH, 0.0, rng)
    assert F.scan_focal(exact, np.ones(len(exact)), WIDTH, HEIGHT) == pytest.approx(factor * WIDTH, rel=0.01)


def test_cost_is_nought_for_an_essential_matrix_and_does_not_depend_on_scale():
    rng = np.random.default_rng(1)
    K = F.calibration(np.array([900.0, 500.0]), WIDTH, HEIGHT)
    one = matrices(free_poses(2, rng), 900.0, 0.0, rng)[0]
    right, wrong = F.essential_cost(one, K, K)
    assert right < 1e-9 < 0.05 < wrong < 1
    np.testing.assert_allclose(F.essential_cost(-7.0 * one, K, K), [right, wrong], atol=1e-9)


def test_noise_and_a_few_wrong_pairs_are_borne():
    rng = np.random.default_rng(2)
    noisy = matrices(free_poses(5, rng), 1000.0, 0.5, rng)
    noisy[:2] = rng.normal(size=(2, 3, 3)) * [1e-6, 1e-6, 1e-3]
    assert F.scan_focal(noisy, np.full(len(noisy), 100.0), WIDTH, HEIGHT) == pytest.approx(1000.0, rel=0.05)


def test_a_ring_around_an_object_determines_nothing():
    rng = np.random.default_rng(3)
    noisy = matrices(ring_poses(6), 2000.0, 0.5, rng)
    assert F.scan_focal(noisy, np.ones(len(noisy)), WIDTH, HEIGHT) is None


def test_few_pairs_determine_nothing():
    rng = np.random.default_rng(4)
    exact = matrices(free_poses(3, rng), 900.0, 0.0, rng)
    assert F.scan_focal(exact, np.ones(len(exact)), WIDTH, HEIGHT) is None


def record(name, group, *, prior=False, model="SIMPLE_RADIAL"):
    camera = pycolmap.Camera.create_from_model_name(1, model, 960.0, WIDTH, HEIGHT)
    return ImageRecord(name, WIDTH, HEIGHT, CameraPrior(model, camera.params, prior, group), "")


def test_only_cameras_without_a_prior_are_estimated_and_planar_pairs_say_nothing():
    rng = np.random.default_rng(5)
    exact = iter(matrices(free_poses(5, rng), 700.0, 0.0, rng))
    images, geometries = [], []
    for group, prior, kind in ("a", False, "uncalibrated"), ("b", True, "calibrated"), ("c", False, "planar"):
        members = [record(f"{group}{i}", group, prior=prior) for i in range(5)]
        if group == "a":
            matrices_of = list(exact)
        pairs = [ImagePair(f"{group}{i}", f"{group}{j}") for i in range(5) for j in range(i + 1, 5)]
        geometries += [
            TwoViewGeometry(p, np.arange(50), kind, None, one) for p, one in zip(pairs, matrices_of, strict=True)
        ]
        images += members
    focals = F.estimate_focals(images, geometries)
    assert list(focals) == ["a"]
    assert focals["a"] == pytest.approx(700.0, rel=0.01)


@pytest.mark.parametrize("focal", [600.0, 900.0, 1500.0])
def test_one_pair_tells_the_focal_length_or_nothing(focal):
    rng = np.random.default_rng(6)
    found = [F.focal_of_pair(one, WIDTH, HEIGHT) for one in matrices(free_poses(8, rng), focal, 0.0, rng)]
    told = np.array([value for value in found if value is not None])
    assert len(told) > 0.4 * len(found)
    assert np.median(np.abs(told / focal - 1)) < 0.02
    assert np.abs(told / focal - 1).max() < 0.15


def test_one_pair_on_a_ring_tells_nothing():
    rng = np.random.default_rng(7)
    assert {F.focal_of_pair(one, WIDTH, HEIGHT) for one in matrices(ring_poses(6), 900.0, 0.0, rng)} == {None}
