"""The faces of a cube around a panorama's centre: images of pinhole cameras with exactly known intrinsics and poses.

A face sees FIELD_DEG degrees, so that neighbours overlap, with the resolution of the panorama at its equator. Nowhere
is that coarser than what the panorama resolves, so a pixel is the bilinear value of the panorama where its centre's ray
leads. Pixels are COLMAP's (sfm.types): of a panorama of W x H px, x / W of the way around is the longitude from -180 to
180 degrees, y / H the way from the upper pole to the lower one, as in COLMAP's camera model EQUIRECTANGULAR. Poses are
face_from_panorama.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from sfm.types import Float64

FIELD_DEG = 100.0
BAND = 128  # rows of a face that are sampled at once
# Yaw to the right, then pitch upwards, degrees; the first is the rig's reference.
DIRECTIONS = MappingProxyType(
    {"front": (0, 0), "right": (90, 0), "back": (180, 0), "left": (270, 0), "up": (0, 90), "down": (0, -90)}
)
REFERENCE = "front"


def face_rotation(face: str) -> Float64:
    """face_from_panorama (3, 3); the panorama's axes are x right, y down, z forward, in the middle of the image."""
    yaw, pitch = np.radians(DIRECTIONS[face])
    c, s = np.cos(yaw), np.sin(yaw)
    yawed = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    c, s = np.cos(pitch), np.sin(pitch)
    return np.asarray(np.array([[1, 0, 0], [0, c, s], [0, -s, c]]) @ yawed)


def face_side(width: int) -> int:
    """Side of the faces of a panorama of this width, px: even, and its resolution at the equator."""
    return 2 * round(float(width / (2 * np.pi) * np.tan(np.radians(FIELD_DEG / 2))))


def face_focal(side: int) -> float:
    """Focal length of a face, px."""
    return float(side / 2 / np.tan(np.radians(FIELD_DEG / 2)))


def render_face(panorama: NDArray[np.uint8], face: str, side: int, *, nearest: bool = False) -> NDArray[np.uint8]:
    """(side, side, C) of a panorama (H, W, C). nearest: values are taken as they are, as a mask's must be.

    Memory beyond both: some 200 bytes for each pixel of a band.
    """
    image = np.empty((side, side, panorama.shape[2]), np.uint8)
    rotation, focal, (height, width) = face_rotation(face), face_focal(side), panorama.shape[:2]
    for begin in range(0, side, BAND):
        y, x = np.mgrid[begin : min(begin + BAND, side), :side] + 0.5
        rays = np.stack([(x - side / 2) / focal, (y - side / 2) / focal, np.ones_like(x)], -1)
        xy = panorama_xy(rays @ rotation, width, height)
        if nearest:
            xy = np.floor(xy).clip(0, [width - 1, height - 1]) + 0.5
        image[begin : begin + BAND] = np.rint(bilinear(panorama, xy))
    return image


def panorama_xy(rays: Float64, width: int, height: int) -> Float64:
    """(..., 2) px of a panorama where rays (..., 3) of its own axes lead."""
    longitude = np.arctan2(rays[..., 0], rays[..., 2])
    latitude = np.arctan2(rays[..., 1], np.hypot(rays[..., 0], rays[..., 2]))
    return np.stack([(longitude / (2 * np.pi) + 0.5) * width, (latitude / np.pi + 0.5) * height], -1)


def bilinear(panorama: NDArray[np.uint8], xy: Float64) -> Float64:
    """(..., 3) values of a panorama (H, W, 3) at px (..., 2); it goes on around, and over a pole on the other side."""
    height, width = panorama.shape[:2]
    low = np.floor(xy - 0.5)
    along = xy - 0.5 - low
    x0, y0 = low[..., 0].astype(np.int64), low[..., 1].astype(np.int64)
    value = np.zeros((*xy.shape[:-1], panorama.shape[2]))
    for dy, wy in ((0, 1 - along[..., 1]), (1, along[..., 1])):
        y = y0 + dy
        beyond = (y < 0) | (y >= height)
        row = np.where(y < 0, -1 - y, np.where(y >= height, 2 * height - 1 - y, y)).clip(0, height - 1)
        for dx, wx in ((0, 1 - along[..., 0]), (1, along[..., 0])):
            column = (x0 + dx + np.where(beyond, width // 2, 0)) % width
            value += (wx * wy)[..., None] * panorama[row, column]
    return value
