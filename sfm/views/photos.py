"""Photos beside a model, small: read as displayed, and only from their folder. What cannot be read is left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

UInt8 = NDArray[np.uint8]
ReadPhoto = Callable[[str, int], UInt8 | None]  # name, longest side in px: (H, W, 3) or nothing


def no_photos(name: str, side: int) -> UInt8 | None:
    """For models without photos."""
    return None


def photos_in(folder: Path) -> ReadPhoto:
    """Reads photos of a folder, at most `side` px long, EXIF rotation applied. Names that lead out of it are not read."""
    root = folder.resolve()

    def read(name: str, side: int) -> UInt8 | None:
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            return None
        try:
            with Image.open(path) as photo:
                photo.draft("RGB", (side, side))
                turned = ImageOps.exif_transpose(photo)
                turned.thumbnail((side, side), Image.Resampling.LANCZOS)
                return np.asarray(turned.convert("RGB"))
        except Exception:  # Pillow answers a damaged file with almost any
            return None

    return read
