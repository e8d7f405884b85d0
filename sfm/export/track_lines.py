"""What NVM and Bundler share, which pycolmap has no writers for: cameras of one focal length, tracks as lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sfm.export.source import ExportSource, camera_of, refuse_white_space, registered_images
from sfm.types import Float64

if TYPE_CHECKING:
    import pycolmap

EQUAL = 1e-3  # difference of two focal lengths, as a part of one, that a format of one focal length may lose


def model_of_one_focal(
    source: ExportSource, dest: Path, *, format: str, allowed: Sequence[str]
) -> pycolmap.Reconstruction:
    """The model where the format can hold its cameras, else that of undistorted images, written to dest/images.

    format: for messages. allowed: camera models that the format can hold where both focal lengths are the same. Reduced
    images, where the source asks for them, are written in any case. Raises BadFile and BadImage.
    """
    model = source.model()
    refuse_white_space(registered_images(model), format)
    if source.max_size is None and all(_holds(camera_of(image), allowed) for image in registered_images(model)):
        return model
    from sfm.export.images.square_pixels import with_square_pixels

    return with_square_pixels(source, dest)


def _holds(camera: pycolmap.Camera, allowed: Sequence[str]) -> bool:
    fx, fy = camera.focal_length_x, camera.focal_length_y
    return camera.model_name in allowed and abs(fx - fy) <= EQUAL * fx


def one_focal(camera: pycolmap.Camera) -> tuple[float, float, float]:
    """Focal length (px), k1, k2 of a camera of a model_of_one_focal."""
    distortion = [*(camera.params[i] for i in camera.extra_params_idxs()), 0.0, 0.0]
    return (camera.focal_length_x + camera.focal_length_y) / 2, distortion[0], distortion[1]


def tracks_of(
    model: pycolmap.Reconstruction, images: Sequence[pycolmap.Image], *, separator: str, y_up: bool = False
) -> list[tuple[str, str]]:
    """Of every point: "xyz, separator, rgb", and "length, (image, keypoint, x, y) ..." from the principal point."""
    row_of = {image.image_id: row for row, image in enumerate(images)}
    lines = []
    for point_id in sorted(model.points3D):
        point = model.points3D[point_id]
        views = []
        for element in point.track.elements:
            image = model.images[element.image_id]
            camera = camera_of(image)
            x, y = image.points2D[element.point2D_idx].xy - np.array(
                [camera.principal_point_x, camera.principal_point_y]
            )
            views.append(f"{row_of[element.image_id]} {element.point2D_idx} {row([x, -y if y_up else y])}")
        head = row(point.xyz) + separator + " ".join(str(c) for c in point.color)
        lines.append((head, f"{len(views)} {' '.join(views)}"))
    return lines


def row(values: Sequence[float] | Float64) -> str:
    """Numbers with 12 digits, a space between."""
    return " ".join(f"{value:.12g}" for value in values)


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    """Writes a text file of these lines; returns its path."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
