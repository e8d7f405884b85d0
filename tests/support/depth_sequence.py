"""The textured roof of tests.support.plane_scene as an RGB-D sequence: images, depth and poses that are exact."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.spatial.transform import Rotation

from tests.support.plane_scene import SLOPE, TEXEL, smooth_noise

WIDTH, HEIGHT, FOCAL, NUM = 320, 240, 300.0, 16


def frame_pose(i: int) -> np.ndarray:
    """cam_from_world (3, 4) of frame i, on an arc of 56 degrees."""
    rotation = Rotation.from_euler("yx", [3.5 * (i - NUM / 2), 3.0 * (i % 2)], degrees=True).as_matrix()
    return np.concatenate([rotation, [[0.0], [0.0], [6.0]]], axis=1)


def depth_of(i: int, xy: np.ndarray) -> np.ndarray:
    """Depth (N,) of the roof at pixels (N, 2), COLMAP's."""
    return _ground(i, xy)[1]


def _ground(i: int, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pose = frame_pose(i)
    rays = np.concatenate([(xy - (WIDTH / 2, HEIGHT / 2)) / FOCAL, np.ones((len(xy), 1))], axis=1) @ pose[:, :3]
    centre = -pose[:, :3].T @ pose[:, 3]
    steps = [(s * centre[0] - centre[2]) / (rays[:, 2] - s * rays[:, 0]) for s in (SLOPE, -SLOPE)]
    depth = np.max(steps, axis=0)  # along the optical axis: the rays' third coordinate is 1
    return centre + depth[:, None] * rays, depth


def roof_sequence(folder: Path, *, depth_every: int = 2) -> Path:
    """A folder of NUM frames; depth images are smaller by depth_every."""
    for name in ("images", "depth"):
        (folder / name).mkdir(parents=True)
    poses = []
    for i in range(NUM):
        y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
        ground, depth = _ground(i, np.stack([x.ravel(), y.ravel()], axis=1))
        texture = smooth_noise(0, 512, 1.5, 4.0)
        values = ndimage.map_coordinates(texture, (ground[:, [1, 0]] / TEXEL + 256).T, order=1, mode="grid-wrap")
        grey = np.clip(np.rint(125 + 32 * values.reshape(HEIGHT, WIDTH)), 0, 255).astype(np.uint8)
        Image.fromarray(grey).save(folder / "images" / f"{i:02}.png")
        millimetres = np.rint(1000 * depth.reshape(HEIGHT, WIDTH)[::depth_every, ::depth_every]).astype(np.uint16)
        Image.fromarray(millimetres).save(folder / "depth" / f"{i:02}.png")
        pose = np.eye(4)
        pose[:3] = frame_pose(i)
        poses.append(np.linalg.inv(pose).ravel())
    np.savetxt(folder / "poses.txt", poses)
    np.savetxt(folder / "K.txt", [[FOCAL, 0, WIDTH / 2 - 0.5], [0, FOCAL, HEIGHT / 2 - 0.5], [0, 0, 1]])
    return folder
