"""calibration: exact cameras, tracks with noise and outliers; freed where the motion determines it, held elsewhere."""

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from sfm.calibration import self_calibration as C
from sfm.calibration.intrinsics_posterior import Prior
from sfm.refinement.bundle_adjustment import Freedom, adjust

WIDTH, HEIGHT, FOCAL = 800, 600, 700.0
CENTRE = np.array([WIDTH / 2, HEIGHT / 2])


def calibrate(model, *, fixed=()):
    """The model with its calibrated cameras, all else adjusted to them, and the reports."""
    cameras, reports = C.calibrated_cameras(model, fixed=fixed)
    new = pycolmap.Reconstruction(model)
    for camera_id, camera in cameras.items():
        new.cameras[camera_id] = camera
    if not cameras:
        return new, reports
    covariances = {i: np.tile(0.09 * np.eye(2), (len(new.image(i).points2D), 1, 1)) for i in new.reg_image_ids()}
    adjust(new, covariances, Freedom(fixed_cameras=frozenset([*cameras, *fixed])))
    return new, reports


def looking(centre, target, roll_deg=0.0):
    """cam_from_world (3, 4) of a camera at `centre` that looks at `target`."""
    z = (target - centre) / np.linalg.norm(target - centre)
    x = np.cross([0.0, 0.0, -1.0], z)
    x /= np.linalg.norm(x)
    R = Rotation.from_euler("z", roll_deg, degrees=True).as_matrix() @ np.stack([x, np.cross(z, x), z])
    return np.column_stack([R, -R @ centre])


def arc(num):
    """Hand-held around the scene: varied height, distance, and turn about the axis."""
    rng = np.random.default_rng(5)
    angles = np.linspace(-0.9, 0.9, num)
    radius, height, roll = rng.uniform(5, 7, num), rng.uniform(-2, 2, num), rng.uniform(-25, 25, num)
    places = np.stack([radius * np.sin(angles), -radius * np.cos(angles), height], 1)
    targets = rng.normal(0, 0.6, (num, 3))
    return [looking(*item) for item in zip(places, targets, roll, strict=True)]


def sideways(num):
    """Parallel views along a line: a shift of the principal point is as good as a turn of all cameras."""
    rng = np.random.default_rng(6)
    return [
        looking(np.array([x, -6.0, 0.0]), np.array([x, 0.0, 0.0]) + rng.normal(0, 0.002, 3))
        for x in np.linspace(-1.5, 1.5, num)
    ]


def scene_points(num, rng):
    return rng.uniform([-2, -2, -1.5], [2, 2, 1.5], (num, 3))


def make_model(poses, xyz, camera, *, noise=0.3, outliers=0.02, seed=0, cameras_of=None):
    """A model of exact poses and points; its observations have noise, and some are wrong. -> model, true observations.

    camera: the ground truth; the model's cameras begin without its offset and distortion.
    """
    rng = np.random.default_rng(seed)
    cameras_of = cameras_of or [1] * len(poses)
    model = pycolmap.Reconstruction()
    for camera_id in sorted(set(cameras_of)):
        guess = [FOCAL * 1.01, *CENTRE, 0.0]
        model.add_camera_with_trivial_rig(
            pycolmap.Camera(model="SIMPLE_RADIAL", width=WIDTH, height=HEIGHT, params=guess, camera_id=camera_id)
        )
    tracks = {i: pycolmap.Track() for i in range(len(xyz))}
    for image_id, (pose, camera_id) in enumerate(zip(poses, cameras_of, strict=True), start=1):
        local = xyz @ pose[:, :3].T + pose[:, 3]
        xy = camera.img_from_cam(local)
        seen = np.flatnonzero(
            (local[:, 2] > 0.1) & (xy > 0).all(1) & (xy < [WIDTH, HEIGHT]).all(1) & (rng.random(len(xyz)) < 0.6)
        )
        xy = xy[seen] + rng.normal(0, noise, (len(seen), 2))
        wrong = rng.random(len(seen)) < outliers
        xy[wrong] += rng.normal(0, 4, (wrong.sum(), 2))
        image = pycolmap.Image(f"{image_id}.jpg", xy, camera_id, image_id)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose))
        for place, point in enumerate(seen):
            tracks[int(point)].add_element(image_id, place)
    for i, track in tracks.items():
        if track.length() >= 2:
            model.add_point3D(xyz[i], track)
    return settled(model)


def settled(model):
    """As mapping leaves a model: all adjusted with the principal point held."""
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    options.ceres.solver_options.max_num_iterations = 40
    options.ceres.solver_options.function_tolerance = 1e-6
    pycolmap.bundle_adjustment(model, options)
    return model


def true_camera(dx=0.0, dy=0.0, k1=0.0):
    params = [FOCAL, CENTRE[0] + dx * WIDTH, CENTRE[1] + dy * WIDTH, k1]
    return pycolmap.Camera(model="SIMPLE_RADIAL", width=WIDTH, height=HEIGHT, params=params)


def arc_model(camera, num=10, **more):
    return make_model(arc(num), scene_points(500, np.random.default_rng(1)), camera, **more)


def pose_error_deg(model, poses):
    """Mean angle of the relative rotations between neighbours against the ground truth."""
    found = [model.image(i + 1).cam_from_world().rotation.matrix() for i in range(len(poses))]
    errors = []
    for i in range(len(poses) - 1):
        true = poses[i + 1][:, :3] @ poses[i][:, :3].T
        errors.append(Rotation.from_matrix(found[i + 1] @ found[i].T @ true.T).magnitude())
    return np.degrees(np.mean(errors))


@pytest.mark.parametrize(("dx", "dy", "k1"), [(0.02, -0.01, 0.0), (-0.03, 0.02, -0.1)])
def test_principal_point_and_distortion_are_found_within_their_errors(dx, dy, k1):
    camera = true_camera(dx, dy, k1)
    model = arc_model(camera)
    new, (report,) = calibrate(model)
    found = new.camera(1)
    assert report.freed
    assert found.model_name == "SIMPLE_RADIAL"
    for name, value in zip(("f", "cx", "cy", "k1"), camera.params, strict=True):
        (estimate,) = [e for e in report.estimated if e.name == name]
        assert abs(estimate.value - value) < 4 * estimate.sd
    np.testing.assert_allclose(found.params[:3], camera.params[:3], atol=2.0)
    assert abs(found.params[3] - k1) < 0.01
    assert pose_error_deg(new, arc(10)) < 0.5 * pose_error_deg(model, arc(10))


def test_a_centred_principal_point_stays_and_poses_are_not_hurt():
    model = arc_model(true_camera())
    new, (report,) = calibrate(model)
    assert not report.freed
    assert list(new.camera(1).params[1:3]) == list(CENTRE)
    assert "principal point" in dict(report.held)
    assert pose_error_deg(new, arc(10)) < 1.3 * pose_error_deg(model, arc(10)) + 0.005


def test_a_camera_that_was_calibrated_before_is_not_called_usual():
    new, (report,) = calibrate(arc_model(true_camera(0.02, -0.01)))
    assert report.freed
    _, (again,) = calibrate(new)
    assert dict(again.held)["principal point"] == "the images do not contradict its value before"


@pytest.mark.parametrize("shape", ["sideways", "flat"])
def test_what_the_motion_does_not_determine_is_held(shape):
    rng = np.random.default_rng(2)
    xyz = scene_points(500, rng)
    poses = sideways(8)
    if shape == "flat":
        xyz[:, 1] *= 0.01
    model = make_model(poses, xyz, true_camera(0.01, -0.01))
    new, (report,) = calibrate(model)
    assert not report.freed
    assert list(new.camera(1).params[1:3]) == list(CENTRE)


def test_tracks_that_see_a_point_twice_in_an_image_do_no_harm():
    camera = true_camera(0.02, -0.01)
    model = arc_model(camera)
    ids = sorted(model.point3D_ids())
    for one, other in zip(ids[::10], ids[1::10], strict=True):
        model.merge_points3D(one, other)
    new, (report,) = calibrate(model)
    assert report.freed
    assert all(estimate.sd > 0 for estimate in report.estimated)
    np.testing.assert_allclose(new.camera(1).params[1:3], camera.params[1:3], atol=3.0)


def test_the_argument_is_unchanged_and_the_result_repeats():
    model = arc_model(true_camera(0.02))
    before = pycolmap.Reconstruction(model)
    (first, report), (second, again) = calibrate(model), calibrate(model)
    assert list(model.camera(1).params) == list(before.camera(1).params)
    for image_id in model.reg_image_ids():
        pose = model.image(image_id).cam_from_world().matrix()
        np.testing.assert_array_equal(pose, before.image(image_id).cam_from_world().matrix())
    assert report == again
    np.testing.assert_allclose(first.camera(1).params, second.camera(1).params, rtol=1e-12)


def test_cameras_are_judged_one_by_one():
    model = arc_model(true_camera(0.02, 0.01), num=14, cameras_of=[1] * 8 + [2] * 5 + [3])
    known = np.array(model.camera(2).params)
    new, reports = calibrate(model, fixed={2})
    assert [r.camera_id for r in reports] == [1, 2, 3]
    assert [r.num_images for r in reports] == [8, 5, 1]
    assert reports[0].freed
    np.testing.assert_array_equal(new.camera(2).params, known)
    assert dict(reports[1].held) == {"intrinsics": "known"}
    assert "fewer than" in dict(reports[2].held)["intrinsics"]
    np.testing.assert_array_equal(new.camera(3).params[1:3], CENTRE)


def test_few_images_are_left_alone():
    model = arc_model(true_camera(0.02), num=4)
    new, (report,) = calibrate(model)
    assert report.estimated == ()
    np.testing.assert_array_equal(new.camera(1).params, model.camera(1).params)
    assert str(report) == "camera 1 (4 images): intrinsics held: fewer than 5 images"


def test_a_wider_camera_model_of_the_user_keeps_its_parameters():
    model = arc_model(true_camera(0.02, -0.01, -0.1))
    f, cx, cy, k1 = model.camera(1).params
    wide = pycolmap.Camera(model="OPENCV", width=WIDTH, height=HEIGHT, params=[f, f, cx, cy, k1, 0, 0, 0], camera_id=1)
    model.cameras[1] = wide
    new, (report,) = calibrate(model)
    assert new.camera(1).model_name == "OPENCV"
    assert {"fx/fy", "k1", "k2", "p1", "p2"} <= {e.name for e in report.estimated}
    np.testing.assert_allclose(new.camera(1).params[:2], FOCAL, atol=4.0)


def test_bayes_factor_is_the_ratio_of_densities():
    """Against the evidence of a linear Gaussian model with and without the parameter."""
    prior_sd, error, measured = 0.7, 0.2, 0.5
    prior = Prior(np.array([0]), np.zeros(1), np.array([prior_sd]))
    variance = 1 / (prior_sd**-2 + error**-2)
    theta, covariance = np.array([measured * variance / error**2]), np.array([[variance]])

    def log_density(x, var):
        return -(x**2 / var + np.log(2 * np.pi * var)) / 2

    expected = log_density(measured, prior_sd**2 + error**2) - log_density(measured, error**2)
    assert C.bayes_factor(prior, theta, covariance, np.array([0])) == pytest.approx(expected, rel=1e-9)


def test_report_reads_as_a_line():
    report = C.CameraReport(
        3, 11, (C.Estimate("f", 919.214, 0.32), C.Estimate("cx", 506.1, 12.0)), (("fx/fy", "why"),), 5.0
    )
    assert str(report) == "camera 3 (11 images): f 919.21 ± 0.32, cx 506 ± 12; fx/fy held: why"
