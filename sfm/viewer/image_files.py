"""Thumbnails of a model's images: read as displayed, and only from their folder. What cannot be read is left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sfm.drawing.scene import Scene
from sfm.errors import BadImage
from sfm.images.decoding import read_thumbnail
from sfm.viewer.state import ramp

UInt8 = NDArray[np.uint8]
ERROR_RANGE = 2.0  # px, the last colour of a keypoint's error


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Images of a folder by name; of no folder there are none. Names that lead out of it are not read."""

    folder: Path | None = None

    def __call__(self, name: str, side: int) -> UInt8 | None:
        """(H, W, 3) of an image, at most `side` px long, EXIF rotation applied; None where it cannot be read."""
        if self.folder is None:
            return None
        root = self.folder.resolve()
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            return None
        try:
            return np.asarray(read_thumbnail(path.parent, path.name, None, side))
        except BadImage:
            return None


def camera_image(scene: Scene, row: int, images: ImageFiles, side: int) -> UInt8:
    """A camera's image (H, W, 3), `side` px long, with its keypoints coloured by reprojection error, dark blue at 0 to
    yellow at ERROR_RANGE; on grey where there is none."""
    size = scene.cameras.size[row]
    small = np.maximum(np.round(size * (side / size.max())), 1).astype(int)
    image = images(scene.cameras.names[row], side)
    picture = Image.new("RGB", tuple(small.tolist()), (70, 74, 80)) if image is None else Image.fromarray(image)
    picture = picture.resize(tuple(small.tolist()))
    ink = ImageDraw.Draw(picture)
    own = scene.observations.of_camera(row)
    xy, error = scene.observations.xy[own] * (small / size), scene.observations.error[own]
    radius = max(1.0, side / 320)
    for (x, y), rgb in zip(xy.tolist(), ramp(error / ERROR_RANGE).tolist(), strict=True):
        ink.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tuple(rgb))
    return np.asarray(picture)
