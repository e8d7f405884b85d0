"""The table and the map of cameras: places and angles as surveyors have them."""

import csv
import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sfm.errors import BadOption
from sfm.export.registry import export
from sfm.export.source import ExportSource
from sfm.georeferencing.placement import place
from tests.sfm.georeferencing.test_placement import written
from tests.support.drone_scene import model_of, records_of, strips, tags_of

ENU = strips()


def exported(tmp_path, rotations=None):
    out, tags = written(tmp_path / "out", model_of(ENU, rotations=rotations)), tags_of(ENU)
    place(out, records_of(tags), gps=True)
    path = export(ExportSource.of_run(out), tmp_path / "geo", "geo")
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream)), tags, json.loads((tmp_path / "geo/cameras.geojson").read_text())


def test_places_are_those_of_gps(tmp_path):
    rows, tags, geojson = exported(tmp_path)
    found = np.array([[float(row[name]) for name in ("latitude", "longitude", "altitude")] for row in rows])
    truth = np.array([(tag.latitude, tag.longitude, tag.altitude) for tag in tags])
    np.testing.assert_allclose(found, truth, atol=1e-3)
    np.testing.assert_allclose(found[:, :2], truth[:, :2], atol=1e-8)
    assert [row["image"] for row in rows] == [feature["properties"]["image"] for feature in geojson["features"]]
    longitude, latitude, altitude = geojson["features"][7]["geometry"]["coordinates"]
    np.testing.assert_allclose([latitude, longitude, altitude], truth[7], atol=1e-3)


def test_angles_of_a_camera_that_looks_down_and_of_one_that_looks_east(tmp_path):
    down, east = np.diag([1.0, -1, -1]), np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0.0]])
    rotations = np.stack([down, *[east] * (len(ENU) - 1)])
    rows, *_ = exported(tmp_path, rotations)
    values = [{name: float(row[name]) for name in ("omega", "phi", "kappa", "yaw", "pitch", "roll")} for row in rows]
    assert values[0] == pytest.approx({"omega": 0, "phi": 0, "kappa": 0, "yaw": 0, "pitch": -90, "roll": 0}, abs=1e-3)
    own = values[1]
    assert (own["yaw"], own["pitch"], own["roll"]) == pytest.approx((90, 0, 0), abs=1e-3)
    matrix = Rotation.from_euler("XYZ", [own["omega"], own["phi"], own["kappa"]], degrees=True).as_matrix()
    np.testing.assert_allclose(matrix, east.T @ np.diag([1, -1, -1]), atol=1e-4)


def test_a_model_in_its_own_frame_is_refused(tmp_path):
    out = written(tmp_path / "out", model_of(ENU))
    with pytest.raises(BadOption, match="in no geographic frame"):
        export(ExportSource.of_run(out), tmp_path / "geo", "geo")
