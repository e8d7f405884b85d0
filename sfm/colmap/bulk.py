"""The points and observations of a model of millions in a few seconds: as COLMAP's own binary files, read by columns.

Going through pycolmap's objects one by one takes a microsecond or two each, several times over.
"""

from __future__ import annotations

import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from sfm.colmap.model_writer import save_model
from sfm.types import Float64, Int64

POINT = np.dtype([("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("length", "<u8")])  # packed
POINT2D = np.dtype([("xy", "<f8", 2), ("point", "<u8")])
IMAGE = struct.Struct("<I7dI")  # image, quaternion and translation, camera; the name and its zero byte follow
NO_POINT = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True, slots=True, eq=False)
class Bulk:
    """points: (N,) records of POINT, sorted by id. observed: by COLMAP's number of an image its observations, records
    of POINT2D that all have a point. places: which of the image's points2D they are."""

    points: NDArray[np.void]
    observed: dict[int, NDArray[np.void]]
    places: dict[int, Int64]

    def rows(self, ids: NDArray[np.uint64]) -> Int64:
        """Rows of the points with these ids."""
        return np.searchsorted(self.points["id"], ids).astype(np.int64)

    @property
    def xyz(self) -> Float64:
        """(N, 3) in the world."""
        return np.ascontiguousarray(self.points["xyz"])


def bulk(model: pycolmap.Reconstruction) -> Bulk:
    """All points and observations of a model; their errors are those that it stores."""
    with tempfile.TemporaryDirectory(prefix="loftr-sfm-") as folder:
        save_model(model, Path(folder))
        points = _points((Path(folder) / "points3D.bin").read_bytes())
        return Bulk(points[np.argsort(points["id"])], *_observed((Path(folder) / "images.bin").read_bytes()))


def _points(content: bytes) -> NDArray[np.void]:
    (num,) = struct.unpack_from("<Q", content)
    starts, length_of = np.zeros(num, np.int64), struct.Struct("<Q").unpack_from
    at, length_at = 8, POINT.itemsize - 8
    for row in range(num):
        starts[row] = at
        at += POINT.itemsize + 8 * length_of(content, at + length_at)[0]  # an image and a point2D for each observation
    whole = np.frombuffer(content, np.uint8)
    records = np.empty((num, POINT.itemsize), np.uint8)
    for byte in range(POINT.itemsize):
        records[:, byte] = whole[starts + byte]
    return records.view(POINT).reshape(num)


def _observed(content: bytes) -> tuple[dict[int, NDArray[np.void]], dict[int, Int64]]:
    (num,) = struct.unpack_from("<Q", content)
    found, places, at = {}, {}, 8
    for _ in range(num):
        image_id = IMAGE.unpack_from(content, at)[0]
        at = content.index(b"\0", at + IMAGE.size) + 1
        (count,) = struct.unpack_from("<Q", content, at)
        own = np.frombuffer(content, POINT2D, count, at + 8)
        rows = np.flatnonzero(own["point"] != NO_POINT)
        found[image_id] = own[rows]
        places[image_id] = rows
        at += 8 + count * POINT2D.itemsize
    return found, places
