"""Images and cameras for formats that know one focal length, the principal point in the middle and no lens.

COLMAP undistorts to pinhole cameras, whose principal point may be anywhere and whose focal lengths may differ: what is
left of both an exact cut and a resampling of the image take away.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pycolmap
from PIL import Image

from sfm.errors import BadFile
from sfm.export.images.reduction import QUALITY
from sfm.export.source import ExportSource, protect_images, registered_images
from sfm.export.undistorted import undistorted
from sfm.system.safe_paths import refuse_links
from sfm.types import Float64

FOLDER = "images"


@dataclass(frozen=True, slots=True)
class Cut:
    """The part of a pinhole image around its principal point that is kept, and the size it gets, px."""

    box: tuple[float, float, float, float]
    size: tuple[int, int]
    focal: float

    @classmethod
    def of(cls, camera: pycolmap.Camera) -> Cut:
        """The largest one. Raises BadFile where the principal point is at the image's border, or beyond."""
        fx, fy = camera.focal_length_x, camera.focal_length_y
        cx, cy = camera.principal_point_x, camera.principal_point_y
        half = min(cx, camera.width - cx), min(cy, camera.height - cy)
        if min(half) < 1:
            raise BadFile(f"camera {camera.camera_id}: its principal point ({cx:.0f}, {cy:.0f}) px is not in the image")
        width = max(1, int(2 * half[0]))
        height = max(1, int(2 * half[1] * fx / fy))
        across, down = width / 2, height / 2 * fy / fx
        return cls((cx - across, cy - down, cx + across, cy + down), (width, height), fx)

    def of_px(self, xy: Float64) -> Float64:
        """Where px of the pinhole image (N, 2) are in the cut."""
        left, top, right, bottom = self.box
        scaled: Float64 = (xy - np.array([left, top])) * np.array(self.size) / [right - left, bottom - top]
        return scaled


def with_square_pixels(source: ExportSource, dest: Path) -> pycolmap.Reconstruction:
    """Undistorted images in dest/images, and the model of them: SIMPLE_PINHOLE cameras whose principal point is the
    middle of the image, names below images/, observations outside of the images left out. Errors as `undistorted`.
    """
    refuse_links(dest, [FOLDER])
    source = replace(source, images=source.images_dir())
    protect_images(source.images_dir(), dest / FOLDER)
    with tempfile.TemporaryDirectory(prefix=".pinhole-", dir=dest) as scratch:
        pinhole = undistorted(source, Path(scratch))
        model = pycolmap.Reconstruction(pinhole / "sparse")
        cuts = {camera_id: Cut.of(camera) for camera_id, camera in model.cameras.items()}
        for image in registered_images(model):
            _cut_image(pinhole / FOLDER / image.name, dest / FOLDER / image.name, cuts[image.camera_id])
    for image in registered_images(model):
        cut = cuts[image.camera_id]
        for point in image.points2D:
            point.xy = cut.of_px(point.xy)
        image.name = f"{FOLDER}/{image.name}"
    for camera_id, cut in cuts.items():
        (width, height), camera = cut.size, model.cameras[camera_id]
        model.cameras[camera_id] = pycolmap.Camera(
            model="SIMPLE_PINHOLE",
            camera_id=camera.camera_id,
            width=width,
            height=height,
            params=[cut.focal, width / 2, height / 2],
        )
    _drop_outside(model)
    return model


def _cut_image(path: Path, target: Path, cut: Cut) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(path) as image:
        how = {"quality": QUALITY, "subsampling": 0} if image.format == "JPEG" else {}
        image.resize(cut.size, Image.Resampling.BICUBIC, box=cut.box).save(target, image.format, **how)


def _drop_outside(model: pycolmap.Reconstruction) -> None:
    """Takes away observations outside of the images, and points that are left with fewer than two."""
    manager = pycolmap.ObservationManager(model)
    for image_id in model.reg_image_ids():
        size = model.cameras[model.images[image_id].camera_id]
        for j, point in enumerate(model.images[image_id].points2D):
            inside = 0 <= point.xy[0] <= size.width and 0 <= point.xy[1] <= size.height
            if not inside and model.images[image_id].points2D[j].has_point3D():
                manager.delete_observation(image_id, j)
