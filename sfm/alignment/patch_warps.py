"""From a model, per track: the best reference observation, the surface normal, and the affine warps of patches.

A track's reference is the observation that the others are compared with, so it should look like them: seen from the
middle of the viewing directions, at the middle of the resolutions. The most frontal or the sharpest one would be a good
picture, but further from the worst of the others, which is the one that fails.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from sfm.colmap.model_arrays import ModelColumns
from sfm.types import Float64, Int64

SCALE_WEIGHT = 0.2  # a doubled resolution is as bad as 37 degrees from the middle direction (1 - cos)
NEIGHBOURS = 12  # points that the surface is fitted to
MAX_ROUGHNESS = 0.1  # least over middle eigenvalue of the neighbours' scatter; a rougher place has no plane
MIN_COSINE = 0.3  # of the plane to the reference's viewing direction


def references(columns: ModelColumns, *, avoided: NDArray[np.bool_] | None = None) -> Int64:
    """Of each point the row (T,) of its reference observation. Every point must have an observation.

    avoided: (N,) images that are taken only where there are no others.
    """
    direction = columns.centres[columns.image] - columns.xyz[columns.point]
    distance = np.linalg.norm(direction, axis=1)
    direction /= distance[:, None]
    scale = np.log2(columns.focals[columns.image] / distance)
    middle = np.stack([_mean_of_points(columns, axis) for axis in direction.T], axis=1)
    score = np.einsum("oi,oi->o", direction, middle[columns.point])
    score -= SCALE_WEIGHT * np.abs(scale - _mean_of_points(columns, scale)[columns.point])
    if avoided is not None:
        score[avoided[columns.image]] -= 1e6
    order = np.lexsort((-score, columns.point))
    first = np.ones(len(order), bool)
    first[1:] = columns.point[1:] != columns.point[:-1]  # observations are sorted by point
    return order[first]


def _mean_of_points(columns: ModelColumns, values: Float64) -> Float64:
    total = np.bincount(columns.point, weights=values, minlength=len(columns.xyz))
    return np.asarray(total / np.maximum(columns.track_lengths, 1))


def surface_normals(columns: ModelColumns, reference: Int64) -> Float64:
    """Unit normals (T, 3) of the surface at each point, towards the reference's camera.

    A plane through the nearest points; it faces the camera where they are not coplanar or it is seen at grazing angles.
    """
    facing = columns.centres[columns.image[reference]] - columns.xyz
    facing /= np.linalg.norm(facing, axis=1, keepdims=True)
    if len(columns.xyz) < 4:
        return facing
    _, nearest = cKDTree(columns.xyz).query(columns.xyz, k=min(NEIGHBOURS, len(columns.xyz)))
    spread = columns.xyz[nearest]
    spread = spread - spread.mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(np.einsum("nki,nkj->nij", spread, spread))
    normals = vectors[:, :, 0]
    cosine = np.einsum("ni,ni->n", normals, facing)
    normals = normals * np.where(cosine < 0, -1.0, 1.0)[:, None]
    flat = (values[:, 0] < MAX_ROUGHNESS * values[:, 1]) & (np.abs(cosine) > MIN_COSINE)
    return np.where(flat[:, None], normals, facing)


def patch_maps(columns: ModelColumns, rows: Int64, reference: Int64, normals: Float64) -> Float64:
    """How the image moves with the reference's around the points of some observations: (M, 2, 2) px per px.

    rows: (M,) observations. reference: (T,), normals: (T, 3) of points. NaN where a map does not exist.
    """
    points = columns.point[rows]
    xyz, normal = columns.xyz[points], normals[points]
    from_image, to_image = columns.image[reference[points]], columns.image[rows]
    helper = np.where(np.abs(normal[:, :1]) < 0.8, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    along0 = np.cross(normal, helper)
    along0 /= np.linalg.norm(along0, axis=1, keepdims=True)
    along1 = np.cross(normal, along0)
    pixel = np.linalg.norm(xyz - columns.centres[from_image], axis=1) / columns.focals[from_image]  # its size there
    maps = []
    for image in (from_image, to_image):
        middle = columns.project(image, xyz)
        ends = [columns.project(image, xyz + pixel[:, None] * along) for along in (along0, along1)]
        maps.append(np.stack([end - middle for end in ends], axis=2))
    source, target = maps
    determinant = np.linalg.det(source)
    usable: NDArray[np.bool_] = np.isfinite(determinant) & (np.abs(determinant) > 1e-6)
    result = np.full((len(rows), 2, 2), np.nan)
    result[usable] = target[usable] @ np.linalg.inv(source[usable])
    return result
