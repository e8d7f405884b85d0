"""A COLMAP model as columns: what is counted in millions is held in arrays, and goes back into the model in one call.

Pixels are COLMAP's, poses cam_from_world (sfm.types).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pycolmap
from numpy.typing import NDArray

from sfm.colmap.bulk import bulk
from sfm.types import Float64, Int64

MANY = 100_000  # observations; from so many on they are read in bulk


@dataclass(frozen=True, eq=False)
class ModelColumns:
    """Registered images, points and observations; observations are sorted by point, then image.

    image_ids: (N,) of COLMAP. rotations (N, 3, 3), translations (N, 3): cam_from_world. cameras: of each image.
    point_ids: (T,) of COLMAP. xyz: (T, 3). point: (O,) row of the points. image: (O,) row of the images.
    point2D: (O,) row of that image's points2D in COLMAP. xy: (O, 2) px.
    """

    image_ids: Int64
    names: tuple[str, ...]
    rotations: Float64
    translations: Float64
    cameras: tuple[pycolmap.Camera, ...]
    point_ids: Int64
    xyz: Float64
    point: Int64
    image: Int64
    point2D: Int64
    xy: Float64

    @classmethod
    def of(cls, model: pycolmap.Reconstruction) -> ModelColumns:
        """All that the model holds."""
        image_ids = np.array(sorted(model.reg_image_ids()), np.int64)
        images = [model.images[int(i)] for i in image_ids]
        point_ids, xyz, seen = (_in_bulk if model.compute_num_observations() > MANY else _one_by_one)(model, image_ids)
        image = np.repeat(np.arange(len(seen)), np.array([len(own[0]) for own in seen], np.int64))
        none = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2))
        point_id, point2D, xy = (np.concatenate(parts) for parts in zip(none, *seen, strict=True))
        point = np.searchsorted(point_ids, point_id)
        poses = [own.cam_from_world() for own in images]
        order = np.lexsort((image, point))
        return cls(
            image_ids,
            tuple(own.name for own in images),
            np.array([pose.rotation.matrix() for pose in poses]).reshape(-1, 3, 3),
            np.array([pose.translation for pose in poses]).reshape(-1, 3),
            tuple(model.cameras[own.camera_id] for own in images),
            point_ids,
            xyz,
            point[order],
            image[order],
            point2D[order],
            xy[order],
        )

    @cached_property
    def rows_of_images(self) -> tuple[Int64, ...]:
        """Of each image its observations (rows), ascending."""
        return rows_of(self.image, len(self.names))

    @property
    def centres(self) -> Float64:
        """(N, 3) camera centres."""
        return np.asarray(-np.einsum("nij,ni->nj", self.rotations, self.translations))

    @property
    def focals(self) -> Float64:
        """(N,) px."""
        return np.array([camera.mean_focal_length() for camera in self.cameras])

    @property
    def track_lengths(self) -> Int64:
        """(T,) observations of each point."""
        return np.bincount(self.point, minlength=len(self.xyz))

    def triangulation_angles(self) -> Float64:
        """(T,) degrees, the largest angle between the first ray of each point and its others."""
        rays = self.centres[self.image] - self.xyz[self.point]
        length = np.linalg.norm(rays, axis=1, keepdims=True)
        rays = np.divide(rays, length, out=np.zeros_like(rays), where=length > 0)
        first = np.flatnonzero(np.diff(self.point, prepend=-1))
        cosine = np.einsum("oj,oj->o", rays, np.repeat(rays[first], np.diff(first, append=len(rays)), axis=0))
        return np.asarray(np.degrees(np.arccos(np.clip(np.minimum.reduceat(cosine, first), -1, 1))))

    def project(self, image: Int64, xyz: Float64) -> Float64:
        """Projections of points (M, 3) into images (M,), row by row: (M, 2) px, NaN behind the camera."""
        xy = np.full((len(xyz), 2), np.nan)
        for row, own in enumerate(rows_of(image, len(self.names))):
            if not len(own):
                continue
            local = xyz[own] @ self.rotations[row].T + self.translations[row]
            front = local[:, 2] > 0
            xy[own[front]] = self.cameras[row].img_from_cam(local[front])
        return xy

    def observed_in(self, model: pycolmap.Reconstruction) -> NDArray[np.bool_]:
        """(O,) which observations are some point's in another state of this model, too."""
        known = np.zeros(len(self.image), bool)
        for image_id, own in zip(self.image_ids.tolist(), self.rows_of_images, strict=True):
            if image_id not in model.images:
                continue
            image = model.images[image_id]
            seen = np.zeros(max(image.num_points2D(), int(self.point2D[own].max(initial=-1)) + 1), bool)
            seen[image.get_observation_point2D_idxs()] = True
            known[own] = seen[self.point2D[own]]
        return known

    def residuals(self) -> Float64:
        """(O, 2) px, observed less projected; NaN behind the camera."""
        return self.xy - self.project(self.image, self.xyz[self.point])


_Observed = list[tuple[Int64, Int64, Float64]]  # of each image: ids of points, places among its points2D, xy


def _one_by_one(model: pycolmap.Reconstruction, image_ids: Int64) -> tuple[Int64, Float64, _Observed]:
    """Ids (T,) and xyz (T, 3) of the points, and what each image observes."""
    point_ids = np.array(sorted(model.point3D_ids()), np.int64)
    seen = []
    for image in (model.images[int(i)] for i in image_ids):
        points = image.get_observation_points2D()
        ids = np.array([p.point3D_id for p in points], np.int64)
        places = np.array(image.get_observation_point2D_idxs(), np.int64)
        seen.append((ids, places, np.array([p.xy for p in points], np.float64).reshape(-1, 2)))
    return point_ids, np.array([model.points3D[int(i)].xyz for i in point_ids]).reshape(-1, 3), seen


def _in_bulk(model: pycolmap.Reconstruction, image_ids: Int64) -> tuple[Int64, Float64, _Observed]:
    """The same of a large model, in a tenth of the time."""
    columns = bulk(model)
    seen = []
    for image_id in image_ids.tolist():
        own = columns.observed[image_id]
        seen.append((own["point"].astype(np.int64), columns.places[image_id], own["xy"]))
    return columns.points["id"].astype(np.int64), columns.xyz, seen


def rows_of(kind: Int64, num: int) -> tuple[Int64, ...]:
    """Of each of `num` kinds the rows of kind (M,) that are of it, ascending; linear, whatever their number."""
    order = np.argsort(kind, kind="stable")
    ends = np.cumsum(np.bincount(kind, minlength=num))
    return tuple(np.split(order, ends[:-1])[:num])


def move_observations(model: pycolmap.Reconstruction, columns: ModelColumns, xy: Float64) -> None:
    """Gives every observation of the model its position (O, 2) px."""
    for image_id, own in zip(columns.image_ids.tolist(), columns.rows_of_images, strict=True):
        points2D = model.images[image_id].points2D
        for j, position in zip(columns.point2D[own].tolist(), xy[own], strict=True):
            points2D[j].xy = position


def delete_observations(model: pycolmap.Reconstruction, columns: ModelColumns, gone: NDArray[np.bool_]) -> int:
    """Takes observations (O,) out of the model, and points that are left with one; returns how many it took."""
    manager = pycolmap.ObservationManager(model)
    rows = np.flatnonzero(gone)
    ids = columns.image_ids[columns.image[rows]]
    for image_id, j in zip(ids.tolist(), columns.point2D[rows].tolist(), strict=True):
        if model.images[image_id].points2D[j].has_point3D():  # a point of two goes whole
            manager.delete_observation(image_id, j)
    return len(rows)
