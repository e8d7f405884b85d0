"""An exact scene as detector-free matches see it, through verification and tracks: what mapping reads."""

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from sfm.mapping.inputs import MappingInput
from sfm.options import MappingOptions, TrackOptions, VerificationOptions
from sfm.tracks.building import build_tracks
from sfm.types import CameraPrior, Grid, ImagePair, ImageRecord, MatcherTraits, Matches
from sfm.verification.stage import verify

WIDTH, HEIGHT, FOCAL, NUM = 640, 480, 600.0, 6
K = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
NAMES = [f"dir/{i}.jpg" for i in range(NUM)]
GRID = Grid(8.0, 8.0, 80)
DENSE = MatcherTraits(dense=True)
OPTIONS = MappingOptions(threads=1)


def camera_poses():
    """cam_from_world (3, 4) of cameras on an arc around the origin, 12 degrees apart."""
    poses = []
    for i in range(NUM):
        rotation = Rotation.from_euler("yx", [12.0 * i, 3.0 * (i % 2)], degrees=True).as_matrix()
        poses.append(np.concatenate([rotation, [[0.0], [0.0], [6.0]]], 1))
    return poses


def project(poses, xyz):
    return [(p := (xyz @ pose[:, :3].T + pose[:, 3]) @ K.T)[:, :2] / p[:, 2:] for pose in poses]


def semi_dense_pair(p0, p1, rng, share_false=0.1):
    """Rows as a detector-free matcher gives them: each end once on its cell's centre, the other moved with it."""
    cells = [(np.floor(p[:, 1] / 8) * 80 + np.floor(p[:, 0] / 8)).astype(np.int64) for p in (p0, p1)]
    centres = [np.stack([c % 80 + 0.5, c // 80 + 0.5], 1) * 8 for c in cells]
    noise = rng.normal(0, 0.2, (2, *p0.shape))
    points0 = np.concatenate([centres[0], p0 + centres[1] - p1 + noise[0]])
    points1 = np.concatenate([p1 + centres[0] - p0 + noise[1], centres[1]])
    wrong = rng.uniform(size=len(points0)) < share_false
    points1[wrong] = rng.uniform(0, [WIDTH, HEIGHT], (wrong.sum(), 2))
    limit = [WIDTH - 0.01, HEIGHT - 0.01]
    confidence = np.where(wrong, 0.3, 0.8) * rng.uniform(0.8, 1, len(wrong))
    ends = np.tile(cells[0], 2), np.tile(cells[1], 2)
    return Matches(np.clip(points0, 0, limit), np.clip(points1, 0, limit), confidence, *ends)


def record(name):
    prior = CameraPrior("SIMPLE_RADIAL", np.array([FOCAL, WIDTH / 2, HEIGHT / 2, 0.0]), True, "one")
    return ImageRecord(name, WIDTH, HEIGHT, prior, "")


def make_input(extra=()):
    rng = np.random.default_rng(1)
    xyz = rng.uniform([-1.5, -1.2, -1.5], [1.5, 1.2, 1.5], (700, 3))
    points = project(camera_poses(), xyz)
    items = []
    for i in range(NUM):
        for j in range(i + 1, NUM):
            inside = np.all(
                [(p > 8).all(1) & (p < [WIDTH - 8, HEIGHT - 8]).all(1) for p in (points[i], points[j])], axis=0
            )
            items.append((ImagePair(NAMES[i], NAMES[j]), semi_dense_pair(points[i][inside], points[j][inside], rng)))
    names = [*NAMES, *extra]
    records, grids = {n: record(n) for n in names}, dict.fromkeys(names, GRID)
    geometries = verify(items, records, grids, VerificationOptions(max_error=2.0), traits=DENSE)
    matches = dict(items)
    pairs = [(g, matches[g.pair]) for g in geometries if len(g.inliers)]
    result = build_tracks(names, pairs, grids, TrackOptions())
    verified = tuple(g for g, _ in pairs)
    return MappingInput(tuple(records.values()), result.keypoints, verified, result.matches, grids, traits=DENSE)


def poses_of(model):
    return {model.image(i).name: model.image(i).cam_from_world().matrix() for i in model.reg_image_ids()}


def with_cameras(data, params, has_focal_prior):
    prior = CameraPrior("SIMPLE_RADIAL", np.array(params), has_focal_prior, "one")
    return replace(data, images=tuple(replace(r, camera=prior) for r in data.images))
