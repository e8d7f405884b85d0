"""Image sets as a detector-free matcher sees them in which something stands still: exact, with little noise."""

from itertools import combinations

import numpy as np
from scipy.spatial.transform import Rotation

from sfm.types import CameraPrior, Grid, ImagePair, ImageRecord
from tests.support.mapping_scene import FOCAL, HEIGHT, WIDTH, semi_dense_pair

K = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
GRID = Grid(8.0, 8.0, 80)


def pose(rotation_deg, centre):
    """cam_from_world (3, 4) of a camera rotated about y, x and z, degrees."""
    rotation = Rotation.from_euler("yxz", rotation_deg, degrees=True).as_matrix()
    return np.column_stack([rotation, -rotation @ centre])


def turntable(step_deg, num, tilt_deg=25.0):
    """Poses of the cameras that an object 6 units away sees when it is turned before a camera looking down at it."""
    tilt = Rotation.from_euler("x", -tilt_deg, degrees=True)
    turns = [tilt * Rotation.from_euler("y", step_deg * i, degrees=True) for i in range(num)]
    return [np.column_stack([turn.as_matrix(), [0, 0, 6.0]]) for turn in turns]


def ball(num=900, seed=0, radius=1.2):
    """(num, 3) points of a lumpy ball around the origin."""
    xyz = np.random.default_rng(seed).normal(size=(num, 3))
    xyz /= np.linalg.norm(xyz, axis=1, keepdims=True)
    return xyz * radius * np.random.default_rng(seed + 1).uniform(0.8, 1.0, (num, 1))


def seen(pose, xyz, *, facing=False):
    """(N, 2) px and whether a point is in the image; facing: of the origin's near side only."""
    camera = xyz @ pose[:, :3].T + pose[:, 3]
    xy = camera @ K.T
    xy = xy[:, :2] / xy[:, 2:]
    inside = (camera[:, 2] > 0.1) & (xy > 8).all(1) & (xy < [WIDTH - 8, HEIGHT - 8]).all(1)
    return xy, inside & (camera[:, 2] < pose[2, 3]) if facing else inside


def image_set(layers, num, *, share_false=0.05, seed=3):
    """Pairs with matches, and records and grids of their images. layers: for each image, (xy, seen) of its parts, each
    part's points in the same order in every image."""
    rng = np.random.default_rng(seed)
    names = [f"{i:02d}.jpg" for i in range(num)]
    items = []
    for i, j in combinations(range(num), 2):
        p0, p1 = [], []
        for (xy0, in0), (xy1, in1) in zip(layers[i], layers[j], strict=True):
            both = in0 & in1
            p0.append(xy0[both])
            p1.append(xy1[both])
        items.append((ImagePair(names[i], names[j]), semi_dense_pair(np.vstack(p0), np.vstack(p1), rng, share_false)))
    prior = CameraPrior("SIMPLE_RADIAL", np.array([FOCAL, WIDTH / 2, HEIGHT / 2, 0.0]), True, "one")
    records = {name: ImageRecord(name, WIDTH, HEIGHT, prior, "") for name in names}
    return items, records, dict.fromkeys(names, GRID)
