"""A textured roof photographed exactly: each pixel's ray is cut with two planes, so what is seen where is known."""

from functools import cache
from itertools import combinations

import numpy as np
import pycolmap
from scipy import ndimage
from scipy.spatial.transform import Rotation

from sfm.geometry.poses import relative_pose
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

WIDTH, HEIGHT, FOCAL = 320, 240, 300.0
PARAMS = (FOCAL, WIDTH / 2, HEIGHT / 2, 0.02)
NAMES = tuple(f"{i}.png" for i in range(5))
GRID = Grid(8.0, 8.0, WIDTH // 8)
SLOPE = 0.4  # the surface is z = SLOPE |x|, with its ridge towards the cameras
TEXEL = 0.02  # about what a pixel sees


def camera(factor=1):
    """The camera of all images, their size times a factor."""
    f, cx, cy, k = PARAMS
    made = pycolmap.Camera(
        model="SIMPLE_RADIAL",
        width=WIDTH * factor,
        height=HEIGHT * factor,
        params=[f * factor, cx * factor, cy * factor, k],
    )
    made.camera_id = 1
    return made


def poses():
    """cam_from_world (3, 4) of cameras on an arc of 40 degrees."""
    turns = [Rotation.from_euler("yx", [10.0 * (i - 2), 5.0 * (i % 2) - 2], degrees=True).as_matrix() for i in range(5)]
    return [np.concatenate([rotation, [[0.0], [0.0], [6.0]]], axis=1) for rotation in turns]


@cache
def smooth_noise(seed, size, *sigmas):
    """(size, size) random texture of mean 0 and deviation 1; one component for each sigma, px. Do not change it."""
    rng = np.random.default_rng(seed)
    parts = [ndimage.gaussian_filter(rng.normal(size=(size, size)), sigma, mode="wrap") for sigma in sigmas]
    total = sum(part / part.std() for part in parts)
    return total / total.std()


@cache
def rendered(i, factor=1, seed=0):
    """(H, W) u8 of image i, with a brightness and a contrast of its own. Do not change it."""
    pose, size = poses()[i], (HEIGHT * factor, WIDTH * factor)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    rays = camera(factor).cam_from_img(np.stack([x.ravel(), y.ravel()], 1))
    rays = np.concatenate([rays, np.ones((len(rays), 1))], 1) @ pose[:, :3]
    centre = -pose[:, :3].T @ pose[:, 3]
    depth = np.max([(s * centre[0] - centre[2]) / (rays[:, 2] - s * rays[:, 0]) for s in (SLOPE, -SLOPE)], axis=0)
    ground = centre + depth[:, None] * rays
    texture = smooth_noise(seed, 512, 1.5, 4.0)
    values = ndimage.map_coordinates(texture, (ground[:, [1, 0]] / TEXEL + 256).T, order=3, mode="grid-wrap")
    grey = 120 + 5 * i + (30 + 3 * i) * values.reshape(size)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def surface_points(num=160, seed=3):
    """(num, 3) points of the surface, off its ridge, that all images see well inside."""
    xy = np.random.default_rng(seed).uniform([-2.2, -1.6], [2.2, 1.6], (20 * num, 2))
    xyz = np.column_stack([xy, SLOPE * np.abs(xy[:, 0])])[np.abs(xy[:, 0]) > 0.3]
    inside = [((p > 12) & (p < [WIDTH - 12, HEIGHT - 12])).all(1) for p in [project(i, xyz) for i in range(5)]]
    return xyz[np.all(inside, axis=0)][:num]


def project(i, xyz, factor=1):
    """(N, 2) px where image i sees the points."""
    pose = poses()[i]
    return camera(factor).img_from_cam(xyz @ pose[:, :3].T + pose[:, 3])


def make_model(xyz, observations, factor=1, images=range(5)):
    """A COLMAP model with the true poses; observations: of each of all images (N, 2) px, row n of point n."""
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(camera(factor))
    for i in images:
        image = pycolmap.Image(name=NAMES[i], camera_id=1, image_id=i + 1)
        image.points2D = [pycolmap.Point2D(xy) for xy in observations[i]]
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(poses()[i]))
    for n, point in enumerate(xyz):
        model.add_point3D(point, pycolmap.Track([pycolmap.TrackElement(i + 1, n) for i in images]))
    return model


def perturbed(xyz, sigma=1.0, factor=1, seed=5):
    """Observations of each image (N, 2), off by sigma px in x and y."""
    rng = np.random.default_rng(seed)
    return [project(i, xyz, factor) + rng.normal(0, sigma, (len(xyz), 2)) for i in range(5)]


def make_input(observations, *, grid=GRID, known_intrinsics=False):
    """What mapping reads of these observations: every pair of images matches point by point."""
    prior = CameraPrior("SIMPLE_RADIAL", np.array(PARAMS), True, "one")
    rows = np.repeat(np.arange(len(observations[0]), dtype=np.uint32)[:, None], 2, axis=1)
    geometries, matches = [], []
    for i, j in combinations(range(5), 2):
        pair = ImagePair(NAMES[i], NAMES[j])
        motion = relative_pose(poses()[i], poses()[j])
        motion[:, 3] /= np.linalg.norm(motion[:, 3])
        geometries.append(TwoViewGeometry(pair, rows[:, 0], "calibrated", motion))
        matches.append(KeypointMatches(pair, rows, np.ones(len(rows))))
    return MappingInput(
        tuple(ImageRecord(name, WIDTH, HEIGHT, prior, "") for name in NAMES),
        tuple(Keypoints(xy, np.ones(len(xy))) for xy in observations),
        tuple(geometries),
        tuple(matches),
        dict.fromkeys(NAMES, grid),
        known_intrinsics,
        MatcherTraits(dense=grid is not None),
    )


def ground_truth_of(columns, xyz, factor=1):
    """(O, 2) px where a model's observations should be: row j of an image's points2D is of point j."""
    exact = [project(i, xyz, factor) for i in range(5)]
    index = [NAMES.index(name) for name in columns.names]
    return np.array([exact[index[i]][j] for i, j in zip(columns.image, columns.point2D, strict=True)])
