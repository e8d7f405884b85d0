"""Small pictures as files, and the index of a folder of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfm.images.index import read_images_index
from sfm.options import ImageOptions
from sfm.types import ImageRecord

W, H = 64, 48


def picture(seed: int = 0, size: tuple[int, int] = (W, H)) -> NDArray[np.uint8]:
    """(H, W, 3) uint8, smooth so that lossy formats keep it, and like none of its own rotated versions."""
    corners = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(corners).resize(size, Image.Resampling.BILINEAR))


def save(path: Path, pixels: NDArray[np.uint8], **how: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **how)
    return path


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def index(folder: Path, **options: object) -> dict[str, ImageRecord]:
    records, _ = read_images_index(folder, ImageOptions(**options))  # type: ignore[arg-type]
    return {record.name: record for record in records}
