"""Cuts of real images: cropped, scaled and rotated at random to the size of the network's images."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sfm.datasets.training_pairs.textures import Texture, grid_xy, to_u8

Float64 = NDArray[np.float64]


class _Limits(Protocol):
    @property
    def max_zoom(self) -> float: ...
    @property
    def in_plane_deg(self) -> float: ...


def random_cut(
    rng: np.random.Generator,
    image_size: tuple[int, int],
    points: Float64,
    size: tuple[int, int],
    limits: _Limits,
    tameness: float = 0.0,
) -> Float64:
    """(2, 3) affine map, net px from image px, about one of the points (N, 2); tameness 1: the whole image, upright.

    image_size: (width, height). size: (H, W) of the net's image.
    """
    net = np.array([size[1], size[0]], np.float64)
    full_size = np.array(image_size, np.float64)
    covering, whole = (net / full_size).max(), (net / full_size).min()
    scale = whole if tameness == 1 else covering * limits.max_zoom ** ((1 - tameness) * rng.random())
    spread = 5 * limits.in_plane_deg
    rotation_deg = rng.uniform(-spread, spread) if rng.random() < 0.1 else rng.normal(0, limits.in_plane_deg)
    rotation = np.deg2rad((1 - tameness) * rotation_deg)
    linear = scale * np.array([[np.cos(rotation), -np.sin(rotation)], [np.sin(rotation), np.cos(rotation)]])
    room = np.minimum(net / (2 * scale), full_size / 2)
    middle = np.clip(points[rng.integers(len(points))], room, full_size - room)
    return np.column_stack([linear, net / 2 - linear @ middle])


def cut_image(texture: Texture, cut: Float64, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The image through a cut (2, 3), black where the image ends: (H, W) u8."""
    inverse = np.linalg.inv(cut[:, :2])
    xy = (grid_xy(*size) - cut[:, 2]) @ inverse.T
    ok = ((xy > 0) & (xy < texture.size)).all(axis=1)
    grey = np.zeros(len(xy), np.float32)
    footprint = float(np.sqrt(np.abs(np.linalg.det(inverse))))
    grey[ok] = texture.sample(xy[ok].astype(np.float32), footprint)
    return np.asarray(to_u8(grey).reshape(size))
