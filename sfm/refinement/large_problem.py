"""The problem of a large bundle adjustment in columns, and its normal equations without the points.

Observations are linearised in blocks of whole points. Of each block what is left are a sparse matrix over poses and
intrinsics, and one with which its points are eliminated (Triggs et al., Bundle Adjustment: A Modern Synthesis, 1999,
section 6.1): memory is that of the columns, and of one block a thread.

Unknowns come in groups of WIDTH columns: an image's pose (rotation vector, translation, both in the camera's frame), or
parameters of a camera; what is not free is a column of zeros. Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pycolmap
from numpy.typing import NDArray
from scipy.sparse import bsr_matrix

from sfm.colmap.model_arrays import ModelColumns
from sfm.geometry.poses import cross_matrices, rotation_matrices
from sfm.types import Float64, Int64

if TYPE_CHECKING:
    from sfm.refinement.bundle_adjustment import Freedom

WIDTH = 6  # columns of a group
BLOCK = 50_000  # observations linearised at once
STEP = 1e-6  # of central differences, relative for parameters over one
LEAST_DAMPING = 1e-10  # of a point: one that a single image observes has a free direction


@dataclass(frozen=True, slots=True, eq=False)
class Unknowns:
    """rotations (N, 3, 3), translations (N, 3): cam_from_world. xyz: (T, 3). params: of each camera."""

    rotations: Float64
    translations: Float64
    xyz: Float64
    params: tuple[Float64, ...]


@dataclass(frozen=True, eq=False)
class LargeProblem:
    """Observations in the order of points, within them of cameras. point, image: (O,) rows. xy: (O, 2) px.

    whitener: (O, 2, 2) f32 per px: its square is the inverse of the observation's covariance. cameras: C of them;
    camera_of: (N,) rows of these. free: places in the parameters of each camera that may change. poses: those may.
    loss_scale: standard deviations, Cauchy's.
    """

    point: Int64
    image: Int64
    xy: Float64
    whitener: NDArray[np.float32]
    cameras: tuple[pycolmap.Camera, ...]
    camera_of: Int64
    free: tuple[tuple[int, ...], ...]
    poses: bool
    loss_scale: float

    @classmethod
    def of(
        cls, columns: ModelColumns, covariances: Mapping[int, Float64], freedom: Freedom, loss_scale: float
    ) -> LargeProblem:
        """The problem of a model. covariances: by image id (P, 2, 2) px²."""
        camera_ids = np.array([camera.camera_id for camera in columns.cameras])
        known, first, camera_of = np.unique(camera_ids, return_index=True, return_inverse=True)
        cameras = tuple(columns.cameras[i] for i in first)
        order = np.lexsort((camera_of[columns.image], columns.point)) if len(known) > 1 else slice(None)
        whitener = np.empty((len(columns.point), 2, 2), np.float32)
        for row, own in enumerate(columns.rows_of_images):
            whitener[own] = _whiteners(covariances[int(columns.image_ids[row])][columns.point2D[own]])
        return cls(
            columns.point[order],
            columns.image[order],
            columns.xy[order],
            whitener[order],
            cameras,
            camera_of,
            tuple(free_places(camera, freedom) for camera in cameras),
            freedom.poses,
            loss_scale,
        )

    @cached_property
    def blocks(self) -> tuple[slice, ...]:
        """The observations in parts of whole points, of about BLOCK each."""
        starts = np.flatnonzero(np.diff(self.point, prepend=-1))
        bounds = [0] if len(starts) else []
        for start in starts:
            if start - bounds[-1] >= BLOCK:
                bounds.append(int(start))
        return tuple(slice(a, b) for a, b in pairwise([*bounds, len(self.point)]))

    @cached_property
    def camera_groups(self) -> int:
        """Groups of columns of each camera."""
        return -(-max((len(own) for own in self.free), default=0) // WIDTH)

    @property
    def num_groups(self) -> int:
        """Groups of columns: images first where poses are free, then cameras."""
        return self.poses * len(self.camera_of) + self.camera_groups * len(self.cameras)

    def first_group(self, camera: int) -> int:
        """The first group of a camera."""
        return self.poses * len(self.camera_of) + self.camera_groups * camera

    def moved(self, unknowns: Unknowns, step: Float64, xyz: Float64) -> Unknowns:
        """After a step (groups, WIDTH) of what is not a point."""
        rotations, translations = unknowns.rotations, unknowns.translations
        if self.poses:
            poses = step[: len(rotations)]
            turn = rotation_matrices(poses[:, :3])
            rotations, translations = turn @ rotations, translations + poses[:, 3:]
        params = []
        for camera, (own, free) in enumerate(zip(unknowns.params, self.free, strict=True)):
            new, at = own.copy(), self.first_group(camera)
            new[list(free)] += step[at : at + self.camera_groups].ravel()[: len(free)]
            params.append(new)
        return replace(unknowns, rotations=rotations, translations=translations, xyz=xyz, params=tuple(params))


def free_places(camera: pycolmap.Camera, freedom: Freedom) -> tuple[int, ...]:
    """Places of a camera's parameters that may change."""
    if camera.camera_id in freedom.fixed_cameras:
        return ()
    free = set(camera.focal_length_idxs()) if freedom.focal_length else set()
    free |= set(camera.principal_point_idxs()) if freedom.principal_point else set()
    free |= set(camera.extra_params_idxs()) if freedom.extra_params else set()
    return tuple(sorted(free))


def _whiteners(covariances: Float64) -> Float64:
    """Inverse square roots (M, 2, 2), triangular, of covariances."""
    return np.asarray(np.linalg.inv(np.linalg.cholesky(covariances)))


# --- observations ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Local:
    """Observations of a block in their cameras: points in the camera (M, 3), on its plane (M, 2), and which of them are
    before it and have a projection. residual: (M, 2) whitened, 0 elsewhere."""

    camera: Float64
    plane: Float64
    seen: NDArray[np.bool_]
    residual: Float64


def _projected(
    problem: LargeProblem, unknowns: Unknowns, plane: Float64, image: Int64, changes: Sequence[tuple[int, float]] = ()
) -> Float64:
    """(M, 2) px of points on the planes of cameras. changes: place among the free parameters, and how many steps."""
    xy = np.empty_like(plane)
    homogeneous = np.column_stack([plane, np.ones(len(plane))])
    of_camera = problem.camera_of[image]
    for row in np.unique(of_camera) if len(problem.cameras) > 1 else range(len(problem.cameras)):
        params = unknowns.params[row].copy()
        for place, steps in changes:
            if place < len(problem.free[row]):
                at = problem.free[row][place]
                params[at] += steps * _step_of(unknowns.params[row][at])
        known = problem.cameras[row]
        camera = pycolmap.Camera(model=known.model, width=known.width, height=known.height, params=params)
        own = slice(None) if len(problem.cameras) == 1 else np.flatnonzero(of_camera == row)
        xy[own] = camera.img_from_cam(homogeneous[own])
    return xy


def _step_of(value: float) -> float:
    return STEP * max(1.0, abs(float(value)))


def _local(problem: LargeProblem, unknowns: Unknowns, rows: slice) -> _Local:
    image, point = problem.image[rows], problem.point[rows]
    camera = np.einsum("oij,oj->oi", unknowns.rotations[image], unknowns.xyz[point]) + unknowns.translations[image]
    with np.errstate(all="ignore"):
        plane = camera[:, :2] / camera[:, 2:]
    plane[~(camera[:, 2] > 0)] = 0.0
    residual = _projected(problem, unknowns, plane, image) - problem.xy[rows]
    seen = (camera[:, 2] > 0) & np.isfinite(residual).all(axis=1)
    residual[~seen] = 0.0  # as in COLMAP's cost
    residual = np.einsum("oij,oj->oi", problem.whitener[rows], residual)
    return _Local(camera, plane, seen, residual)


def cost_of(problem: LargeProblem, unknowns: Unknowns, rows: slice) -> float:
    """Of a block: half the sum of Cauchy's function of squared whitened residuals."""
    squared = (_local(problem, unknowns, rows).residual ** 2).sum(axis=1)
    scale = problem.loss_scale**2
    return float(scale * np.log1p(squared / scale).sum() / 2)


@dataclass(frozen=True, slots=True, eq=False)
class _Linear:
    """A block's residuals (M, 2), Jacobians by the point (M, 2, 3) and by the groups (M, 2, G, WIDTH), all whitened and
    weighted; groups: (M, G) which they are. first: (P,) where points begin, and which point (M,) each is of."""

    residual: Float64
    by_point: Float64
    by_group: Float64
    groups: Int64
    first: Int64
    point: Int64


def _linear(problem: LargeProblem, unknowns: Unknowns, rows: slice) -> _Linear:
    local, image = _local(problem, unknowns, rows), problem.image[rows]
    weight = 1 / np.sqrt(1 + (local.residual**2).sum(axis=1) / problem.loss_scale**2)
    whitener = problem.whitener[rows] * (weight * local.seen)[:, None, None]

    by_plane = np.empty((len(image), 2, 2))
    for axis in range(2):
        shift = STEP * np.eye(2)[axis]
        up, down = (_projected(problem, unknowns, local.plane + sign * shift, image) for sign in (1, -1))
        by_plane[:, :, axis] = np.where(local.seen[:, None], (up - down) / (2 * STEP), 0.0)
    depth = np.where(local.seen, local.camera[:, 2], 1.0)
    by_camera = np.empty((len(image), 2, 3))
    by_camera[:, :, :2] = whitener @ by_plane / depth[:, None, None]
    by_camera[:, :, 2] = -np.einsum("oij,oj->oi", by_camera[:, :, :2], local.plane)
    parts, groups = [], []
    if problem.poses:
        turned = local.camera - unknowns.translations[image]
        parts.append(np.concatenate([by_camera @ -cross_matrices(turned), by_camera], axis=2))
        groups.append(image[:, None])
    if problem.camera_groups:
        parts.append(whitener @ _by_params(problem, unknowns, local, image))
        first = problem.poses * len(problem.camera_of) + problem.camera_groups * problem.camera_of[image]
        groups.append(first[:, None] + np.arange(problem.camera_groups))
    by_group = np.concatenate([*parts, np.zeros((len(image), 2, 0))], axis=2).reshape(len(image), 2, -1, WIDTH)
    starts = np.flatnonzero(np.diff(problem.point[rows], prepend=-1))
    return _Linear(
        local.residual * weight[:, None],
        by_camera @ unknowns.rotations[image],
        by_group,
        np.concatenate([*groups, np.zeros((len(image), 0), np.int64)], axis=1),
        starts,
        np.repeat(np.arange(len(starts)), np.diff(starts, append=len(image))),
    )


def _by_params(problem: LargeProblem, unknowns: Unknowns, local: _Local, image: Int64) -> Float64:
    """(M, 2, groups of a camera x WIDTH) px per unit of its free parameters."""
    result = np.zeros((len(image), 2, problem.camera_groups * WIDTH))
    for place in range(max(len(own) for own in problem.free)):
        sizes = [
            _step_of(params[free[place]]) if place < len(free) else 1.0
            for params, free in zip(unknowns.params, problem.free, strict=True)
        ]
        up, down = (_projected(problem, unknowns, local.plane, image, [(place, sign)]) for sign in (1.0, -1.0))
        found = (up - down) / (2 * np.array(sizes)[problem.camera_of[image]])[:, None]
        result[:, :, place] = np.where(local.seen[:, None], found, 0.0)
    return result


# --- normal equations ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What a block adds to the normal equations over the groups. own: their matrix where points are held. eliminator:
    (3P, groups x WIDTH), whose square is taken from it when they are not. gradient: (groups, WIDTH) of both."""

    own: bsr_matrix
    eliminator: bsr_matrix
    gradient: Float64


def part_of(problem: LargeProblem, unknowns: Unknowns, rows: slice, damping: float) -> Part:
    """Of one block. damping: of the points, relative."""
    linear = _linear(problem, unknowns, rows)
    half = _inverse_factors(linear, damping)[linear.point] @ _transposed(linear.by_point)  # (M, 3, 2)
    e = np.add.reduceat(np.einsum("oij,oj->oi", half, linear.residual), linear.first).ravel()
    E = _eliminator(problem, linear, half)
    U, gradient = _of_groups(linear, problem.num_groups)
    return Part(U, E, gradient - (E.T @ e).reshape(gradient.shape))


def _inverse_factors(linear: _Linear, damping: float) -> Float64:
    """(P, 3, 3) inverses of Cholesky factors of the points' own normal equations."""
    V = np.add.reduceat(_transposed(linear.by_point) @ linear.by_point, linear.first)
    diagonal = np.einsum("tii->ti", V)
    least = 1e-12 * np.maximum(diagonal.max(axis=1, initial=0.0, keepdims=True), 1e-12)
    V = V + np.maximum(diagonal * max(damping, LEAST_DAMPING), least)[:, :, None] * np.eye(3)
    return np.asarray(np.linalg.inv(np.linalg.cholesky(V)))


def _transposed(matrices: Float64) -> Float64:
    """Each of them, as rows in memory: products of a view take four times as long."""
    return np.ascontiguousarray(matrices.transpose(0, 2, 1))


def _eliminator(problem: LargeProblem, linear: _Linear, half: Float64) -> bsr_matrix:
    """(3P, groups x WIDTH): what points take from the groups. A camera's rows in a run of one point are summed."""
    num_poses = int(problem.poses)
    G = half @ linear.by_group.reshape(len(half), 2, -1)
    blocks = G.reshape(len(half), 3, -1, WIDTH).transpose(0, 2, 1, 3)  # (M, G, 3, WIDTH)
    kinds = [(linear.point, linear.groups[:, 0], blocks[:, 0])] if num_poses else []
    if problem.camera_groups:
        runs = np.flatnonzero(np.diff(linear.point, prepend=-1) | np.diff(linear.groups[:, -1], prepend=-1))
        summed = np.add.reduceat(blocks[:, num_poses:], runs)
        for k in range(problem.camera_groups):
            kinds.append((linear.point[runs], linear.groups[runs, num_poses + k], summed[:, k]))
    if not kinds:
        return bsr_matrix((3 * len(linear.first), 0), blocksize=(3, WIDTH))
    point, group, block = (np.concatenate([kind[i] for kind in kinds]) for i in range(3))
    order = np.argsort(point, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(point, minlength=len(linear.first)))])
    shape = (3 * len(linear.first), problem.num_groups * WIDTH)
    return bsr_matrix((block[order], group[order], starts), shape=shape)


def _of_groups(linear: _Linear, num_groups: int) -> tuple[bsr_matrix, Float64]:
    """Normal equations of the groups, points held: matrix and gradient (groups, WIDTH)."""
    num, (num_observations, each) = num_groups * WIDTH, linear.groups.shape
    if each == 0:
        return bsr_matrix((num, num), blocksize=(WIDTH, WIDTH)), np.zeros((num_groups, WIDTH))
    blocks = linear.by_group.transpose(0, 2, 1, 3).reshape(-1, 2, WIDTH)
    starts = np.arange(num_observations + 1) * each
    J = bsr_matrix((blocks, linear.groups.ravel(), starts), shape=(2 * num_observations, num))
    turned = J.T.tobsr((WIDTH, 2))
    return (turned @ J).tobsr((WIDTH, WIDTH)), (turned @ linear.residual.ravel()).reshape(num_groups, WIDTH)


def point_steps(problem: LargeProblem, unknowns: Unknowns, rows: slice, damping: float, step: Float64) -> Float64:
    """(P, 3): how a block's points follow a step (groups, WIDTH)."""
    linear = _linear(problem, unknowns, rows)
    factors = _inverse_factors(linear, damping)
    along = np.einsum("oigw,ogw->oi", linear.by_group, step[linear.groups]) + linear.residual
    sums = np.add.reduceat(np.einsum("oij,oi->oj", linear.by_point, along), linear.first)
    return np.asarray(-np.einsum("tji,tj->ti", factors, np.einsum("tij,tj->ti", factors, sums)))
