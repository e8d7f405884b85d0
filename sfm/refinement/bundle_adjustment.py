"""Bundle adjustment weighted by each observation's covariance: COLMAP's cost, Ceres' solver.

pycolmap's own bundle adjustment weights all observations equally. A patch on an edge is precise across the edge and
unconstrained along it, a corner is precise in both directions; with covariances a low-texture model is several times
better (docs/accuracy.md). pyceres solves the same problem, pycolmap's cost functions take the covariances.

A problem of millions of observations is built and solved in columns (sfm.refinement.large_bundle), where no cameras are
mounted together.

Cameras that are mounted together have one pose a frame, and each its own in the rig: cam_from_rig of rig_from_world.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyceres
import pycolmap
import pycolmap.cost_functions
from numpy.typing import NDArray

from sfm.colmap.rig_models import has_rigs
from sfm.refinement.large_bundle import adjust_in_columns
from sfm.types import Float64

LOSS_SCALE = 2.0  # standard deviations at which an observation begins to count less (Cauchy)
MAX_ITERATIONS = 50
FUNCTION_TOLERANCE = 1e-4  # of the cost, in one step; 1e-6 takes twice the steps to the same poses
LARGE = 300_000  # observations; a problem of as many takes Ceres half a gigabyte
DENSE_IMAGES, SPARSE_IMAGES = 50, 1000  # up to so many images COLMAP takes this solver


@dataclass(frozen=True, slots=True)
class Freedom:
    """What a bundle adjustment may change besides points. Cameras that are fixed keep all their parameters.

    fixed_rigs: ids of rigs whose cameras keep their poses in the rig. equal_cameras: ids of cameras that have the
    parameters of another one, and of that.
    """

    poses: bool = True
    focal_length: bool = True
    principal_point: bool = False
    extra_params: bool = True
    fixed_cameras: frozenset[int] = frozenset()
    fixed_rigs: frozenset[int] = frozenset()
    equal_cameras: Mapping[int, int] = field(default_factory=dict)

    def parameters_of(self, camera_id: int) -> int:
        """Id of the camera whose parameters a camera has."""
        return self.equal_cameras.get(camera_id, camera_id)


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
    if is_large(model, freedom):  # the same on any number of cores, so all are taken
        adjust_in_columns(model, covariances, freedom, loss_scale=LOSS_SCALE, tolerance=tolerance, threads=-1)
        return
    image_ids = sorted(model.reg_image_ids())
    problem, _keep = _problem_of_poses(model, freedom)
    loss = pyceres.CauchyLoss(LOSS_SCALE)
    xyz = {point_id: point.xyz for point_id, point in model.points3D.items()}
    for image_id in image_ids:
        image = model.images[image_id]
        camera = model.cameras[freedom.parameters_of(image.camera_id)]
        observation = _Observation.of(model, image, camera, freedom)
        own, points2D = covariances[image_id], image.points2D
        for j in image.get_observation_point2D_idxs():
            point = points2D[j]
            problem.add_residual_block(
                observation.cost(own[j], point.xy), loss, [xyz[point.point3D_id], *observation.blocks]
            )
        pose = observation.rig_from_world
        if not freedom.poses and problem.has_parameter_block(pose):  # not there where nothing is observed
            problem.set_parameter_block_constant(pose)
    for camera_id in {freedom.parameters_of(model.images[i].camera_id) for i in image_ids}:
        _hold_intrinsics(problem, model.cameras[camera_id], freedom)
    pyceres.solve(_solver_options(len(image_ids), threads, tolerance), problem, pyceres.SolverSummary())
    for camera_id, other in freedom.equal_cameras.items():
        model.cameras[camera_id].params = list(model.cameras[other].params)
    model.update_point_3d_errors()


def is_large(model: pycolmap.Reconstruction, freedom: Freedom) -> bool:
    """Whether a model is adjusted in columns: to the same minimum, in a fraction of the memory. Rigs are not."""
    return model.compute_num_observations() > LARGE and not has_rigs(model) and not freedom.equal_cameras


@dataclass(frozen=True, slots=True, eq=False)
class _Observation:
    """What the cost of an image's observations depends on.

    blocks: after the point's xyz. cam_from_rig: of a camera that is not its rig's reference, and whether it stays.
    """

    kind: pycolmap.CameraModelId
    params: Float64
    rig_from_world: Float64
    cam_from_rig: pycolmap.Rigid3d | None
    is_fixed: bool

    @classmethod
    def of(
        cls, model: pycolmap.Reconstruction, image: pycolmap.Image, camera: pycolmap.Camera, freedom: Freedom
    ) -> _Observation:
        frame = model.frames[image.frame_id]
        rig, sensor = model.rigs[frame.rig_id], model.cameras[image.camera_id].sensor_id
        cam_from_rig = None if rig.is_ref_sensor(sensor) else rig.non_ref_sensors[sensor]  # in the rig's own memory
        rig_from_world = frame.rig_from_world
        assert rig_from_world is not None  # it is registered
        is_fixed = not freedom.poses or frame.rig_id in freedom.fixed_rigs
        return cls(camera.model, camera.params, rig_from_world.params, cam_from_rig, is_fixed)

    @property
    def blocks(self) -> list[Float64]:
        if self.cam_from_rig is None or self.is_fixed:
            return [self.rig_from_world, self.params]
        return [self.cam_from_rig.params, self.rig_from_world, self.params]

    def cost(self, covariance: Float64, xy: Float64) -> pyceres.CostFunction:
        costs = pycolmap.cost_functions
        if self.cam_from_rig is None:
            return costs.ReprojErrorCost(self.kind, covariance, xy)
        if self.is_fixed:
            return costs.RigReprojErrorCost(self.kind, covariance, xy, self.cam_from_rig)
        return costs.RigReprojErrorCost(self.kind, covariance, xy)


def _problem_of_poses(
    model: pycolmap.Reconstruction, freedom: Freedom
) -> tuple[pyceres.Problem, pycolmap.CeresBundleAdjuster]:
    """COLMAP's own problem with its poses, their manifolds and its gauge, but without a residual.

    A residual goes with any of its parameters, and every residual has a camera. The adjuster owns the problem.
    """
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in model.reg_image_ids():
        config.add_image(image_id)
    for rig in (model.rigs[i] for i in freedom.fixed_rigs):
        for sensor in rig.non_ref_sensors:
            config.set_constant_sensor_from_rig_pose(sensor)
    if freedom.poses and not _has_scale(model, freedom):
        config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    adjuster = pycolmap.create_default_ceres_bundle_adjuster(pycolmap.BundleAdjustmentOptions(), config, model)
    problem = adjuster.problem
    for camera_id in {model.images[i].camera_id for i in model.reg_image_ids()}:
        if problem.has_parameter_block(model.cameras[camera_id].params):
            problem.remove_parameter_block(model.cameras[camera_id].params)
    if freedom.poses and _has_scale(model, freedom):
        poses = (frame.rig_from_world for _, frame in sorted(model.frames.items()) if frame.has_pose())
        first = next(pose.params for pose in poses if problem.has_parameter_block(pose.params))
        problem.set_parameter_block_constant(first)
    return problem, adjuster


def _has_scale(model: pycolmap.Reconstruction, freedom: Freedom) -> bool:
    """Whether a rig that stays as it is has an extent, and so gives the model a scale."""
    poses = (pose for i in freedom.fixed_rigs for pose in model.rigs[i].non_ref_sensors.values())
    return any(pose is not None and np.linalg.norm(pose.translation) > 0 for pose in poses)


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
