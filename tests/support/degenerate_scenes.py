"""Sets of images that determine no model, or no good one, as a detector-free matcher sees them, with little noise."""

from itertools import combinations

import numpy as np
from scipy.spatial.transform import Rotation

from sfm.mapping.inputs import MappingInput
from sfm.options import TrackOptions, VerificationOptions
from sfm.tracks.building import build_tracks
from sfm.types import CameraPrior, ImagePair, ImageRecord
from sfm.verification.stage import verify
from tests.support.mapping_scene import DENSE, FOCAL, GRID, HEIGHT, WIDTH, project, semi_dense_pair


def pose(rotation_deg, centre):
    """cam_from_world (3, 4) of a camera rotated about y and x, degrees."""
    rotation = Rotation.from_euler("yx", rotation_deg, degrees=True).as_matrix()
    return np.column_stack([rotation, -rotation @ centre])


def room(seed=0, num=900):
    """(num, 3) points all around, 4 to 8 units away, ahead of z = 0."""
    rng = np.random.default_rng(seed)
    return rng.uniform([-6, -3, 4], [6, 3, 8], (num, 3))


def input_of(scenes, *, focal_prior, guess=1.2 * WIDTH, share_false=0.05, look=None):
    """What mapping reads of scenes, each a list of poses and (N, 3) points; images of different scenes match nothing.

    focal_prior: the images tell their focal length, FOCAL; else it is a guess. look: (N,) what each point looks like;
    points that look alike match each other, and no image shows two of them.
    """
    rng = np.random.default_rng(1)
    focal = FOCAL if focal_prior else guess
    prior = CameraPrior("SIMPLE_RADIAL", np.array([focal, WIDTH / 2, HEIGHT / 2, 0.0]), focal_prior, "one")
    names, items = [], []
    for number, (poses, xyz) in enumerate(scenes):
        own = [f"{number}-{i:02d}.jpg" for i in range(len(poses))]
        points = [
            seen_at(p, xy, xyz, np.arange(len(xyz)) if look is None else look)
            for p, xy in zip(poses, project(poses, xyz), strict=True)
        ]
        for i, j in combinations(range(len(poses)), 2):
            seen = (points[i] > 0).all(1) & (points[j] > 0).all(1)
            if seen.sum() >= 20:
                pair = ImagePair(own[i], own[j])
                items.append((pair, semi_dense_pair(points[i][seen], points[j][seen], rng, share_false)))
        names += own
    records = {name: ImageRecord(name, WIDTH, HEIGHT, prior, "") for name in names}
    grids = dict.fromkeys(names, GRID)
    geometries = verify(items, records, grids, VerificationOptions(max_error=2.0), traits=DENSE)
    matches = dict(items)
    pairs = [(g, matches[g.pair]) for g in geometries if len(g.inliers)]
    result = build_tracks(names, pairs, grids, TrackOptions())
    verified = tuple(g for g, _ in pairs)
    return MappingInput(tuple(records.values()), result.keypoints, verified, result.matches, grids, traits=DENSE)


def seen_at(pose, xy, xyz, look):
    """(max(look) + 1, 2) px where an image shows what looks so, -1 where it does not."""
    seen = (xyz @ pose[2, :3] + pose[2, 3] > 0.1) & (xy > 8).all(1) & (xy < [WIDTH - 8, HEIGHT - 8]).all(1)
    result = np.full((look.max() + 1, 2), -1.0)
    result[look[seen]] = xy[seen]
    return result


def arc(num=6, step=10.0):
    """Poses on an arc of radius 6 around (0, 0, 6), looking at it."""
    return [
        np.column_stack(
            [
                r := Rotation.from_euler("yx", [step * i, 3.0 * (i % 2)], degrees=True).as_matrix(),
                [0, 0, 6.0] - r @ [0, 0, 6.0],
            ]
        )
        for i in range(num)
    ]


def rotating(num=7, step=6.0):
    """Poses of a camera that only turns."""
    return [pose([step * (i - num // 2), 4.0 * (i % 2)], np.zeros(3)) for i in range(num)]


def nadir(num=8):
    """Poses of a camera that flies along a plane, and looks straight at it."""
    return [pose([0, 0], np.array([0.8 * (i % 4) - 1.2, 0.9 * (i // 4) - 0.4, 0.0])) for i in range(num)]


def plane(num=1500, seed=2):
    """(num, 3) points of the plane z = 5."""
    return np.column_stack([np.random.default_rng(seed).uniform([-5, -4], [5, 4], (num, 2)), np.full(num, 5.0)])


def street(num=9, seed=3, between=250):
    """Images along a street that ends with the facade that it begins with: poses, points, and what they look like."""
    rng = np.random.default_rng(seed)
    facade = rng.uniform([-2, -2, 5], [2, 2, 6.5], (300, 3))
    middle = rng.uniform([-4, -2, 5], [4, 2, 6.5], (between, 3))
    aside = np.array([6.0, 0, 0])
    xyz = np.concatenate([facade - aside, middle, facade + aside])
    look = np.concatenate([np.arange(300), 300 + np.arange(between), np.arange(300)])
    poses = [
        pose([4.0 * (i % 3 - 1), 0], np.array([x, 0.3 * (i % 2), 0])) for i, x in enumerate(np.linspace(-7, 7, num))
    ]
    return poses, xyz, look
