"""Four images of the arc with their true cameras as a COLMAP model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sfm.datasets.colmap_model import PosedImage, write_model
from tests.support.arc_scene import FOCAL, HEIGHT, WIDTH, pose, write_image

NUM = 4
NAMES = tuple(f"image_{i}.png" for i in range(NUM))


def write_posed_images(folder: Path) -> Path:
    """folder/images and the true model folder/gt."""
    (folder / "images").mkdir(parents=True)
    for i, name in enumerate(NAMES):
        write_image(folder / "images" / name, i)
    params = np.array([FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2])
    posed = [PosedImage(name, pose(i), "PINHOLE", (WIDTH, HEIGHT), params) for i, name in enumerate(NAMES)]
    write_model(folder / "gt", posed, shared_camera=True)
    return folder
