"""Bundle adjustment weighted by each observation's covariance: COLMAP's cost, Ceres' solver.

pycolmap's own bundle adjustment weights all observations equally. A patch on an edge is precise across the edge and
unconstrained along it, a corner is precise in both directions; with covariances a low-texture model is several times
better (docs/accuracy.md). pyceres solves the same problem, pycolmap's cost functions take the covariances.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyceres
import pycolmap
import pycolmap.cost_functions
from numpy.typing import NDArray

from sfm.types import Float64

LOSS_SCALE = 2.0  # standard deviations at which an observation begins to count less (Cauchy)
MAX_ITERATIONS = 50
FUNCTION_TOLERANCE = 1e-4  # of the cost, in one step; 1e-6 takes twice the steps to the same poses
DENSE_IMAGES, SPARSE_IMAGES = 50, 1000  # up to so many images COLMAP takes this solver


@dataclass(frozen=True, slots=True)
class Freedom:
    """What a bundle adjustment may change besides points. Cameras that are fixed keep all their parameters."""

    poses: bool = True
    focal_length: bool = True
    principal_point: bool = False
    extra_params: bool = True
    fixed_cameras: frozenset[int] = frozenset()


def adjust(
    model: pycolmap.Reconstruction,
    covariances: Mapping[int, Float64],
    freedom: Freedom,
    threads: int = -1,
    *,
    tolerance: float = FUNCTION_TOLERANCE,
) -> None:
    """Bundle adjustment of a model, in place.

    covariances: by image id (P, 2, 2) px², of each of the image's points2D. tolerance: share of the cost that a step
    must take away, or be the last.
    """
    image_ids = sorted(model.reg_image_ids())
    problem, _keep = _problem_of_poses(model, freedom)
    loss = pyceres.CauchyLoss(LOSS_SCALE)
    xyz = {point_id: point.xyz for point_id, point in model.points3D.items()}
    for image_id in image_ids:
        image = model.images[image_id]
        camera, rig_from_world = model.cameras[image.camera_id], model.frames[image.frame_id].rig_from_world
        assert rig_from_world is not None  # it is registered
        pose, params, own = rig_from_world.params, camera.params, covariances[image_id]
        points2D, kind = image.points2D, camera.model
        for j in image.get_observation_point2D_idxs():
            point = points2D[j]
            cost = pycolmap.cost_functions.ReprojErrorCost(kind, own[j], point.xy)
            problem.add_residual_block(cost, loss, [xyz[point.point3D_id], pose, params])
        if not freedom.poses and problem.has_parameter_block(pose):  # not there where nothing is observed
            problem.set_parameter_block_constant(pose)
    for camera_id in {model.images[i].camera_id for i in image_ids}:
        _hold_intrinsics(problem, model.cameras[camera_id], freedom)
    pyceres.solve(_solver_options(len(image_ids), threads, tolerance), problem, pyceres.SolverSummary())
    model.update_point_3d_errors()


def _problem_of_poses(
    model: pycolmap.Reconstruction, freedom: Freedom
) -> tuple[pyceres.Problem, pycolmap.CeresBundleAdjuster]:
    """COLMAP's own problem with its poses, their manifolds and its gauge, but without a residual.

    A residual goes with any of its parameters, and every residual has a camera. The adjuster owns the problem.
    """
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in model.reg_image_ids():
        config.add_image(image_id)
    if freedom.poses:
        config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    adjuster = pycolmap.create_default_ceres_bundle_adjuster(pycolmap.BundleAdjustmentOptions(), config, model)
    problem = adjuster.problem
    for camera_id in {model.images[i].camera_id for i in model.reg_image_ids()}:
        if problem.has_parameter_block(model.cameras[camera_id].params):
            problem.remove_parameter_block(model.cameras[camera_id].params)
    return problem, adjuster


def _hold_intrinsics(problem: pyceres.Problem, camera: pycolmap.Camera, freedom: Freedom) -> None:
    """Takes out of the problem the parameters of a camera that are not free."""
    if not problem.has_parameter_block(camera.params):
        return  # nothing of it is observed
    held = set() if freedom.focal_length else set(camera.focal_length_idxs())
    held |= set() if freedom.principal_point else set(camera.principal_point_idxs())
    held |= set() if freedom.extra_params else set(camera.extra_params_idxs())
    if camera.camera_id in freedom.fixed_cameras or len(held) == len(camera.params):
        problem.set_parameter_block_constant(camera.params)
    elif held:
        problem.set_manifold(camera.params, pyceres.SubsetManifold(len(camera.params), sorted(held)))


def _solver_options(num_images: int, threads: int, tolerance: float) -> pyceres.SolverOptions:
    options = pyceres.SolverOptions()
    kinds = pyceres.LinearSolverType
    options.linear_solver_type = (
        kinds.DENSE_SCHUR
        if num_images <= DENSE_IMAGES
        else kinds.SPARSE_SCHUR
        if num_images <= SPARSE_IMAGES
        else kinds.ITERATIVE_SCHUR
    )
    if num_images > SPARSE_IMAGES:
        options.preconditioner_type = pyceres.PreconditionerType.SCHUR_JACOBI
    options.max_num_iterations = MAX_ITERATIONS
    options.function_tolerance = tolerance
    options.num_threads = threads if threads > 0 else -1
    return options


def whitened(residuals: Float64, covariances: Float64) -> NDArray[np.float64]:
    """Length of residuals (M, 2) in standard deviations of covariances (M, 2, 2): (M,); inf where not finite."""
    squared = np.einsum("mi,mi->m", residuals, np.linalg.solve(covariances, residuals[:, :, None])[:, :, 0])
    return np.asarray(np.sqrt(np.where(np.isfinite(squared), squared, np.inf)))
