"""geo: where each camera is and how it looks, as a table for surveyors, and as points on a map."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sfm.errors import BadOption
from sfm.export.source import ExportSource, registered_images
from sfm.geometry.wgs84 import wgs84_from_enu
from sfm.georeferencing.frame import read_frame
from sfm.system.safe_paths import refuse_links
from sfm.types import Float64

if TYPE_CHECKING:
    import pycolmap

COLUMNS = (
    *("image", "latitude", "longitude", "altitude", "east", "north", "up", "omega", "phi", "kappa"),
    *("yaw", "pitch", "roll"),
)


def geo(source: ExportSource, dest: Path) -> Path:
    """cameras.csv and cameras.geojson of a georeferenced model. BadOption for one without a geographic frame.

    Latitude and longitude are degrees, WGS84; the altitude is m, above what the images' GPS altitudes are above; east,
    north and up are m from the origin. omega, phi, kappa: degrees, rotations about east, north and up, one after the
    other, of a camera with x to the right, y up and z to the back, as photogrammetry has them. yaw: of the top of the
    image from north to the east; pitch: of the view above the horizon, -90 straight down; roll: degrees.
    """
    frame = read_frame(source.model_dir)
    if frame is None or frame.origin is None:
        raise BadOption(
            f"{source.model_dir}: the model is in no geographic frame; its images need GPS positions that fit it "
            "(the run's summary says why they are not used)"
        )
    refuse_links(dest, ["cameras.csv", "cameras.geojson"])
    images = registered_images(source.model())
    centres = np.array([image.projection_center() for image in images])
    places = wgs84_from_enu(centres, frame.origin)
    rows = [
        dict(zip(COLUMNS, (image.name, *place, *centre, *_angles(image)), strict=True))
        for image, place, centre in zip(images, places.tolist(), centres.tolist(), strict=True)
    ]
    path = dest / "cameras.csv"
    path.write_text(_csv(rows), encoding="utf-8")
    (dest / "cameras.geojson").write_text(_geojson(rows), encoding="utf-8")
    return path


def _angles(image: pycolmap.Image) -> tuple[float, ...]:
    """omega, phi, kappa, yaw, pitch, roll of an image in a frame with z up, degrees."""
    world_from_cam: Float64 = np.asarray(image.cam_from_world().rotation.matrix()).T
    right, up, back = world_from_cam[:, 0], -world_from_cam[:, 1], -world_from_cam[:, 2]
    omega, phi, kappa = np.arctan2(-back[1], back[2]), np.arcsin(np.clip(back[0], -1, 1)), np.arctan2(-up[0], right[0])
    look = -back
    pitch = np.arcsin(np.clip(look[2], -1, 1))
    ahead = look[:2] if np.linalg.norm(look[:2]) > 0.3 else up[:2] * (1 if look[2] < 0 else -1)
    yaw = np.arctan2(ahead[0], ahead[1])
    roll = np.arcsin(np.clip(-right[2], -1, 1))
    return tuple(float(angle) for angle in np.degrees([omega, phi, kappa, yaw, pitch, roll]))


def _csv(rows: list[dict[str, object]]) -> str:
    digits = {"latitude": 9, "longitude": 9, "image": 0}
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(
            [f"{value:.{digits.get(name, 4)}f}" if isinstance(value, float) else value for name, value in row.items()]
        )
    return stream.getvalue()


def _geojson(rows: list[dict[str, object]]) -> str:
    """RFC 7946: longitude before latitude."""
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [row["longitude"], row["latitude"], row["altitude"]]},
            "properties": {name: value for name, value in row.items() if name not in ("latitude", "longitude")},
        }
        for row in rows
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}, indent=1) + "\n"
