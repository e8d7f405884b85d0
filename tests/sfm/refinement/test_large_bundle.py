"""In columns bundle adjustment ends where Ceres does, whatever is free, on any number of threads, in any blocks."""

import numpy as np
import pycolmap
import pytest

from sfm.colmap.model_arrays import ModelColumns
from sfm.evaluation.model import align, camera_poses
from sfm.refinement import bundle_adjustment, large_bundle, large_problem
from sfm.refinement.bundle_adjustment import LOSS_SCALE, Freedom, adjust, is_large
from sfm.refinement.large_bundle import adjust_in_columns
from tests.support.room_walk import room_walk

TOLERANCE = 1e-13


@pytest.fixture(scope="module")
def walk():
    """30 images with a few observations that the loss is for, and covariances in all directions."""
    model = room_walk(30, 120, noise=0.3, off=0.003)
    rng = np.random.default_rng(5)
    for image_id in (3, 17):
        for point in model.images[image_id].points2D[:4]:
            point.xy = point.xy + np.array([9.0, -7.0])
    covariances = {}
    for image_id in model.reg_image_ids():
        roots = 0.3 * rng.normal(size=(len(model.images[image_id].points2D), 2, 2))
        covariances[image_id] = roots @ roots.transpose(0, 2, 1) + 0.05 * np.eye(2)
    return model, covariances


def in_columns(model, covariances, freedom, threads=1, tolerance=TOLERANCE):
    result = pycolmap.Reconstruction(model)
    adjust_in_columns(result, covariances, freedom, loss_scale=LOSS_SCALE, tolerance=tolerance, threads=threads)
    return result


def by_ceres(model, covariances, freedom, monkeypatch):
    monkeypatch.setattr(bundle_adjustment, "MAX_ITERATIONS", 300)
    result = pycolmap.Reconstruction(model)
    assert not is_large(model, freedom)
    adjust(result, covariances, freedom, threads=1, tolerance=TOLERANCE)
    return result


def assert_same(ours, theirs, rtol=1e-6):
    """Equal but for the frame of the world."""
    similarity, distances, _ = align(camera_poses(ours), camera_poses(theirs))
    a, b = ModelColumns.of(ours), ModelColumns.of(theirs)
    size = np.ptp(b.centres, axis=0).max()
    assert distances.max() < rtol * size
    np.testing.assert_allclose(a.rotations @ similarity.rotation.T, b.rotations, atol=rtol)
    far = np.linalg.norm(similarity(a.xyz) - b.xyz, axis=1) / np.linalg.norm(b.xyz - b.centres.mean(0), axis=1)
    assert np.quantile(far, 0.99) < 10 * rtol
    for i, camera in ours.cameras.items():
        np.testing.assert_allclose(camera.params, theirs.cameras[i].params, rtol=10 * rtol)
    assert ours.compute_mean_reprojection_error() == pytest.approx(
        theirs.compute_mean_reprojection_error(), rel=10 * rtol
    )


@pytest.mark.parametrize(
    "freedom",
    [
        Freedom(),
        Freedom(principal_point=True),
        Freedom(fixed_cameras=frozenset({1})),
        Freedom(poses=False),
        Freedom(poses=False, fixed_cameras=frozenset({1})),
    ],
    ids=["usual", "centre", "fixed camera", "fixed poses", "points only"],
)
def test_it_ends_where_ceres_does(walk, freedom, monkeypatch):
    model, covariances = walk
    monkeypatch.setattr(large_bundle, "MAX_STEPS", 300)
    before = model.compute_mean_reprojection_error() or np.inf
    ours = in_columns(model, covariances, freedom)
    theirs = by_ceres(model, covariances, freedom, monkeypatch)
    assert_same(ours, theirs)
    assert ours.compute_mean_reprojection_error() < before
    if not freedom.poses:
        np.testing.assert_array_equal(ModelColumns.of(ours).rotations, ModelColumns.of(model).rotations)
    if freedom.fixed_cameras:
        np.testing.assert_array_equal(ours.cameras[1].params, model.cameras[1].params)


@pytest.mark.slow
def test_cameras_of_several_models_and_one_that_is_fixed(walk, monkeypatch):
    model, covariances = walk
    many = pycolmap.Reconstruction()
    kinds = {1: ("SIMPLE_RADIAL", [520, 320, 240, -0.05]), 2: ("PINHOLE", [515, 525, 320, 240])}
    kinds |= {3: ("FULL_OPENCV", [520, 520, 320, 240, -0.05, *[0.0] * 7]), 4: ("SIMPLE_RADIAL", [520, 320, 240, -0.05])}
    for camera_id, (name, params) in kinds.items():
        camera = pycolmap.Camera(camera_id=camera_id, model=name, width=640, height=480, params=params)
        many.add_camera_with_trivial_rig(camera)
    for image_id in sorted(model.reg_image_ids()):
        own = model.images[image_id]
        xy = np.array([point.xy for point in own.points2D])
        image = pycolmap.Image(own.name, xy, image_id % 4 + 1, image_id)
        many.add_image_with_trivial_frame(image, own.cam_from_world())
    for point in model.points3D.values():
        many.add_point3D(point.xyz, point.track)
    freedom = Freedom(fixed_cameras=frozenset({4}))
    monkeypatch.setattr(large_bundle, "MAX_STEPS", 300)
    ours, theirs = in_columns(many, covariances, freedom), by_ceres(many, covariances, freedom, monkeypatch)
    errors = [own.compute_mean_reprojection_error() for own in (ours, theirs)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-3)  # eight coefficients of distortion have a flat valley
    np.testing.assert_allclose(ours.cameras[1].params, theirs.cameras[1].params, rtol=2e-3)
    np.testing.assert_allclose(ours.cameras[2].params, theirs.cameras[2].params, rtol=2e-3)
    np.testing.assert_array_equal(ours.cameras[4].params, kinds[4][1])
    assert (ours.cameras[3].params[4:] != 0).all()


def test_neither_threads_nor_blocks_nor_the_linear_solver_matter(walk, monkeypatch):
    model, covariances = walk
    ours = in_columns(model, covariances, Freedom(), tolerance=1e-10)
    threads = in_columns(model, covariances, Freedom(), threads=3, tolerance=1e-10)
    np.testing.assert_array_equal(ModelColumns.of(ours).xyz, ModelColumns.of(threads).xyz)  # to the last bit
    monkeypatch.setattr(large_problem, "BLOCK", 300)
    assert_same(in_columns(model, covariances, Freedom(), tolerance=1e-10), ours)
    monkeypatch.setattr(large_bundle, "TOGETHER", 700)
    assert_same(in_columns(model, covariances, Freedom(), threads=2, tolerance=1e-10), ours)
    monkeypatch.setattr(large_bundle, "SLABS", 3)
    assert_same(in_columns(model, covariances, Freedom(), tolerance=1e-10), ours)
    monkeypatch.setattr(large_bundle, "DENSE_GROUPS", 5)
    assert_same(in_columns(model, covariances, Freedom(), tolerance=1e-10), ours, rtol=1e-4)


def test_an_image_without_a_point_stays(walk):
    model, covariances = walk
    model = pycolmap.Reconstruction(model)
    for j in model.images[5].get_observation_point2D_idxs():
        model.delete_observation(5, j)
    ours = in_columns(model, covariances, Freedom(), tolerance=1e-6)
    same = ours.images[5].cam_from_world().matrix() - model.images[5].cam_from_world().matrix()
    assert np.abs(same).max() < 1e-12


def test_large_models_are_adjusted_in_columns(walk, monkeypatch):
    model, covariances = walk
    monkeypatch.setattr(bundle_adjustment, "LARGE", model.compute_num_observations() - 1)
    assert is_large(model, Freedom())
    assert not is_large(model, Freedom(equal_cameras={2: 1}))
    ours = pycolmap.Reconstruction(model)
    adjust(ours, covariances, Freedom(), threads=1)
    expected = in_columns(model, covariances, Freedom(), tolerance=bundle_adjustment.FUNCTION_TOLERANCE)
    np.testing.assert_array_equal(ModelColumns.of(ours).xyz, ModelColumns.of(expected).xyz)


def test_what_is_held_of_a_problem_grows_with_its_observations():
    """Not with images times observations: only pairs of images that share points have an entry."""
    sizes = []
    for num in (60, 240):
        model = room_walk(num, 60, loops=0.0)
        columns = ModelColumns.of(model)
        covariances = {i: np.tile(np.eye(2), (len(model.images[i].points2D), 1, 1)) for i in model.reg_image_ids()}
        problem = large_problem.LargeProblem.of(columns, covariances, Freedom(), LOSS_SCALE)
        part = large_problem.part_of(problem, large_bundle.unknowns_of(columns, problem), problem.blocks[0], 1e-4)
        sizes.append((len(columns.xy), part.own.nnz + (part.eliminator.T @ part.eliminator).nnz))
    (first, entries), (last, more) = sizes
    assert last > 3.5 * first
    assert more / entries < 1.2 * last / first
