"""The synthetic courtyard through a fisheye lens: every pixel's ray is cast, so that camera and poses are exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
from PIL import Image

from sfm.datasets.courtyard.rendering import SUNNY, Renderer, develop
from sfm.datasets.courtyard.scene import courtyard, rich_materials
from sfm.datasets.courtyard.synthetic import arc_of_cameras

SIZE = (480, 360)
PARAMS = (205.0, 205.0, 240.0, 180.0, 0.02, -0.004, 0.0, 0.0)  # OPENCV_FISHEYE; 163 degrees over the diagonal


def lens(size: tuple[int, int] = SIZE) -> pycolmap.Camera:
    """The camera of all images."""
    camera = pycolmap.Camera(model="OPENCV_FISHEYE", width=SIZE[0], height=SIZE[1], params=PARAMS)
    camera.rescale(*size)
    return camera


def poses(num: int = 10) -> np.ndarray:
    """cam_from_world (num, 3, 4)."""
    return arc_of_cameras(num, seed=0)


def render(folder: Path, num: int = 10, size: tuple[int, int] = SIZE) -> list[str]:
    """Writes the images and returns their names."""
    renderer, camera = Renderer(courtyard(), rich_materials(), SUNNY, seed=0), lens(size)
    y, x = np.mgrid[: size[1], : size[0]].reshape(2, -1) + 0.5
    rays = np.asarray(camera.cam_ray_from_img(np.stack([x, y], 1)))
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for i, pose in enumerate(poses(num)):
        radiance = np.zeros((len(rays), 3), np.float32)
        for shift in np.array([[-0.25, -0.25], [0.25, -0.25], [-0.25, 0.25], [0.25, 0.25]]):
            rays = np.asarray(camera.cam_ray_from_img(np.stack([x, y], 1) + shift))
            directions = (rays @ pose[:, :3]).astype(np.float32)
            origins = np.broadcast_to((-pose[:, :3].T @ pose[:, 3]).astype(np.float32), directions.shape)
            hits = renderer.cast(origins, directions)
            footprint = np.where(np.isfinite(hits.distance), hits.distance, 1) / np.float32(PARAMS[0])
            radiance += renderer.shade(hits, directions, footprint.astype(np.float32), sun_offset=(0.0, 0.0)) / 4
        names.append(f"{i:02d}.png")
        image = develop(radiance.reshape(size[1], size[0], 3), noise=1.2, rng=rng)
        Image.fromarray(image).save(folder / names[-1])
    return names
