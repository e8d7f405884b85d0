"""Geographic positions and local metric frames. pycolmap does the geodesy, and is loaded by the first call.

A geographic position is latitude and longitude, degrees, and altitude, m, on the WGS84 ellipsoid. A local frame is ENU:
x to the east, y to the north, z up, m, tangential to the ellipsoid at its origin.
"""

from __future__ import annotations

import numpy as np

from sfm.types import Float64


def enu_from_wgs84(positions: Float64, origin: Float64) -> Float64:
    """(N, 3) m, of positions (N, 3) and an origin (3,)."""
    import pycolmap

    transform = pycolmap.GPSTransform(pycolmap.GPSTransformEllipsoid.WGS84)
    points = np.ascontiguousarray(positions, np.float64).reshape(-1, 3)
    return np.asarray(transform.ellipsoid_to_enu(points, *map(float, origin))).reshape(-1, 3)


def wgs84_from_enu(points: Float64, origin: Float64) -> Float64:
    """(N, 3) positions, of points (N, 3) m in the frame of an origin (3,)."""
    import pycolmap

    transform = pycolmap.GPSTransform(pycolmap.GPSTransformEllipsoid.WGS84)
    points = np.ascontiguousarray(points, np.float64).reshape(-1, 3)
    return np.asarray(transform.enu_to_ellipsoid(points, *map(float, origin))).reshape(-1, 3)
