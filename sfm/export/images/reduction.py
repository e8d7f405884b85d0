"""Smaller images for programs that hold all of them in a GPU's memory, with cameras that belong to them.

COLMAP's pixels have their origin at the image's corner, so a reduced camera's parameters are the camera's times the
ratio of both sizes, in each direction its own: sizes are whole px.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    import pycolmap

QUALITY = 95  # of JPEG


def reduced_size(width: int, height: int, max_size: int | None) -> tuple[int, int]:
    """The size, px, of an image whose longer side is at most max_size; its own where it is not longer."""
    longer = max(width, height)
    if max_size is None or longer <= max_size:
        return width, height
    return max(1, round(width * max_size / longer)), max(1, round(height * max_size / longer))


def reduced_camera(camera: pycolmap.Camera, max_size: int | None) -> pycolmap.Camera:
    """The camera of the reduced images; itself where they are not reduced."""
    size = reduced_size(camera.width, camera.height, max_size)
    if size == (camera.width, camera.height):
        return camera
    import pycolmap

    result = pycolmap.Camera(camera.todict())
    result.rescale(*size)
    return result


def reduce_image(path: Path, size: tuple[int, int]) -> None:
    """Reduces an upright image file to a size, px, in place and in its format; as it is where it has the size."""
    with Image.open(path) as image:
        if image.size == size:
            return
        kind, profile = str(image.format), image.info.get("icc_profile")
        plain = image if image.mode in ("L", "RGB", "RGBA", "LA") else image.convert("RGB")
        reduced = plain.resize(size, Image.Resampling.LANCZOS)
    how = {"quality": QUALITY, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    reduced.info = {}
    reduced.save(path, kind, icc_profile=profile if reduced.mode == plain.mode else None, **how)
