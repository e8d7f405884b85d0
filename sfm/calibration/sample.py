"""Which observations of a model its cameras are calibrated from, so that time is bounded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pycolmap
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from sfm.calibration.intrinsics_posterior import Lens, State, Views, select
from sfm.types import Float64

MAX_IMAGES, REGION = 80, 1000  # of one camera; images over which those of many are spread
MAX_OBSERVATIONS, OF_MANY = 12_000, 40_000  # of all images, and where images are chosen


def choose_images(image: NDArray[np.int64], point: NDArray[np.int64], num: int) -> NDArray[np.int64]:
    """MAX_IMAGES of `num` images, ascending, spread evenly over all of them, or over the REGION that has most points in
    common: neighbours in a video see the same from the same side, which determines little. image, point: (O,) rows of
    the observations."""
    region = np.arange(num) if num <= REGION else _well_connected(image, point, num)
    return region[np.rint(np.linspace(0, len(region) - 1, MAX_IMAGES)).astype(np.int64)]


def _well_connected(image: NDArray[np.int64], point: NDArray[np.int64], num: int) -> NDArray[np.int64]:
    """REGION of `num` images, ascending, each of most points in common with the others."""
    seen = csr_matrix((np.ones(len(image), bool), (image, point)), shape=(num, point.max() + 1)).astype(np.float32)
    shared = (seen @ seen.T).toarray()
    chosen = [int(np.diag(shared).argmax())]
    links = shared[chosen[0]].copy()
    for _ in range(REGION - 1):
        links[chosen] = -1.0
        chosen.append(int(links.argmax()))
        links += shared[chosen[-1]]
    return np.sort(chosen)


def _observations(model: pycolmap.Reconstruction, image_ids: list[int]) -> tuple[NDArray[np.int64], Float64]:
    """(O, 2) image row and point id, and (O, 2) px, of triangulated keypoints."""
    rows, xy = [np.zeros((0, 2), np.int64)], [np.zeros((0, 2))]
    for row, image_id in enumerate(image_ids):
        points = model.image(image_id).get_observation_points2D()
        rows.append(np.array([(row, p.point3D_id) for p in points], np.int64).reshape(-1, 2))
        xy.append(np.array([p.xy for p in points], np.float64).reshape(-1, 2))
    return np.concatenate(rows), np.concatenate(xy)


def _first_of(rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(O,) which rows are the first of their kind: COLMAP's tracks may have two observations in one image."""
    first = np.zeros(len(rows), bool)
    key = rows[:, 0] * (int(rows[:, 1].max(initial=0)) + 1) + rows[:, 1]
    first[np.unique(key, return_index=True)[1]] = True
    return first


def sample(model: pycolmap.Reconstruction, image_ids: list[int], lens: Lens, theta: Float64) -> tuple[Views, State]:
    """The images' longest tracks, up to MAX_OBSERVATIONS or OF_MANY, scaled to unit size around their mean."""
    rows, xy = _observations(model, image_ids)
    point_ids, point_idx = np.unique(rows[:, 1], return_inverse=True)
    is_many = len(image_ids) > MAX_IMAGES
    if is_many:
        keep = np.isin(rows[:, 0], choose_images(rows[:, 0], point_idx, len(image_ids)))
    else:
        keep = np.ones(len(rows), bool)
    length = np.bincount(point_idx[keep], minlength=len(point_ids))
    order = np.argsort(-length, kind="stable")
    within = np.zeros(len(point_ids), bool)
    within[order[np.cumsum(length[order]) <= (OF_MANY if is_many else MAX_OBSERVATIONS)]] = True
    poses = [model.image(i).cam_from_world().matrix() for i in image_ids]
    R, t = np.array([p[:, :3] for p in poses]), np.array([p[:, 3] for p in poses])
    xyz = np.array([model.point3D(int(i)).xyz for i in point_ids]).reshape(-1, 3)
    depth = np.einsum("oj,oj->o", R[rows[:, 0], 2], xyz[point_idx]) + t[rows[:, 0], 2]
    keep &= within[point_idx] & (depth > 0)
    keep &= _first_of(np.stack([point_idx, rows[:, 0]], 1))
    by_point = np.argsort(point_idx, kind="stable")
    views = Views(lens, point_idx[by_point], rows[by_point, 0], xy[by_point])
    views, state = select(views, State(R, t, xyz, theta), keep[by_point])
    if not len(views):
        return views, state
    centre = state.xyz.mean(0)
    size = max(float(np.median(np.linalg.norm(state.xyz - centre, axis=1))), 1e-12)
    return views, replace(state, t=(state.t + state.R @ centre) / size, xyz=(state.xyz - centre) / size)
