"""Cameras that are mounted together, and a cloud of points that they go through: exact matches through verification and
tracks, which is what mapping reads."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.spatial.transform import Rotation

from sfm.mapping.inputs import MappingInput
from sfm.options import TrackOptions, VerificationOptions
from sfm.tracks.building import build_tracks
from sfm.types import CameraPrior, Grid, ImagePair, ImageRecord, MatcherTraits
from sfm.verification.stage import verify
from tests.support.mapping_scene import DENSE, GRID, HEIGHT, WIDTH, semi_dense_pair

FOCAL = 420.0
FRAMES = 5
IDENTITY = np.column_stack([np.eye(3), np.zeros(3)])


def moved(yaw_deg, centre):
    """cam_from_rig (3, 4) of a camera that looks to the right by some degrees, from a place in the rig."""
    rotation = Rotation.from_euler("y", -yaw_deg, degrees=True).as_matrix()
    return np.column_stack([rotation, -rotation @ np.asarray(centre, float)])


CAM_FROM_RIG = (IDENTITY, moved(25.0, (0.3, 0.05, 0.0)))


def rig_poses(num=FRAMES):
    """rig_from_world (3, 4) of frames along a line, turning a little: the cloud is in front of all of them."""
    poses = []
    for i in range(num):
        rotation = Rotation.from_euler("yx", [4.0 * (i - num / 2), 2.0 * (i % 2)], degrees=True).as_matrix()
        centre = np.array([0.7 * (i - (num - 1) / 2), 0.1 * (i % 3), 0.15 * i])
        poses.append(np.column_stack([rotation, -rotation @ centre]))
    return poses


def compose(a, b):
    """a of b, both (3, 4)."""
    return np.column_stack([a[:, :3] @ b[:, :3], a[:, :3] @ b[:, 3] + a[:, 3]])


def true_poses(cam_from_rig=CAM_FROM_RIG, num=FRAMES, loose=0.0):
    """cam_from_world by image name: cam0/0.png, cam1/0.png, ... loose: the cameras but the first turn, from frame to
    frame, by so many degrees."""
    found = {}
    for i, rig_from_world in enumerate(rig_poses(num)):
        for k, mounted in enumerate(cam_from_rig):
            wobble = moved(loose * (i - num / 2) if k else 0.0, (0.2 * loose * (i % 3) * bool(k), 0, 0))
            found[f"cam{k}/{i}.png"] = compose(wobble, compose(mounted, rig_from_world))
    return found


def project(pose, xyz, focal=FOCAL, k=0.0):
    """(N, 2) px, and (N,) depths."""
    local = xyz @ pose[:, :3].T + pose[:, 3]
    plane = local[:, :2] / local[:, 2:]
    plane = plane * (1 + k * (plane**2).sum(1, keepdims=True))
    return plane * focal + [WIDTH / 2, HEIGHT / 2], local[:, 2]


def make_input(poses, *, blind=(), focals=None, priors=True, num_points=1500, groups=None):
    """What mapping reads. blind: pairs of names, of which no match is found with any but these: {name: names}.

    focals: true focal length by prefix. priors: they are known; else a guess. groups: camera group by prefix.
    """
    rng = np.random.default_rng(1)
    xyz = rng.uniform([-4.5, -2.0, 4.0], [5.5, 2.0, 9.0], (num_points, 3))
    names = sorted(poses)
    focal_of = {name: (focals or {}).get(name.split("/")[0], FOCAL) for name in names}
    seen = {name: project(poses[name], xyz, focal_of[name]) for name in names}
    items = []
    for a, b in combinations(names, 2):
        if any(name in dict(blind) and other not in dict(blind)[name] for name, other in ((a, b), (b, a))):
            continue
        inside = np.all(
            [(xy > 8).all(1) & (xy < [WIDTH - 8, HEIGHT - 8]).all(1) & (depth > 0) for xy, depth in (seen[a], seen[b])],
            axis=0,
        )
        if inside.sum() >= 20:
            items.append((ImagePair(a, b), semi_dense_pair(seen[a][0][inside], seen[b][0][inside], rng)))
    records = {name: _record(name, focal_of[name] if priors else None, groups or {}) for name in names}
    grids: dict[str, Grid | None] = dict.fromkeys(names, GRID)
    geometries = verify(items, records, grids, VerificationOptions(max_error=2.0), traits=DENSE)
    pairs = [(g, dict(items)[g.pair]) for g in geometries if len(g.inliers)]
    result = build_tracks(names, pairs, grids, TrackOptions())
    verified = tuple(g for g, _ in pairs)
    traits: MatcherTraits = DENSE
    return MappingInput(tuple(records.values()), result.keypoints, verified, result.matches, grids, traits=traits)


def _record(name, focal, groups):
    prefix = name.split("/")[0]
    params = np.array([focal or 1.2 * WIDTH, WIDTH / 2, HEIGHT / 2, 0.0])
    group = groups.get(prefix, f"unknown device in folder {prefix}, {WIDTH}x{HEIGHT}")
    return ImageRecord(name, WIDTH, HEIGHT, CameraPrior("SIMPLE_RADIAL", params, focal is not None, group), "")
