"""Masks beside exported images: masks/NAME.png of images/NAME, black where nothing is to be learned.

nerfstudio reads them as mask_path, Brush finds them by their names, and COLMAP's fusion takes the folder. nerfstudio
wants all images to have one or none, so an image without a mask gets a white one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfm.images.decoding import mask_path, read_mask_file

if TYPE_CHECKING:
    import pycolmap

FOLDER = "masks"


def has_masks(folder: Path | None, names: Iterable[str]) -> bool:
    """Whether one of the images has a mask in the folder."""
    return folder is not None and any(mask_path(folder, name) is not None for name in names)


def remove_masks(dest: Path, names: Iterable[str]) -> None:
    """Takes away the masks that an earlier export left for images of these names: some programs find them by name."""
    for name in names:
        (dest / FOLDER / f"{name}.png").unlink(missing_ok=True)


def read_or_white(folder: Path, name: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W), 255 where the image of this name and size, px, may be used, else 0. Raises BadImage."""
    path = mask_path(folder, name)
    usable = np.ones(size[::-1], bool) if path is None else read_mask_file(path, name, size)
    return np.where(usable, np.uint8(255), np.uint8(0))


def write_mask(values: NDArray[np.uint8], dest: Path, name: str, size: tuple[int, int]) -> str:
    """Writes the mask of the exported image of this name in its size, px; its path relative to `dest`.

    Half of a pixel must be usable for it to be.
    """
    image = Image.fromarray(values)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BOX)
    path = dest / FOLDER / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    image.point([0] * 128 + [255] * 128).save(path)
    return f"{FOLDER}/{name}.png"


def undistort_masks(
    folder: Path,
    originals: Sequence[str],
    images: Sequence[pycolmap.Image],
    dest: Path,
    options: pycolmap.UndistortCameraOptions,
) -> None:
    """The images' masks as pycolmap.undistort_images undistorts the images. originals: their names where masks are."""
    import pycolmap

    for original, image in zip(originals, images, strict=True):
        camera = image.camera
        assert camera is not None
        values = read_or_white(folder, original, (camera.width, camera.height))
        bitmap, target = pycolmap.undistort_image(options, pycolmap.Bitmap.from_array(values), camera)
        found = np.asarray(bitmap.to_array(), np.uint8).reshape(target.height, target.width, -1)[:, :, 0]
        write_mask(found, dest, image.name, (target.width, target.height))
