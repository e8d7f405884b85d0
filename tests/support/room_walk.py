"""A model of any size without images: one SIMPLE_RADIAL camera that walks along the walls of a room.

Points are on the walls; each is seen by some of the images around one of its own, as matches of neighbours make tracks.
"""

from __future__ import annotations

import numpy as np
import pycolmap

ROOM = np.array([10.0, 8.0, 3.0])  # m
SIZE, FOCAL, DISTORTION = (640, 480), 520.0, -0.05  # px
PARAMS = np.array([FOCAL, SIZE[0] / 2, SIZE[1] / 2, DISTORTION])
LOOK_BACK_DEG = 35.0  # how far the view swings to either side


def walk_poses(num: int) -> np.ndarray:
    """cam_from_world (N, 3, 4) along an ellipse in the room, that look outwards, to either side in turn."""
    around = np.linspace(0, 2 * np.pi, num, endpoint=False)
    bob = 0.3 * np.sin(7 * around)
    centres = np.stack([2.0 * np.cos(around), 1.5 * np.sin(around), bob], 1)
    heading = around + np.radians(LOOK_BACK_DEG) * np.sin(11 * around)
    forward = np.stack([np.cos(heading), np.sin(heading), 0.15 * np.sin(5 * around)], 1)
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    rotations = np.stack([right, np.cross(forward, right), forward], 1)
    return np.concatenate([rotations, -np.einsum("nij,nj->ni", rotations, centres)[:, :, None]], 2)


def wall_points(poses: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(T, 3) m on the room's sides, one for each of the poses (T, 3, 4), at some pixel of it; with a little relief."""
    plane = (rng.uniform((8, 8), np.array(SIZE) - 8, (len(poses), 2)) - np.array(SIZE) / 2) / FOCAL
    rays = np.einsum("tji,tj->ti", poses[:, :, :3], np.column_stack([plane, np.ones(len(plane))]))
    centres = -np.einsum("tji,tj->ti", poses[:, :, :3], poses[:, :, 3])
    depth = ((np.sign(rays) * ROOM / 2 - centres) / rays).min(axis=1)
    return centres + depth[:, None] * rays * rng.normal(1, 0.01, (len(rays), 1))


def project(poses: np.ndarray, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (T, 2) px of points in one image (3, 4), and which of them it can see."""
    local = xyz @ poses[:, :3].T + poses[:, 3]
    with np.errstate(all="ignore"):
        plane = local[:, :2] / local[:, 2:]
        xy = FOCAL * plane * (1 + DISTORTION * (plane**2).sum(1, keepdims=True)) + np.array(SIZE) / 2
        inside = (local[:, 2] > 0.5) & ((xy > 4) & (xy < np.array(SIZE) - 4)).all(axis=1)
    return xy, inside


def room_walk(
    num_images: int,
    per_image: int = 2000,
    *,
    track_length: float = 8.0,
    loops: float = 0.2,
    noise: float = 0.5,
    off: float = 0.0,
    seed: int = 0,
) -> pycolmap.Reconstruction:
    """A model of about num_images x per_image observations, of tracks of about this length.

    loops: share of the points that any image may see. noise: px of the observations. off: m that points are off, and
    as many radians and metres of the poses.
    """
    rng = np.random.default_rng(seed)
    poses, num_points = walk_poses(num_images), int(num_images * per_image / track_length)
    middle = np.sort(rng.integers(0, num_images, num_points))
    xyz = wall_points(poses[middle], rng)
    reach = np.where(rng.random(num_points) < loops, num_images, track_length)
    parts = []
    for i, pose in enumerate(poses):
        near = np.abs((middle - i + num_images // 2) % num_images - num_images // 2) <= reach
        rows = np.flatnonzero(near)
        xy, inside = project(pose, xyz[rows])
        kept = np.flatnonzero(inside)
        kept = np.sort(rng.permutation(kept)[:per_image])
        parts.append((rows[kept], xy[kept]))
    return _model(poses, xyz, parts, noise, off, rng)


def _model(poses, xyz, parts, noise, off, rng):
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(camera_id=1, model="SIMPLE_RADIAL", width=SIZE[0], height=SIZE[1], params=PARAMS)
    model.add_camera_with_trivial_rig(camera)
    tracks: list[list[tuple[int, int]]] = [[] for _ in xyz]
    for i, (rows, xy) in enumerate(parts):
        xy = xy + rng.normal(0, noise, xy.shape)
        image = pycolmap.Image(f"{i:05d}.jpg", xy, 1, i + 1)
        turn = pycolmap.Rotation3d(rng.normal(0, off, 3))
        pose = pycolmap.Rigid3d(turn * pycolmap.Rotation3d(poses[i, :, :3]), poses[i, :, 3] + rng.normal(0, off, 3))
        model.add_image_with_trivial_frame(image, pose)
        for j, point in enumerate(rows):
            tracks[point].append((i + 1, j))
    for point, track in enumerate(tracks):
        if len(track) >= 2:
            elements = [pycolmap.TrackElement(*element) for element in track]
            model.add_point3D(xyz[point] + rng.normal(0, off, 3), pycolmap.Track(elements))
    return model
