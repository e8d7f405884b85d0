"""Positions and times of image files as devices write them."""

import math

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from sfm.images.exif import read_exif
from sfm.images.gps import capture_time, position
from sfm.images.positions import positions_of
from tests.support.drone_scene import ORIGIN, records_of, strips, tags_of

NORTH_EAST = {1: "N", 2: (46.0, 30.0, 15.0), 3: "E", 4: (8.0, 15.0, 30.0), 6: 640.5}
DJI = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description drone-dji:AbsoluteAltitude="+701.20"
 drone-dji:RelativeAltitude="+60.10" drone-dji:GimbalRollDegree="+0.00" drone-dji:GimbalYawDegree="-12.50"
 drone-dji:GimbalPitchDegree="-89.90" drone-dji:RtkFlag="50" drone-dji:RtkStdLon="0.012" drone-dji:RtkStdLat="0.015">
 <drone-dji:RtkStdHgt>0.031</drone-dji:RtkStdHgt></rdf:Description></rdf:RDF></x:xmpmeta>"""


@pytest.mark.parametrize(
    ("entries", "latitude", "longitude", "altitude"),
    [
        (NORTH_EAST, 46.504166667, 8.258333333, 640.5),
        (NORTH_EAST | {1: "S", 3: "W"}, -46.504166667, -8.258333333, 640.5),
        (NORTH_EAST | {5: b"\x01", 6: 12.0}, 46.504166667, 8.258333333, -12.0),
        (NORTH_EAST | {5: b"\x01"}, 46.504166667, 8.258333333, math.nan),  # deeper than any place on land
        (NORTH_EAST | {5: b"\x00"}, 46.504166667, 8.258333333, 640.5),
        (NORTH_EAST | {2: (46.5, 0.0, 0.0), 4: (8.25,)}, 46.5, 8.25, 640.5),
        ({**NORTH_EAST, 6: IFDRational(0, 0)}, 46.504166667, 8.258333333, math.nan),
    ],
)
def test_position(entries, latitude, longitude, altitude):
    found = position(entries, {})
    np.testing.assert_allclose(
        [found.latitude, found.longitude, found.altitude], [latitude, longitude, altitude], atol=1e-8
    )


@pytest.mark.parametrize(
    "entries",
    [
        {},
        {2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)},
        NORTH_EAST | {2: (146.0, 0.0, 0.0)},
        NORTH_EAST | {4: (181.0, 0.0, 0.0)},
        NORTH_EAST | {2: (IFDRational(0, 0), 30.0, 0.0)},
        NORTH_EAST | {2: (46.0, math.nan, 0.0)},
        NORTH_EAST | {9: "V"},
        NORTH_EAST | {2: "garbage"},
        NORTH_EAST | {2: (1.0,) * 9},
        {1: "N", 2: (46.0, 30.0, 15.0)},
    ],
)
def test_positions_that_are_none(entries):
    assert position(entries, {}) is None


def test_errors_that_a_device_writes():
    assert position(NORTH_EAST | {0x1F: 4.75}, {}).horizontal_sigma == 4.75
    assert position(NORTH_EAST | {0x0B: 2.0}, {}).horizontal_sigma == 6.0
    assert position(NORTH_EAST | {0x1F: 4.75, 0x0B: 2.0}, {}).horizontal_sigma == 4.75
    assert math.isnan(position(NORTH_EAST | {0x1F: 0.0, 0x0B: -1.0}, {}).horizontal_sigma)


@pytest.mark.parametrize(
    ("main", "exif", "seconds"),
    [
        ({}, {0x9003: "2013:06:04 13:37:29"}, 1370353049.0),
        ({}, {0x9003: "2013:06:04 13:37:29", 0x9291: "250", 0x9011: "+02:00"}, 1370353049.25 - 7200),
        ({}, {0x9003: "2013:06:04 13:37:29", 0x9291: "25", 0x9011: "-05:30"}, 1370353049.25 + 19800),
        ({0x0132: "2013:06:04 13:37:29\0"}, {0x9003: "0000:00:00 00:00:00"}, 1370353049.0),
        ({}, {}, None),
        ({}, {0x9003: "2013:13:04 13:37:29"}, None),
        ({}, {0x9003: b"\xff\xfe"}, None),
    ],
)
def test_capture_time(main, exif, seconds):
    assert capture_time(main, exif, {}) == seconds


def test_time_of_the_satellites_where_there_is_no_other():
    assert capture_time({}, {}, {0x1D: "2013:06:04", 7: (13.0, 37.0, 29.5)}) == 1370353049.5


@pytest.mark.parametrize("suffix", ["jpg", "tif", "png", "webp", "heic"])
def test_files_of_every_format(suffix, tmp_path):
    if suffix == "heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    gps = {1: "S", 2: (46.0, 30.0, 15.0), 3: "W", 4: (8.0, 15.0, 30.0), 5: b"\0", 6: 640.5}
    taken = {0x9003: "2013:06:04 13:37:29"}
    exif = Image.Exif()
    exif[0x010F] = "DJI"  # without it Pillow takes EXIF for empty
    exif.get_ifd(0x8825).update(gps)
    exif.get_ifd(0x8769).update(taken)
    path = tmp_path / f"a.{suffix}"
    more = {"tiffinfo": {0x8825: gps, 0x8769: taken}} if suffix == "tif" else {"exif": exif}
    Image.new("RGB", (64, 48), (90, 120, 60)).save(path, **more)
    with Image.open(path) as image:
        found = read_exif(image)
    np.testing.assert_allclose(
        [found.gps.latitude, found.gps.longitude, found.gps.altitude], [-46.504166667, -8.258333333, 640.5]
    )
    assert found.taken_at == 1370353049.0


@pytest.mark.parametrize("has_exif", [True, False])
def test_a_drone_of_dji(has_exif, tmp_path):
    exif = Image.Exif()
    if has_exif:
        exif.get_ifd(0x8825).update(NORTH_EAST)
    else:
        exif[0x010F] = "DJI"
    more = "" if has_exif else ' drone-dji:GpsLatitude="46.504166667" drone-dji:GpsLongtitude="8.258333333"'
    xmp = DJI.replace(" drone-dji:RelativeAltitude", more + " drone-dji:RelativeAltitude")
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg", exif=exif, xmp=xmp.encode())
    with Image.open(tmp_path / "a.jpg") as image:
        gps = read_exif(image).gps
    np.testing.assert_allclose([gps.latitude, gps.longitude], [46.504166667, 8.258333333], atol=1e-8)
    assert gps.altitude == (640.5 if has_exif else 701.2)
    assert (gps.horizontal_sigma, gps.vertical_sigma, gps.relative_altitude) == (0.015, 0.031, 60.1)
    assert gps.gimbal == (-12.5, -89.9, 0.0)


def test_positions_that_are_repeated_are_no_fixes():
    tags = tags_of(strips(1, 6))
    tags[3] = tags[4] = tags[2]
    records = records_of(tags)
    found = positions_of(records)
    assert found.names == tuple(records[i].name for i in (0, 1, 2, 5))
    assert set(found.doubted) == {records[3].name, records[4].name}
    assert len(positions_of(records, keep_repeated=True).names) == 6


def test_origin_and_errors_of_a_set():
    tags = tags_of(strips(), horizontal_sigma=0.001)
    found = positions_of(records_of(tags))
    assert np.abs(found.origin[:2] - ORIGIN[:2]).max() < 1e-3
    assert (found.sigma == [0.02, 0.02]).all()
    np.testing.assert_allclose(found.enu(found.origin)[:, :2].mean(axis=0), 0, atol=15)
    assert (positions_of(records_of(tags_of(strips()))).sigma == [5.0, 10.0]).all()
