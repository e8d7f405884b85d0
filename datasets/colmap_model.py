"""COLMAP models of known cameras: writing ground truth, reading poses by image name.

All parsing is pycolmap's. Poses are cam_from_world; pixels have their corner at the origin (COLMAP's).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from sfm.colmap.model_reader import read_reconstruction
from sfm.types import Float64, Int64


@dataclass(frozen=True, slots=True, eq=False)
class PosedImage:
    """An image of known camera. cam_from_world: (3, 4). camera_model, params: COLMAP's. size: width, height px.

    xy: (N, 2) px, its observations of sparse points.
    """

    name: str
    cam_from_world: Float64
    camera_model: str
    size: tuple[int, int]
    params: Float64
    xy: Float64 = field(default_factory=lambda: np.zeros((0, 2)))


@dataclass(frozen=True, slots=True, eq=False)
class SparsePoints:
    """P points with tracks: xyz (P, 3), rgb (P, 3) u8; track p is offsets[p]:offsets[p + 1] of the two columns.

    image_idx: (O,) row of the posed image. xy_idx: (O,) row in that image's xy.
    """

    xyz: Float64
    rgb: NDArray[np.uint8]
    offsets: Int64
    image_idx: Int64
    xy_idx: Int64


def build_model(
    images: Sequence[PosedImage], points: SparsePoints | None = None, *, shared_camera: bool = False
) -> pycolmap.Reconstruction:
    """A reconstruction of the images, ids counted from 1; one camera each, or the first one's for all."""
    model = pycolmap.Reconstruction()
    for i, posed in enumerate(images, start=1):
        if i == 1 or not shared_camera:
            width, height = posed.size
            model.add_camera_with_trivial_rig(
                pycolmap.Camera(
                    model=posed.camera_model, width=width, height=height, params=posed.params.tolist(), camera_id=i
                )
            )
        image = pycolmap.Image(
            name=posed.name, keypoints=np.asarray(posed.xy, np.float64), camera_id=1 if shared_camera else i, image_id=i
        )
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(posed.cam_from_world))
    for p in range(0 if points is None else len(points.xyz)):
        _add_point(model, points, p)  # type: ignore[arg-type]
    model.update_point_3d_errors()
    return model


def _add_point(model: pycolmap.Reconstruction, points: SparsePoints, p: int) -> None:
    rows = slice(points.offsets[p], points.offsets[p + 1])
    seen = zip(points.image_idx[rows].tolist(), points.xy_idx[rows].tolist(), strict=True)
    track = pycolmap.Track([pycolmap.TrackElement(image + 1, xy) for image, xy in seen])
    model.add_point3D(points.xyz[p], track, points.rgb[p])


def write_model(
    folder: Path, images: Sequence[PosedImage], points: SparsePoints | None = None, *, shared_camera: bool = False
) -> None:
    """Write the images, and points if given, as a COLMAP text model to the folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    build_model(images, points, shared_camera=shared_camera).write_text(str(folder))


def read_model(folder: Path) -> pycolmap.Reconstruction:
    """The COLMAP model, text or binary, in the folder. Raises BadFile where there is none that can be read."""
    return read_reconstruction(folder, "write it again")


def poses_by_name(model: pycolmap.Reconstruction) -> dict[str, Float64]:
    """(3, 4) cam_from_world of every registered image, by name."""
    images = (model.image(image_id) for image_id in model.reg_image_ids())
    return {image.name: np.asarray(image.cam_from_world().matrix()) for image in images}
