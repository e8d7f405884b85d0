"""What NVM and Bundler share, which pycolmap has no writers for: cameras of one focal length, tracks as lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sfm.errors import BadFile
from sfm.export.source import camera_of
from sfm.types import Float64

if TYPE_CHECKING:
    import pycolmap


def one_focal(camera: pycolmap.Camera, dest: Path, *, allowed: Sequence[str]) -> tuple[float, float, float]:
    """Focal length (px), k1, k2; BadFile when the format cannot hold the camera."""
    fx, fy = camera.focal_length_x, camera.focal_length_y
    if camera.model_name not in allowed or abs(fx - fy) > 1e-3 * fx:
        raise BadFile(
            f"{dest}: this format cannot hold camera {camera.camera_id} ({camera.model_name}); "
            "export it undistorted first"
        )
    distortion = [*(camera.params[i] for i in camera.extra_params_idxs()), 0.0, 0.0]
    return (fx + fy) / 2, distortion[0], distortion[1]


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
