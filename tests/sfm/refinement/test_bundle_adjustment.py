"""bundle: COLMAP's own result where all observations are equal, a better one where they are known not to be."""

import numpy as np
import pycolmap
import pytest

from sfm.colmap.model_arrays import ModelColumns
from sfm.geometry.poses import pose_error_deg, relative_pose
from sfm.refinement.bundle_adjustment import LOSS_SCALE, Freedom, adjust, whitened
from tests.support.plane_scene import PARAMS, make_model, perturbed, poses, project, surface_points

FIXED = Freedom(fixed_cameras=frozenset({1}))


def equal(model, sigma=1.0):
    return {i: np.tile(sigma**2 * np.eye(2), (len(m.points2D), 1, 1)) for i, m in model.images.items()}


def start(observations, xyz, seed=0):
    """A model of these observations whose poses and points are a little off."""
    rng = np.random.default_rng(seed)
    model = make_model(xyz, observations)
    for frame in model.frames.values():
        rotation = pycolmap.Rotation3d(rng.normal(0, 0.004, 3))
        before = frame.rig_from_world
        frame.rig_from_world = pycolmap.Rigid3d(rotation * before.rotation, before.translation + rng.normal(0, 0.02, 3))
    for point in model.points3D.values():
        point.xyz = point.xyz + rng.normal(0, 0.02, 3)
    return model


def largest_error_deg(model):
    """Largest error of the relative poses, degrees."""
    found = [model.images[i + 1].cam_from_world().matrix() for i in range(5)]
    return max(
        max(pose_error_deg(relative_pose(found[i], found[j]), relative_pose(poses()[i], poses()[j])))
        for i in range(5)
        for j in range(i)
    )


@pytest.fixture(scope="module")
def points():
    return surface_points(80)


@pytest.mark.parametrize("known", [True, False])
def test_with_equal_covariances_it_ends_where_colmap_does(points, known):
    observations = perturbed(points, 0.1)
    observations[2][:4] += 12  # some that the loss is for
    ours, theirs = start(observations, points), start(observations, points)
    adjust(ours, equal(ours), FIXED if known else Freedom(), threads=1, tolerance=1e-8)  # both to the very end
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_focal_length = options.refine_extra_params = not known
    options.refine_principal_point = False
    options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    options.ceres.loss_function_scale = LOSS_SCALE
    config = pycolmap.BundleAdjustmentConfig()
    for i in range(1, 6):
        config.add_image(i)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    pycolmap.create_default_bundle_adjuster(options, config, theirs).solve()
    theirs.update_point_3d_errors()
    a, b = ModelColumns.of(ours), ModelColumns.of(theirs)
    assert largest_error_deg(start(observations, points)) > 5 * largest_error_deg(ours)  # there was something to do
    np.testing.assert_allclose(a.centres, b.centres, atol=1e-3)
    np.testing.assert_allclose(a.rotations, b.rotations, atol=2e-4)
    np.testing.assert_allclose(a.xyz, b.xyz, atol=5e-3)
    np.testing.assert_allclose(ours.cameras[1].params, theirs.cameras[1].params, atol=0.1)
    assert ours.compute_mean_reprojection_error() == pytest.approx(theirs.compute_mean_reprojection_error(), rel=1e-3)


def edges(xyz, seed):
    """Observations that are exact across a direction of their own and far off along it, and their covariances."""
    rng = np.random.default_rng(seed)
    observations, covariances = [], {}
    for i in range(5):
        angle = rng.uniform(0, np.pi, len(xyz))
        axes = np.stack([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]).transpose(2, 1, 0)
        sigma = np.array([0.1, 3.0])
        observations.append(project(i, xyz) + (axes @ (sigma * rng.normal(size=(len(xyz), 2)))[:, :, None])[:, :, 0])
        covariances[i + 1] = axes * sigma**2 @ axes.transpose(0, 2, 1)
    return observations, covariances


def test_true_covariances_are_better_than_equal_ones(points):
    ratios = []
    for seed in range(3):
        observations, covariances = edges(points, seed)
        known, same = (start(observations, points, seed) for _ in range(2))
        adjust(known, covariances, FIXED, threads=1)
        adjust(same, equal(same, 2.1), FIXED, threads=1)
        ratios.append(largest_error_deg(known) / largest_error_deg(same))
    assert np.median(ratios) < 0.4


def test_fixed_poses_stay(points):
    model = start(perturbed(points, 0.5), points)
    before = {i: f.rig_from_world.params.copy() for i, f in model.frames.items()}
    error = model.compute_mean_reprojection_error()
    adjust(model, equal(model), Freedom(poses=False, fixed_cameras=frozenset({1})), threads=1)
    for i, frame in model.frames.items():
        np.testing.assert_allclose(frame.rig_from_world.params, before[i], rtol=1e-15)  # COLMAP makes quaternions unit
    np.testing.assert_array_equal(model.cameras[1].params, PARAMS)
    assert model.compute_mean_reprojection_error() != error


@pytest.mark.parametrize(
    ("freedom", "free"),
    [
        (Freedom(), [0, 3]),
        (Freedom(principal_point=True), [0, 1, 2, 3]),
        (Freedom(extra_params=False), [0]),
        (Freedom(focal_length=False), [3]),
        (Freedom(focal_length=False, extra_params=False), []),
        (Freedom(principal_point=True, fixed_cameras=frozenset({1})), []),
    ],
)
def test_only_free_parameters_of_a_camera_change(points, freedom, free):
    model = start(perturbed(points, 0.5), points)
    adjust(model, equal(model), freedom, threads=1)
    assert np.flatnonzero(model.cameras[1].params != PARAMS).tolist() == free


def test_errors_of_points_are_updated(points):
    model = start(perturbed(points, 0.5), points)
    adjust(model, equal(model), FIXED, threads=1)
    columns = ModelColumns.of(model)
    lengths = np.linalg.norm(columns.residuals(), axis=1)
    means = np.bincount(columns.point, weights=lengths) / columns.track_lengths
    np.testing.assert_allclose([model.points3D[int(i)].error for i in columns.point_ids], means, rtol=1e-6)


@pytest.mark.parametrize("posed", [True, False])
def test_an_image_without_a_point_stays(points, posed):
    model = start(perturbed(points, 0.5), points)
    for j in range(len(points)):
        model.delete_observation(5, j)
    before = model.images[5].cam_from_world().matrix()
    freedom = Freedom(poses=not posed, fixed_cameras=frozenset({1} if posed else ()))
    adjust(model, equal(model), freedom, threads=1)
    np.testing.assert_array_equal(model.images[5].cam_from_world().matrix(), before)
    assert model.compute_mean_reprojection_error() < 1.0


def test_a_model_without_points_stays(points):
    model = start(perturbed(points, 0.5), points)
    for point_id in list(model.point3D_ids()):
        model.delete_point3D(point_id)
    before = model.images[3].cam_from_world().matrix()
    adjust(model, equal(model), Freedom(), threads=1)
    np.testing.assert_array_equal(model.images[3].cam_from_world().matrix(), before)


def test_whitened_residuals_are_in_standard_deviations():
    covariances = np.array([[[4.0, 0.0], [0.0, 9.0]], [[4.0, 0.0], [0.0, 9.0]], [[5.0, 4.0], [4.0, 5.0]], np.eye(2)])
    residuals = np.array([[2.0, 0.0], [4.0, 9.0], [3.0, -3.0], [np.nan, 1.0]])  # (1, -1) has the variance 1
    expected = [1.0, np.sqrt(13), np.sqrt(18), np.inf]
    np.testing.assert_allclose(whitened(residuals, covariances), expected)


# --- rigs ------------------------------------------------------------------------------------------


MOUNTED = pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([0.0, 0.05, 0.02])), np.array([0.2, -0.1, 0.05]))


def rig_model(xyz, observations, turned=0.0, cameras=2):
    """Images 1 to 4 as two frames of a rig of two cameras; their true poses are composed. turned: of all poses, rad."""
    model = pycolmap.Reconstruction()
    for camera_id in range(1, cameras + 1):
        own = pycolmap.Camera(model="SIMPLE_RADIAL", width=320, height=240, params=PARAMS)
        own.camera_id = camera_id
        model.add_camera(own)
    rig = pycolmap.Rig(rig_id=1)
    rig.add_ref_sensor(pycolmap.sensor_t(pycolmap.SensorType.CAMERA, 1))
    off = pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([turned, -turned, 0.0])), np.full(3, turned))
    rig.add_sensor(pycolmap.sensor_t(pycolmap.SensorType.CAMERA, 2), off * MOUNTED)
    model.add_rig(rig)
    for f in range(3):
        frame = pycolmap.Frame(frame_id=f + 1, rig_id=1)
        images = [pycolmap.Image(name=f"{k}/{f}", camera_id=k + 1, image_id=1 + 2 * f + k) for k in range(2)]
        for image in images:
            frame.add_data_id(image.data_id)
            image.frame_id = f + 1
            image.points2D = [pycolmap.Point2D(xy) for xy in observations[image.image_id]]
        frame.rig_from_world = (off if f else pycolmap.Rigid3d()) * pycolmap.Rigid3d(poses()[f + 1])
        model.add_frame(frame)
        for image in images:
            model.add_image(image)
        model.register_frame(f + 1)
    for n, point in enumerate(xyz):
        track = pycolmap.Track([pycolmap.TrackElement(i, n) for i in range(1, 7)])
        model.add_point3D(point + (turned * 0.1 if n % 2 else 0.0), track)
    return model


def rig_observations(xyz, sigma=0.02, params=(PARAMS, PARAMS)):
    rng, found = np.random.default_rng(4), {}
    for f in range(3):
        for k in range(2):
            pose = (MOUNTED if k else pycolmap.Rigid3d()) * pycolmap.Rigid3d(poses()[f + 1])
            own = pycolmap.Camera(model="SIMPLE_RADIAL", width=320, height=240, params=params[k])
            xy = own.img_from_cam(xyz @ pose.rotation.matrix().T + pose.translation)
            found[1 + 2 * f + k] = xy + rng.normal(0, sigma, xy.shape)
    return found


def mounted_pose(model):
    (pose,) = model.rigs[1].non_ref_sensors.values()
    return pose.matrix()


def test_a_rig_is_adjusted_with_one_pose_a_frame(points):
    model = rig_model(points, rig_observations(points), turned=0.01)
    adjust(model, equal(model), Freedom(fixed_cameras=frozenset({1, 2})), threads=1, tolerance=1e-9)
    rotation, direction = pose_error_deg(mounted_pose(model), MOUNTED.matrix())
    assert rotation < 0.03
    assert direction < 1.0
    assert model.compute_mean_reprojection_error() < 0.03
    for f in range(3):  # the second camera is where the rig says
        own = model.images[2 + 2 * f].cam_from_world().matrix()
        body = model.frames[f + 1].rig_from_world.matrix()
        np.testing.assert_allclose(own, (pycolmap.Rigid3d(mounted_pose(model)) * pycolmap.Rigid3d(body)).matrix())


def test_a_rig_that_is_known_stays_and_gives_the_scale(points):
    model = rig_model(points * 1.2, rig_observations(points), turned=0.0)  # all points a fifth too far away
    for frame in list(model.frames.values())[1:]:
        pose = frame.rig_from_world
        frame.rig_from_world = pycolmap.Rigid3d(pose.rotation, 1.2 * pose.translation)
    first = model.frames[1].rig_from_world.matrix()
    adjust(
        model,
        equal(model),
        Freedom(fixed_cameras=frozenset({1, 2}), fixed_rigs=frozenset({1})),
        threads=1,
        tolerance=1e-9,
    )
    np.testing.assert_allclose(mounted_pose(model), MOUNTED.matrix(), atol=1e-15)
    np.testing.assert_array_equal(model.frames[1].rig_from_world.matrix(), first)  # the gauge, and nothing more
    motion = relative_pose(first, model.frames[3].rig_from_world.matrix())
    true = relative_pose(poses()[1], poses()[3])
    assert np.linalg.norm(motion[:, 3]) == pytest.approx(np.linalg.norm(true[:, 3]), rel=0.005)


def test_cameras_of_one_calibration_are_adjusted_as_one(points):
    true = (310.0, *PARAMS[1:])
    model = rig_model(points, rig_observations(points, params=(true, true)))
    adjust(model, equal(model), Freedom(equal_cameras={2: 1}), threads=1, tolerance=1e-9)
    np.testing.assert_array_equal(model.cameras[1].params, model.cameras[2].params)
    assert model.cameras[1].params[0] == pytest.approx(310.0, abs=2.0)
    apart = rig_model(points, rig_observations(points, params=(true, PARAMS)))
    adjust(apart, equal(apart), Freedom(), threads=1, tolerance=1e-9)
    assert apart.cameras[1].params[0] == pytest.approx(310.0, abs=2.0)
    assert apart.cameras[2].params[0] == pytest.approx(PARAMS[0], abs=2.0)
