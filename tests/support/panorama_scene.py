"""A textured room seen exactly, all around: each ray is cut with six walls, so a panorama and a pinhole image of it can
be rendered from any place, and neither is made of the other."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.spatial.transform import Rotation

from tests.support.plane_scene import smooth_noise

HALF = np.array([4.0, 2.0, 5.0])  # of the room's sides, m; x right, y down, z forward
TEXEL = 0.05  # m, a little more than what a pixel of a panorama of 1,024 px sees


def poses(num=4):
    """panorama_from_world (3, 4): on a line across the room, each turned a little about its vertical axis."""
    found = []
    for i in range(num):
        rotation = Rotation.from_euler("yx", [7.0 * i, 2.0 * (i % 2)], degrees=True).as_matrix()
        centre = np.array([-1.0 + 0.6 * i, 0.15 * (i % 2), -1.2 + 0.5 * i])
        found.append(np.column_stack([rotation, -rotation @ centre]))
    return found


def seen(pose, rays):
    """(...,) grey values where rays (..., 3) of a camera's axes lead. pose: cam_from_world (3, 4)."""
    world = rays @ pose[:, :3]
    centre = -pose[:, :3].T @ pose[:, 3]
    with np.errstate(divide="ignore"):
        far = (np.sign(world) * HALF - centre) / world
    axis = far.argmin(-1)
    hit = centre + np.take_along_axis(far, axis[..., None], -1) * world
    values = np.zeros(axis.shape)
    for k in range(3):
        for side in (-1, 1):
            own = (axis == k) & (np.sign(world[..., k]) == side)
            texture = smooth_noise(10 + 2 * k + (side > 0), 512, 1.5, 4.0)
            place = np.delete(hit[own], k, axis=-1) / TEXEL + 256
            values[own] = ndimage.map_coordinates(texture, place.T, order=3, mode="grid-wrap")
    return 120 + 35 * values


@cache
def panorama(i, width=1024, num=4):
    """(H, W) u8, equirectangular, of COLMAP's convention. Do not change it."""
    height = width // 2
    y, x = np.mgrid[:height, :width] + 0.5
    longitude, latitude = (x / width - 0.5) * 2 * np.pi, (y / height - 0.5) * np.pi
    rays = np.stack([np.cos(latitude) * np.sin(longitude), np.sin(latitude), np.cos(latitude) * np.cos(longitude)], -1)
    return np.clip(np.rint(seen(poses(num)[i], rays)), 0, 255).astype(np.uint8)


def pinhole(pose, width, height, focal):
    """(H, W) u8 of a pinhole camera with the middle of the image as its principal point."""
    y, x = np.mgrid[:height, :width] + 0.5
    rays = np.stack([(x - width / 2) / focal, (y - height / 2) / focal, np.ones_like(x)], -1)
    return np.clip(np.rint(seen(pose, rays)), 0, 255).astype(np.uint8)


def write_panoramas(folder, num=4, width=1024):
    """0.png, 1.png, ... in a new folder."""
    folder.mkdir(parents=True)
    for i in range(num):
        Image.fromarray(panorama(i, width, num)).save(folder / f"{i}.png")
    return folder
