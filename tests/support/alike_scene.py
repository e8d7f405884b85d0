"""What mapping reads of two places that look alike, without pictures or a matcher: equal fronts in unlike surroundings.

Every pair of images matches what it shows of the front, as a matcher would, whichever place the images are of; pairs of
one place match its surroundings as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

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
NOISE_PX = 0.3
OBJECT = 0.7  # m, radius of what stands about


@dataclass(frozen=True, slots=True)
class AlikePlaces:
    """data: the input of mapping. place: of each image name, 0 or 1. poses: (3, 4) by name, each place in a frame of
    its own."""

    data: MappingInput
    place: dict[str, int]
    poses: dict[str, np.ndarray]

    @property
    def across(self) -> set[ImagePair]:
        """The pairs of images of different places."""
        return {m.pair for m in self.data.matches if self.place[m.pair.name0] != self.place[m.pair.name1]}


def alike_places(
    num_each: int = 6, *, num_places: int = 2, objects: int = 7, spread_deg: float = 24.0, seed: int = 0
) -> AlikePlaces:
    """objects: of each place, before and beside its front, each with fifty points. spread_deg: of the cameras, either
    way from the front's middle. One place is an ordinary scene."""
    rng = np.random.default_rng(seed)
    front = np.column_stack([rng.uniform(-3, 3, 900), rng.uniform(-2, 2, 900), rng.uniform(-0.15, 0.15, 900)])
    names, poses, place, xyz, first = [], {}, {}, [], [0]
    for p in range(num_places):
        centres = np.column_stack(
            [np.linspace(-4.2, 4.2, objects), rng.uniform(-0.5, 1.5, objects), rng.uniform(-3.5, 4.0, objects)]
        )
        centres[:, 2] = np.where(np.abs(centres[:, 0]) < 3, -np.abs(centres[:, 2]) - 0.8, centres[:, 2])
        around = centres[:, None] + OBJECT / 2 * rng.normal(size=(objects, 50, 3)).clip(-1, 1)
        xyz.append((np.concatenate([front, around.reshape(-1, 3)]), centres))
        first.append(first[-1] + 50 * objects)
        for k, angle in enumerate(np.radians(np.linspace(-spread_deg, spread_deg, num_each) + 3 * p)):
            name = f"{'ab'[p]}{k:02d}.jpg"
            poses[name], place[name] = _pose(angle, 9.0 + rng.uniform(-0.4, 0.4), rng), p
            names.append(name)
    views = {name: _view(poses[name], *xyz[place[name]], first[place[name]], len(front), rng) for name in names}
    geometries, matches = [], []
    for a, b in combinations(names, 2):
        common = np.intersect1d(views[a][1], views[b][1])
        if len(common) < 30:
            continue
        rows = [np.searchsorted(views[name][1], common) for name in (a, b)]
        pair, num = ImagePair(a, b), len(common)
        F = _fundamental(poses[a], poses[b])
        geometries.append(TwoViewGeometry(pair, np.arange(num, dtype=np.uint32), "uncalibrated", None, F))
        matches.append(KeypointMatches(pair, np.stack(rows, axis=1).astype(np.uint32), np.ones(num, np.float32)))
    prior = CameraPrior("SIMPLE_RADIAL", np.array([FOCAL, WIDTH / 2, HEIGHT / 2, 0.0]), True, "one")
    records = tuple(ImageRecord(name, WIDTH, HEIGHT, prior, name) for name in names)
    keypoints = tuple(Keypoints(views[n][0].astype(np.float32), np.ones(len(views[n][0]), np.float32)) for n in names)
    grids = dict.fromkeys(names, Grid(8.0, 8.0, 80))
    data = MappingInput(records, keypoints, tuple(geometries), tuple(matches), grids, traits=MatcherTraits(dense=True))
    return AlikePlaces(data, place, poses)


def _pose(angle, radius, rng):
    """(3, 4) of a camera on an arc before the front, y down, that looks at its middle."""
    centre = np.array([radius * np.sin(angle), rng.uniform(-0.4, 0.4), -radius * np.cos(angle)])
    forward = -centre / np.linalg.norm(centre)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    R = np.stack([right, np.cross(forward, right), forward])
    return np.column_stack([R, -R @ centre])


def _view(pose, xyz, centres, first, num_front, rng):
    """Positions (N, 2) px of what an image sees, and the numbers (N,) of these points, ascending; those of the front
    are the same at every place. What is behind an object is hidden."""
    local = xyz @ pose[:, :3].T + pose[:, 3]
    xy = FOCAL * local[:, :2] / local[:, 2:] + [WIDTH / 2, HEIGHT / 2]
    seen = (local[:, 2] > 0.5) & (xy >= 0).all(axis=1) & (xy < (WIDTH, HEIGHT)).all(axis=1)
    for middle in centres @ pose[:, :3].T + pose[:, 3]:
        off = np.linalg.norm(local[:, :2] / local[:, 2:] - middle[:2] / middle[2], axis=1)
        seen &= ~((local[:, 2] > middle[2] + OBJECT) & (off < 0.8 * OBJECT / middle[2]))
    numbers = np.arange(len(xyz))
    numbers[num_front:] += first
    return xy[seen] + NOISE_PX * rng.normal(size=(seen.sum(), 2)), numbers[seen]


def _fundamental(pose0, pose1):
    R = pose1[:, :3] @ pose0[:, :3].T
    t = pose1[:, 3] - R @ pose0[:, 3]
    cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    return np.linalg.inv(K).T @ cross @ R @ np.linalg.inv(K)
