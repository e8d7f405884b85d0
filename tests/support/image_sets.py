"""Sets of images that are only names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from sfm.pairs.base import ImageSet
from sfm.types import CameraPrior, ImageRecord


def image_set(names: Iterable[str], *, skipped: tuple[str, ...] = ()) -> ImageSet:
    """Images of 64 x 48 px of one camera, in a folder that is not there."""
    camera = CameraPrior("SIMPLE_PINHOLE", np.array([1.0, 1, 1]), False, "single")
    records = tuple(ImageRecord(name, 64, 48, camera, "00") for name in sorted(names))
    return ImageSet(records, Path("absent"), skipped)
