"""GPS positions as COLMAP's pose priors: what its feature extraction writes (src/colmap/controllers/image_reader.cc),
and what it does not read: how exact they are, and where down is in a drone's images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pycolmap

from sfm.types import Float64, GPSTag, ImageRecord


def write_pose_priors(database: pycolmap.Database, images: Sequence[ImageRecord]) -> None:
    """A pose prior for every image that has latitude, longitude and altitude, with the image's id, its row from 1.

    Positions are WGS84 in degrees and metres, covariances are of east, north and up in square metres where the image
    says how exact it is. The images are in the database.
    """
    for image_id, record in enumerate(images, start=1):
        if record.gps is None or not math.isfinite(record.gps.altitude):
            continue
        gps = record.gps
        prior = pycolmap.PosePrior(
            pose_prior_id=image_id,
            corr_data_id=database.read_image(image_id).data_id,
            position=np.array([gps.latitude, gps.longitude, gps.altitude]),
            coordinate_system=pycolmap.PosePriorCoordinateSystem.WGS84,
        )
        if math.isfinite(gps.horizontal_sigma):
            vertical = gps.vertical_sigma if math.isfinite(gps.vertical_sigma) else 2 * gps.horizontal_sigma
            prior.position_covariance = np.diag([gps.horizontal_sigma**2, gps.horizontal_sigma**2, vertical**2])
        if np.isfinite(gps.gimbal[1:]).all():
            prior.gravity = gravity_in_camera(gps)
        database.write_pose_prior(prior, use_pose_prior_id=True)


def gravity_in_camera(gps: GPSTag) -> Float64:
    """Unit (3,), down in the frame of a camera (x right, y down, z forward), by its gimbal's pitch and roll."""
    _, pitch, roll = np.radians(gps.gimbal)
    level = np.array([0.0, np.cos(pitch), -np.sin(pitch)])  # without roll
    turned = np.array([[np.cos(roll), np.sin(roll), 0], [-np.sin(roll), np.cos(roll), 0], [0, 0, 1.0]])
    return np.asarray(turned @ level)
