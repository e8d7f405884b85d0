"""What mapping reads of a walk along a ring-shaped corridor, of any number of images, without pictures or a matcher.

A camera walks along a closed corridor with uneven walls, looks ahead and to the side, and sees points of both walls.
Matches are those of images that follow each other and of images whose place is the same when the walk closes, with
noise, false matches in every pair, and pairs of images that have nothing in common.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm.mapping.inputs import MappingInput
from sfm.types import (
    CameraPrior,
    Grid,
    ImagePair,
    ImageRecord,
    KeypointMatches,
    Keypoints,
    MatcherTraits,
    TwoViewGeometry,
)

WIDTH, HEIGHT, FOCAL = 640, 480, 525.0
K = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
STEP, NEAR, FAR = 0.12, 0.4, 5.0  # metres: between images, and how far is seen
HALF_WIDTH, HALF_HEIGHT, UNEVEN = 1.8, 1.3, 0.5  # metres, of the corridor and its walls
GAPS = (1, 2, 3, 4, 6, 8, 11)  # between the images of a pair


@dataclass(frozen=True, slots=True)
class Walk:
    """The input of mapping, and the true poses (I, 3, 4) cam_from_world in metres."""

    data: MappingInput
    poses: np.ndarray


def walk(
    num_images: int,
    *,
    per_image: int = 600,
    seen: float = 0.5,
    noise_px: float = 0.5,
    false_matches: float = 0.02,
    false_pairs: float = 0.02,
    has_focal_prior: bool = True,
    seed: int = 0,
) -> Walk:
    """per_image: keypoints an image, about. seen: share of the images in view of a point that have a keypoint of it.
    false_matches: share of a pair's. false_pairs: for each image, how many pairs with nothing in common."""
    rng = np.random.default_rng(seed)
    poses = _poses(num_images, rng)
    xy, owner = _keypoints(poses, num_images, per_image, seen, noise_px, rng)
    names = [f"{i:05d}.jpg" for i in range(num_images)]
    rows = [{p: k for k, p in enumerate(own.tolist())} for own in owner]
    geometries, matches = [], []
    for i in range(num_images):
        for j in sorted((i + gap) % num_images for gap in GAPS if 2 * gap < num_images):
            common = np.intersect1d(owner[i], owner[j])
            if len(common) >= 30:
                a, b = min(i, j), max(i, j)
                indices = np.array([[rows[a][p], rows[b][p]] for p in common.tolist()])
                wrong = rng.uniform(size=len(indices)) < false_matches
                indices[wrong, 1] = rng.permutation(indices[wrong, 1])
                _add(geometries, matches, (names[a], names[b]), indices, _fundamental(poses[a], poses[b]))
    known = {m.pair for m in matches}
    for _ in range(round(false_pairs * num_images)):
        a, b = sorted(rng.choice(num_images, 2, replace=False).tolist())
        if ImagePair(names[a], names[b]) not in known and min(b - a, num_images - b + a) > 2 * max(GAPS):
            num = min(60, len(xy[a]), len(xy[b]))
            indices = np.stack([rng.permutation(len(xy[k]))[:num] for k in (a, b)], axis=1)
            known.add(ImagePair(names[a], names[b]))
            _add(geometries, matches, (names[a], names[b]), indices, rng.normal(size=(3, 3)))
    focal = FOCAL if has_focal_prior else 1.2 * WIDTH
    prior = CameraPrior("SIMPLE_RADIAL", np.array([focal, WIDTH / 2, HEIGHT / 2, 0.0]), has_focal_prior, "one")
    records = tuple(ImageRecord(name, WIDTH, HEIGHT, prior, name) for name in names)
    keypoints = tuple(Keypoints(own.astype(np.float32), np.ones(len(own), np.float32)) for own in xy)
    grids = dict.fromkeys(names, Grid(8.0, 8.0, 80))
    data = MappingInput(records, keypoints, tuple(geometries), tuple(matches), grids, traits=MatcherTraits(dense=True))
    return Walk(data, poses)


def _add(geometries, matches, names, indices, F):
    pair = ImagePair(*names)
    geometries.append(TwoViewGeometry(pair, np.arange(len(indices), dtype=np.uint32), "uncalibrated", None, F))
    matches.append(KeypointMatches(pair, indices.astype(np.uint32), np.ones(len(indices), np.float32)))


def _ring(angle, radius):
    """Points (N, 3) on a horizontal circle, y down."""
    return np.stack([radius * np.cos(angle), np.zeros_like(angle), radius * np.sin(angle)], axis=1)


def _radius(num_images: int) -> float:
    return max(num_images * STEP / (2 * np.pi), 2 * HALF_WIDTH)


def _poses(num_images: int, rng) -> np.ndarray:
    radius = _radius(num_images)
    angle = 2 * np.pi * np.arange(num_images) / num_images
    phase = np.linspace(0, 2 * np.pi * max(1, num_images // 60), num_images, endpoint=False)
    centre = _ring(angle, radius + 0.5 * np.sin(phase)) + [0, 0.15, 0] * np.sin(3 * phase)[:, None]
    centre = centre + rng.normal(0, 0.02, centre.shape)
    yaw = angle + np.pi / 2 - np.radians(45.0) + 0.3 * np.sin(2 * phase)  # ahead, and towards the outer wall
    forward = np.stack([np.cos(yaw), 0.1 * np.sin(phase), np.sin(yaw)], axis=1)
    forward /= np.linalg.norm(forward, axis=1)[:, None]
    down = np.tile([0.0, 1.0, 0.0], (num_images, 1)) + rng.normal(0, 0.02, (num_images, 3))
    right = np.cross(down, forward)
    right /= np.linalg.norm(right, axis=1)[:, None]
    R = np.stack([right, np.cross(forward, right), forward], axis=1)
    return np.concatenate([R, -(R @ centre[:, :, None])], axis=2)


def _keypoints(poses, num_images, per_image, seen, noise_px, rng):
    """Of each image positions (N, 2) px and the numbers of their points (N,)."""
    radius, density = _radius(num_images), per_image / seen
    num = int(density * 2 * np.pi * radius / 1.05)  # of which 1.05 m are in view, about
    angle = np.sort(rng.uniform(0, 2 * np.pi, num))
    side = np.where(rng.uniform(size=num) < 0.65, 1, -1)  # more of the outer wall
    off = HALF_WIDTH - UNEVEN * np.abs(np.sin(7 * angle * radius) * np.sin(angle * radius))
    xyz = _ring(angle, radius + side * off)
    xyz[:, 1] = rng.uniform(-HALF_HEIGHT, HALF_HEIGHT, num)
    xy, owner = [], []
    for i, pose in enumerate(poses):
        middle = 2 * np.pi * i / num_images
        near = np.flatnonzero(np.abs(np.angle(np.exp(1j * (angle - middle)))) * radius <= FAR)
        camera = xyz[near] @ pose[:, :3].T + pose[:, 3]
        ahead = (camera[:, 2] > NEAR) & (np.linalg.norm(camera, axis=1) < FAR)
        near, camera = near[ahead], camera[ahead]
        pixel = camera[:, :2] / camera[:, 2:] * FOCAL + [WIDTH / 2, HEIGHT / 2]
        inside = ((pixel > 4) & (pixel < [WIDTH - 4, HEIGHT - 4])).all(axis=1) & (rng.uniform(size=len(near)) < seen)
        pixel = pixel[inside] + rng.normal(0, noise_px, (int(inside.sum()), 2))
        xy.append(pixel)
        owner.append(near[inside])
    return xy, owner


def _fundamental(pose0, pose1):
    R = pose1[:, :3] @ pose0[:, :3].T
    t = pose1[:, 3] - R @ pose0[:, 3]
    cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    F = np.linalg.inv(K).T @ cross @ R @ np.linalg.inv(K)
    return F / np.linalg.norm(F)
