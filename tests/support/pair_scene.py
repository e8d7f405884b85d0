"""Two cameras that look at random points, exactly known, with noise and false matches."""

import numpy as np
from scipy.spatial.transform import Rotation

from sfm.types import CameraPrior, ImagePair, ImageRecord, Matches

WIDTH, HEIGHT, FOCAL = 1024, 768, 900.0
K = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
POSE = np.concatenate([Rotation.from_rotvec([0.05, -0.3, 0.02]).as_matrix(), [[1.0], [0.1], [0.2]]], 1)
PAIR = ImagePair("a", "b")


def record(name, prior=True):
    camera = CameraPrior("SIMPLE_RADIAL", np.array([FOCAL, WIDTH / 2, HEIGHT / 2, 0.0]), prior, "one")
    return ImageRecord(name, WIDTH, HEIGHT, camera, "")


def two_views(num=1500, share_false=0.4, seed=0, pose=POSE, flat=False):
    """Matches with 0.5 px noise, the false ones last; their number of true rows."""
    rng = np.random.default_rng(seed)
    xyz = rng.uniform([-2, -1.5, 4], [2, 1.5, 4.0 if flat else 8], (num, 3))
    p0, p1 = xyz @ K.T, (xyz @ pose[:, :3].T + pose[:, 3]) @ K.T
    p0, p1 = p0[:, :2] / p0[:, 2:], p1[:, :2] / p1[:, 2:]
    p0, p1 = p0 + rng.normal(0, 0.5, p0.shape), p1 + rng.normal(0, 0.5, p1.shape)
    num_true = round(num * (1 - share_false))
    p1[num_true:] = rng.uniform(0, [WIDTH, HEIGHT], (num - num_true, 2))
    confidence = rng.uniform(0.2, 1, num)
    confidence[num_true:] *= 0.7
    ids = np.arange(num)
    return Matches(p0, p1, confidence, ids, ids), num_true
