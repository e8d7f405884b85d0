"""Parallax: whether a pure rotation explains the matches. Pixels are COLMAP's (sfm.types)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sfm.colmap.model_arrays import ModelColumns
from sfm.types import Float64

MAX_PAIRS, MIN_SHARED = 100, 30
SAME_PLACE = 1e-6  # of the extent of all cameras


def rotation_share(columns: ModelColumns, focals: Float64, *, max_error: float) -> float:
    """The largest share of what images have in common that rotations between them explain to max_error px.

    focals: (N, F) px, F focal lengths that each of the model's images may have; 0 where there is nothing in common.
    """
    explained, total = np.zeros(focals.shape[1]), 0
    middle = np.array([(camera.width, camera.height) for camera in columns.cameras]).reshape(-1, 2) / 2
    for image0, image1, xy0, xy1 in widest_pairs(columns):
        sides = ((xy - middle[image], focals[image]) for image, xy in ((image0, xy0), (image1, xy1)))
        explained += rotated_matches(*sides, max_error=max_error)
        total += len(xy0)
    return float(explained.max() / total) if total else 0.0


def widest_pairs(columns: ModelColumns) -> Iterator[tuple[int, int, Float64, Float64]]:
    """For a sample of images, each with the one with which it shares fewest points, but at least MIN_SHARED: rows of
    both images, and where (M, 2) px they observe those points. Neighbours in a video are uninformative: they hardly
    differ. Faces of one panorama do not at all: they are known to differ by a rotation."""
    num_images, extent = len(columns.names), float(np.ptp(columns.centres, axis=0).max(initial=0.0))
    found, seen = set(), np.zeros(len(columns.xyz), bool)
    for image in np.unique(np.linspace(0, num_images - 1, min(num_images, MAX_PAIRS)).astype(int)):
        seen[:] = False
        seen[columns.point[columns.rows_of_images[image]]] = True
        shared = np.bincount(columns.image[seen[columns.point]], minlength=num_images)
        shared[image] = 0
        shared[np.linalg.norm(columns.centres - columns.centres[image], axis=1) < SAME_PLACE * extent] = 0
        enough = np.flatnonzero(shared >= MIN_SHARED)
        if len(enough):
            other = enough[np.argmin(shared[enough])]
            found.add((int(min(image, other)), int(max(image, other))))
    for image0, image1 in sorted(found):
        rows0, rows1 = columns.rows_of_images[image0], columns.rows_of_images[image1]
        _, i0, i1 = np.intersect1d(columns.point[rows0], columns.point[rows1], return_indices=True)
        yield image0, image1, columns.xy[rows0[i0]], columns.xy[rows1[i1]]


def rotated_matches(
    side0: tuple[Float64, Float64], side1: tuple[Float64, Float64], *, max_error: float
) -> NDArray[np.int64]:
    """(F,) how many matches the best rotation explains to max_error px, at each of F pairs of focal lengths.

    A side is (M, 2) px from the principal point, and (F,) px. The rotation is Kabsch's, of the rays.
    """
    xy1, focal1 = side1
    rays0, rays1 = (_rays(xy, focal) for xy, focal in (side0, side1))
    U, _, Vt = np.linalg.svd(np.einsum("fmi,fmj->fij", rays1, rays0))
    U[:, :, 2] *= np.linalg.det(U @ Vt)[:, None]
    local = np.einsum("fij,fmj->fmi", U @ Vt, rays0)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = focal1[:, None, None] * local[..., :2] / local[..., 2:]
        near = (np.linalg.norm(found - xy1, axis=-1) <= max_error) & (local[..., 2] > 0)
    return np.asarray(near.sum(axis=1))


def _rays(xy: Float64, focal: Float64) -> Float64:
    """(F, M, 3) unit vectors."""
    rays = np.concatenate([xy / focal[:, None, None], np.ones((len(focal), len(xy), 1))], axis=-1)
    return np.asarray(rays / np.linalg.norm(rays, axis=-1, keepdims=True))
