"""A drone's flight over a field: camera centres in metres, GPS tags with known errors, and models of it."""

import numpy as np
import pycolmap
from scipy.spatial.transform import Rotation

from sfm.geometry.similarity import Similarity
from sfm.geometry.wgs84 import wgs84_from_enu
from sfm.types import CameraPrior, GPSTag, ImageRecord

ORIGIN = np.array([46.5, 8.25, 640.0])
WIDTH, HEIGHT, FOCAL = 640, 480, 600.0
OWN_FRAME = Similarity(
    1 / 37.0, Rotation.from_euler("xyz", [20, -35, 110], degrees=True).as_matrix(), np.array([3.0, -1, 2])
)


def strips(num_strips=4, length=10, spacing=20.0, apart=30.0, height=60.0):
    """(N, 3) m of a flight to and fro, N = num_strips * length, at slightly different heights."""
    rng = np.random.default_rng(7)
    rows = []
    for strip in range(num_strips):
        along = np.arange(length) if strip % 2 == 0 else np.arange(length)[::-1]
        rows += [(strip * apart, step * spacing, height) for step in along]
    points = np.array(rows, float) + rng.normal(0, [1.0, 1.0, 1.5], (num_strips * length, 3))
    return points - [*points[:, :2].mean(axis=0), 0]


def names_of(num):
    return [f"DJI_{i:04d}.jpg" for i in range(num)]


def tags_of(enu, noise=(0.0, 0.0), seed=1, **more):
    """A tag for each position (N, 3) m; noise: horizontal and vertical standard deviations, m."""
    rng = np.random.default_rng(seed)
    measured = enu + rng.normal(0, 1, enu.shape) * [noise[0], noise[0], noise[1]]
    return [GPSTag(*map(float, row), **more) for row in wgs84_from_enu(measured, ORIGIN)]


def records_of(tags):
    camera = CameraPrior("SIMPLE_RADIAL", np.array([FOCAL, WIDTH / 2, HEIGHT / 2, 0.0]), True, "drone")
    names = names_of(len(tags))
    return tuple(
        ImageRecord(name, WIDTH, HEIGHT, camera, name, tag, 1e9 + 2.0 * i)
        for i, (name, tag) in enumerate(zip(names, tags, strict=True))
    )


def nadir_rotations(num):
    """(num, 3, 3) cam_from_enu of cameras that look down, heads to the north."""
    return np.tile(np.diag([1.0, -1.0, -1.0]), (num, 1, 1))


def model_of(enu, frame=OWN_FRAME, rotations=None, ground=300):
    """A model with cameras at (N, 3) m and points of the ground, in a frame of its own: `frame` is own_from_enu."""
    rng = np.random.default_rng(3)
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera.create_from_model_name(1, "SIMPLE_RADIAL", FOCAL, WIDTH, HEIGHT)
    model.add_camera_with_trivial_rig(camera)
    rotations = nadir_rotations(len(enu)) if rotations is None else rotations
    for i, (name, centre) in enumerate(zip(names_of(len(enu)), enu, strict=True), start=1):
        pose = np.column_stack([rotations[i - 1], -rotations[i - 1] @ centre])
        image = pycolmap.Image(name=name, camera_id=1, image_id=i)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(frame.transform_pose(pose)))
    low, high = enu[:, :2].min(axis=0), enu[:, :2].max(axis=0)
    xyz = np.column_stack([rng.uniform(low, high, (ground, 2)), rng.normal(0, 1.0, ground)])
    for point in frame(xyz):
        model.add_point3D(point, pycolmap.Track(), np.array([90, 120, 60], np.uint8))
    return model


def centres_of(model):
    """(N, 3) camera centres by name."""
    images = sorted((model.image(i) for i in model.reg_image_ids()), key=lambda image: image.name)
    return np.array([image.projection_center() for image in images])
