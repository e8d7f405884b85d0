"""Bundle adjustment of models of millions of observations: the problem of sfm.refinement.bundle_adjustment, in columns.

A Ceres problem of them takes more than a kilobyte an observation and is built one by one. Here Levenberg and
Marquardt's steps are taken with arrays: points are eliminated some at a time (sfm.refinement.large_problem), what is
left of up to DENSE_GROUPS images and cameras is one array, solved by Cholesky's decomposition, and of more a sparse
matrix, solved by conjugate gradients. Cauchy's loss enters as weights, as in Ceres. The damping is a third after each
step that gains, and grows ever faster after steps that do not (Madsen, Nielsen and Tingleff, Methods for non-linear
least squares problems, 2004, section 3.2). The frame of the world is free and hardly moves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial, reduce
from itertools import pairwise
from operator import add
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pycolmap
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import bsr_matrix
from scipy.sparse.linalg import LinearOperator, cg

from sfm.colmap.model_arrays import ModelColumns
from sfm.refinement.large_problem import WIDTH, LargeProblem, Part, Unknowns, cost_of, part_of, point_steps
from sfm.system.parallel import num_cores
from sfm.types import Float64

if TYPE_CHECKING:
    from sfm.refinement.bundle_adjustment import Freedom

DENSE_GROUPS = 1500  # images and cameras; 9,000 unknowns are a matrix of 650 MB
FIRST_DAMPING, MAX_DAMPING = 1e-4, 1e8
MAX_STEPS = 50
AHEAD = 4  # blocks that are worked on or wait to be summed
TOGETHER = 200_000  # observations whose points are eliminated at once
SLABS = 12  # of rows of the matrix, that are worked on side by side
GRADIENT_STEPS, GRADIENT_TOLERANCE = 500, 1e-6  # of conjugate gradients
_Result = TypeVar("_Result")


def solve(problem: LargeProblem, unknowns: Unknowns, *, tolerance: float, threads: int = 1) -> Unknowns:
    """The unknowns of the least cost near those given.

    tolerance: share of the cost that a step must take away, or be the last. threads: -1 for all cores; the result does
    not depend on them, but for the last bits of a decomposition.
    """
    with ThreadPoolExecutor(threads if threads > 0 else num_cores()) as pool:

        def each(work: Callable[[slice], _Result]) -> Iterator[_Result]:
            return _in_order(pool, work, problem.blocks)

        def cost(at: Unknowns) -> float:
            return sum(each(partial(cost_of, problem, at)))

        damping, growth, before = FIRST_DAMPING, 2.0, cost(unknowns)
        for _ in range(MAX_STEPS):
            if before == 0 or damping > MAX_DAMPING:
                break
            parts = each(partial(part_of, problem, unknowns, damping=damping))
            step = _step(_normal(problem, parts, pool), damping)
            if step is None:
                damping, growth = damping * growth, growth * 2
                continue
            moves = each(partial(point_steps, problem, unknowns, damping=damping, step=step))
            new = problem.moved(unknowns, step, _moved_points(problem, unknowns.xyz, moves))
            after = cost(new)
            if not after < before:
                if damping > 1 or before - after == 0:
                    break
                damping, growth = damping * growth, growth * 2
                continue
            gain, unknowns, before = (before - after) / before, new, after
            damping, growth = damping / 3, 2.0
            if gain < tolerance:
                break
    return unknowns


def _in_order(pool: ThreadPoolExecutor, work: Callable[[slice], _Result], items: Sequence[slice]) -> Iterator[_Result]:
    """The work of each item; no more is begun than AHEAD after the one that is waited for."""
    begun: deque[Future[_Result]] = deque()
    for item in items:
        begun.append(pool.submit(work, item))
        if len(begun) > AHEAD:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


@dataclass(frozen=True, slots=True, eq=False)
class _Normal:
    """Normal equations over the groups, points eliminated. matrix: the lower triangle of an array, or all of a sparse
    one. diagonal: (groups, WIDTH) of the matrix before points were, for damping. gradient: (groups, WIDTH)."""

    matrix: Float64 | bsr_matrix
    diagonal: Float64
    gradient: Float64


def _normal(problem: LargeProblem, parts: Iterator[Part], pool: ThreadPoolExecutor) -> _Normal:
    """The sum of all parts."""
    num = problem.num_groups
    size = num * WIDTH
    is_dense = num <= DENSE_GROUPS
    matrix = np.zeros((size, size)) if is_dense else bsr_matrix((size, size), blocksize=(WIDTH, WIDTH))
    diagonal, gradient = np.zeros((num, WIDTH)), np.zeros((num, WIDTH))
    for some in _together(parts) if num else ():
        own, E = reduce(add, (part.own for part in some)), _stacked([part.eliminator for part in some])
        if is_dense:
            _add(matrix, own)
            _eliminate(matrix, E, pool)
        else:
            matrix = (matrix + own - E.T.tobsr((WIDTH, 3)) @ E).tobsr((WIDTH, WIDTH))
        diagonal += own.diagonal().reshape(num, WIDTH)
        gradient += sum(part.gradient for part in some)
    return _Normal(matrix, diagonal, gradient)


def _together(parts: Iterator[Part]) -> Iterator[list[Part]]:
    """The parts in groups of about as many observations as are eliminated at once."""
    found: list[Part] = []
    for part in parts:
        found.append(part)
        if sum(len(own.eliminator.indices) for own in found) >= TOGETHER:
            yield found
            found = []
    if found:
        yield found


def _stacked(matrices: Sequence[bsr_matrix]) -> bsr_matrix:
    """The rows of all of them."""
    first = np.cumsum([0] + [len(own.indices) for own in matrices])
    ends = [own.indptr[1:] + start for own, start in zip(matrices, first, strict=False)]
    data, indices = (np.concatenate([getattr(own, name) for own in matrices]) for name in ("data", "indices"))
    shape = sum(own.shape[0] for own in matrices), matrices[0].shape[1]
    return bsr_matrix((data, indices, np.concatenate([[0], *ends])), shape=shape)


def _add(matrix: Float64, own: bsr_matrix) -> None:
    """Adds a sparse matrix of groups to an array, in place."""
    num = len(own.indptr) - 1
    rows = np.repeat(np.arange(num), np.diff(own.indptr))
    matrix.reshape(num, WIDTH, num, WIDTH)[rows, :, own.indices] += own.data


def _eliminate(matrix: Float64, E: bsr_matrix, pool: ThreadPoolExecutor) -> None:
    """Takes the square of E (3P, groups x WIDTH) from the lower triangle of an array, in place, slab by slab: of images
    that all share points, all together would take a multiple of the memory, and the sum most of the time."""
    turned, num = E.T.tobsr((WIDTH, 3)), matrix.shape[0] // WIDTH

    def take(start: int, end: int) -> None:
        a, b = turned.indptr[start], turned.indptr[end]
        blocks = turned.data[a:b], turned.indices[a:b], turned.indptr[start : end + 1] - a
        rows = bsr_matrix(blocks, shape=((end - start) * WIDTH, E.shape[0]))
        left = E.indices < end
        blocks = E.data[left], E.indices[left], np.concatenate([[0], np.cumsum(left)])[E.indptr]
        product = rows @ bsr_matrix(blocks, shape=(E.shape[0], end * WIDTH))
        matrix[start * WIDTH : end * WIDTH, : end * WIDTH] -= product.toarray()

    bounds = np.unique(np.linspace(0, num, SLABS + 1).astype(np.int64))[::-1].tolist()  # the longest rows first
    for done in [pool.submit(take, start, end) for end, start in pairwise(bounds)]:
        done.result()


def _moved_points(problem: LargeProblem, xyz: Float64, moves: Iterator[Float64]) -> Float64:
    result = xyz.copy()
    for rows, move in zip(problem.blocks, moves, strict=True):
        points = problem.point[rows]
        result[points[np.flatnonzero(np.diff(points, prepend=-1))]] += move
    return result


def _step(normal: _Normal, damping: float) -> Float64 | None:
    """(groups, WIDTH) of one damped step; None where the equations cannot be solved."""
    num = len(normal.gradient)
    if num == 0:
        return np.zeros((0, WIDTH))
    diagonal = normal.diagonal.ravel()
    free = diagonal > 0
    scale = np.where(free, 1 / np.sqrt(np.where(free, diagonal, 1.0)), 0.0)
    added = np.where(free, damping, 1.0)  # scaled; what is not free stays
    gradient = scale * normal.gradient.ravel()
    if isinstance(normal.matrix, np.ndarray):
        found = _by_cholesky(normal.matrix, scale, added, gradient)
    else:
        found = _by_gradients(normal.matrix, scale, added, gradient)
    return None if found is None else -(scale * found).reshape(num, WIDTH)


def _by_cholesky(lower: Float64, scale: Float64, added: Float64, gradient: Float64) -> Float64 | None:
    """From the lower triangle, which is lost."""
    lower *= scale
    lower *= scale[:, None]
    lower[np.diag_indices_from(lower)] += added
    try:
        factor = cho_factor(lower.T, lower=False, overwrite_a=True, check_finite=False)  # as LAPACK has it, no copy
    except np.linalg.LinAlgError:
        return None
    found: Float64 = cho_solve(factor, gradient, check_finite=False)
    return found if np.isfinite(found).all() else None


def _by_gradients(matrix: bsr_matrix, scale: Float64, added: Float64, gradient: Float64) -> Float64 | None:
    """Conjugate gradients, preconditioned by the inverses of the groups' own blocks (Agarwal et al., Bundle Adjustment
    in the Large, 2010)."""
    num = len(scale) // WIDTH
    own = np.zeros((num, WIDTH, WIDTH))
    rows = np.repeat(np.arange(num), np.diff(matrix.indptr))
    on = rows == matrix.indices
    own[rows[on]] = matrix.data[on]
    by_group = scale.reshape(num, WIDTH)
    own *= by_group[:, :, None] * by_group[:, None, :]
    own[:, np.arange(WIDTH), np.arange(WIDTH)] += added.reshape(num, WIDTH)
    inverse = np.linalg.inv(own)
    shape = (len(scale), len(scale))
    normal = LinearOperator(shape, lambda x: scale * (matrix @ (scale * x)) + added * x)
    nearly = LinearOperator(shape, lambda x: np.einsum("gij,gj->gi", inverse, x.reshape(num, WIDTH)).ravel())
    found, _ = cg(normal, gradient, rtol=GRADIENT_TOLERANCE, maxiter=GRADIENT_STEPS, M=nearly)
    return np.asarray(found) if np.isfinite(found).all() else None


def unknowns_of(columns: ModelColumns, problem: LargeProblem) -> Unknowns:
    """As a model has them."""
    params = tuple(np.array(camera.params, np.float64) for camera in problem.cameras)
    return Unknowns(columns.rotations, columns.translations, columns.xyz, params)


def adjust_in_columns(
    model: pycolmap.Reconstruction,
    covariances: Mapping[int, Float64],
    freedom: Freedom,
    *,
    loss_scale: float,
    tolerance: float,
    threads: int,
) -> None:
    """Bundle adjustment of a model without rigs, in place; errors of points are updated.

    covariances: by image id (P, 2, 2) px². loss_scale: standard deviations, of Cauchy's function.
    """
    columns = ModelColumns.of(model)
    problem = LargeProblem.of(columns, covariances, freedom, loss_scale)
    found = solve(problem, unknowns_of(columns, problem), tolerance=tolerance, threads=threads)
    if problem.poses:
        for image_id, rotation, translation in zip(columns.image_ids, found.rotations, found.translations, strict=True):
            frame = model.frames[model.images[int(image_id)].frame_id]
            frame.rig_from_world = pycolmap.Rigid3d(pycolmap.Rotation3d(rotation), translation)
    for camera, params in zip(problem.cameras, found.params, strict=True):
        model.cameras[camera.camera_id].params = list(params)
    points3D = model.points3D
    for point_id, xyz in zip(columns.point_ids.tolist(), found.xyz, strict=True):
        points3D[point_id].xyz = xyz
    model.update_point_3d_errors()
