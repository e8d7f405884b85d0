"""track_geometry: the middle view is the reference, and patches map as the surface's plane says."""

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from sfm.alignment.patch_warps import patch_maps, references, surface_normals
from sfm.colmap.model_arrays import ModelColumns

PINHOLE = ("PINHOLE", [500.0, 520.0, 320.0, 240.0])
DISTORTED = ("SIMPLE_RADIAL", [500.0, 320.0, 240.0, -0.15])


def looking_at(centre, target):
    """Rotation of a camera at `centre` whose axis goes through the target."""
    z = (target - centre) / np.linalg.norm(target - centre)
    x = np.cross([0.0, 1.0, 0.0], z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])


def columns_of(centres, xyz, model=PINHOLE, rotations=None):
    """Every image sees every point; the cameras look at the points' middle unless rotations are given."""
    centres, xyz = np.asarray(centres, np.float64), np.asarray(xyz, np.float64)
    num, length = len(xyz), len(centres)
    if rotations is None:
        rotations = np.array([looking_at(c, xyz.mean(axis=0)) for c in centres])
    made = pycolmap.Camera(model=model[0], width=640, height=480, params=model[1])
    columns = ModelColumns(
        np.arange(length),
        tuple(str(i) for i in range(length)),
        rotations,
        -np.einsum("nij,nj->ni", rotations, centres),
        (made,) * length,
        np.arange(num),
        xyz,
        np.repeat(np.arange(num), length),
        np.tile(np.arange(length), num),
        np.repeat(np.arange(num), length),
        np.zeros((num * length, 2)),
    )
    return columns


def fan(angles, distance=5.0):
    radians = np.radians(angles)
    return distance * np.stack([np.sin(radians), np.zeros(len(radians)), -np.cos(radians)], axis=1)


def test_the_middle_of_a_fan_is_the_reference():
    angles = [30.0, -30.0, 1.0, -14.0, 15.0]
    columns = columns_of(fan(angles), [[0.0, 0.0, 0.0], [0.01, 0.0, 0.0]])
    np.testing.assert_array_equal(references(columns), [2, 5 + 2])


def test_an_avoided_image_is_a_reference_only_where_there_is_no_other():
    angles = [30.0, -30.0, 1.0, -14.0, 15.0]
    columns = columns_of(fan(angles), [[0.0, 0.0, 0.0], [0.01, 0.0, 0.0]])
    avoided = np.array([False, False, True, False, False])
    assert columns.image[references(columns, avoided=avoided)].tolist() == [3, 3]
    np.testing.assert_array_equal(references(columns, avoided=np.ones(5, bool)), references(columns))


def test_the_middle_of_a_row_of_scales_is_the_reference():
    centres = np.outer([2.0, 32.0, 4.0, 8.3, 16.0], [0.0, 0.0, -1.0])
    columns = columns_of(centres, [[0.0, 0.0, 0.0]])
    assert columns.image[references(columns)].tolist() == [3]


def test_focal_length_and_distance_make_one_scale():
    """Twice as far with twice the focal length is the same resolution as the middle one."""
    centres = np.outer([2.0, 4.0, 12.0], [0.0, 0.0, -1.0])
    columns = columns_of(centres, [[0.0, 0.0, 0.0]])
    for row, focal in enumerate([500.0, 200.0, 1500.0]):
        camera = pycolmap.Camera(model="SIMPLE_PINHOLE", width=640, height=480, params=[focal, 320.0, 240.0])
        cameras = list(columns.cameras)
        cameras[row] = camera
        object.__setattr__(columns, "cameras", tuple(cameras))
    np.testing.assert_allclose(columns.focals, [500.0, 200.0, 1500.0])
    # px per unit: 250, 50, 125; the middle of their logarithms is 116
    assert columns.image[references(columns)].tolist() == [2]


def plane_points(normal, num=80, seed=0):
    axes = np.linalg.svd(normal[None])[2][1:]
    return np.random.default_rng(seed).uniform(-1, 1, (num, 2)) @ axes


def test_normals_of_a_plane_point_to_the_reference():
    normal = np.array([0.3, -0.2, -0.9])
    normal /= np.linalg.norm(normal)
    columns = columns_of(fan([-10, 0, 10]), plane_points(normal))
    np.testing.assert_allclose(surface_normals(columns, references(columns)), np.tile(normal, (80, 1)), atol=1e-9)


@pytest.mark.parametrize("case", ["rough", "seen too flat", "few points"])
def test_where_there_is_no_plane_the_surface_faces_the_reference(case):
    xyz = {
        "rough": np.random.default_rng(1).normal(size=(60, 3)),
        "seen too flat": plane_points(np.array([0.0, 1.0, 0.05])),
        "few points": plane_points(np.array([0.0, 0.6, 0.8]), 3),
    }[case]
    columns = columns_of(fan([-10, 0, 10], distance=20.0), xyz)
    reference = references(columns)
    facing = columns.centres[columns.image[reference]] - xyz
    facing /= np.linalg.norm(facing, axis=1, keepdims=True)
    share = np.isclose(np.sum(surface_normals(columns, reference) * facing, axis=1), 1).mean()
    assert share > (0.9 if case == "rough" else 0.999)


def moved(columns, source, target, point, normal, pixels):
    """Where pixels (N, 2) of one image lie in another by the plane through the point: rays, cut and projected."""
    rays = columns.cameras[source].cam_from_img(pixels)
    rays = np.concatenate([rays, np.ones((len(rays), 1))], axis=1) @ columns.rotations[source]
    centre = columns.centres[source]
    ground = centre + ((point - centre) @ normal / (rays @ normal))[:, None] * rays
    return columns.cameras[target].img_from_cam(ground @ columns.rotations[target].T + columns.translations[target])


@pytest.mark.parametrize("model", [PINHOLE, DISTORTED])
def test_maps_are_the_derivative_of_the_planes_homography(model):
    normal = np.array([0.25, -0.15, -0.95])
    normal /= np.linalg.norm(normal)
    centres = [[0.2, 0.1, -5.0], [2.5, -0.4, -4.0], [-3.0, 0.8, -6.5], [0.3, 2.0, -2.5]]
    rotation = [Rotation.from_euler("z", a, degrees=True).as_matrix() for a in (0, 25, -70, 10)]
    xyz = plane_points(normal, 30)
    rotations = np.array([t @ looking_at(np.array(c), np.zeros(3)) for t, c in zip(rotation, centres, strict=True)])
    columns = columns_of(centres, xyz, model, rotations)
    reference = np.arange(30) * 4  # image 0
    rows = np.setdiff1d(np.arange(120), reference)
    maps = patch_maps(columns, rows, reference, np.tile(normal, (30, 1)))
    steps = 0.5 * np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    for row, found in zip(rows, maps, strict=True):
        point = xyz[columns.point[row]]
        middle = columns.project(np.zeros(1, np.int64), point[None])
        ends = moved(columns, 0, columns.image[row], point, normal, middle + steps)
        expected = np.stack([ends[0] - ends[1], ends[2] - ends[3]], axis=1)
        np.testing.assert_allclose(found, expected, atol=0.01 * np.abs(expected).max())
    assert np.linalg.det(maps).min() > 0  # both see the plane's same side


def test_there_is_no_map_behind_a_camera():
    columns = columns_of(
        [[0.0, 0.0, -5.0], [0.0, 0.0, 5.0]], [[0.0, 0.0, 0.0]], rotations=np.tile(np.eye(3), (2, 1, 1))
    )
    assert np.isnan(patch_maps(columns, np.array([1]), np.array([0]), np.array([[0.0, 0.0, -1.0]]))).all()
