"""GPS as COLMAP's pose priors: what its own feature extraction writes, and its mapper goes on from them."""

import numpy as np
import pycolmap
import pytest
from PIL import Image

from sfm.colmap.database import write_colmap_database
from sfm.colmap.pose_priors import gravity_in_camera
from sfm.geometry.wgs84 import wgs84_from_enu
from sfm.images.exif import read_exif
from sfm.types import GPSTag, ImageRecord
from tests.support.drone_scene import ORIGIN
from tests.support.mapping_scene import NAMES, camera_poses, make_input


def priors_of(path):
    database = pycolmap.Database.open(path)
    try:
        return sorted(database.read_all_pose_priors(), key=lambda prior: prior.pose_prior_id)
    finally:
        database.close()


def priors_by_image(path):
    """Each image's prior by its name: COLMAP numbers images in the order in which its threads finish them."""
    with pycolmap.Database.open(path) as database:
        return {database.read_image(prior.corr_data_id.id).name: prior for prior in priors_of(path)}


def test_priors_are_those_that_colmap_writes(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(2):
        exif = Image.Exif()
        exif[0x010F] = "DJI"
        exif.get_ifd(0x8825).update(
            {1: "S", 2: (46.0, 30.0, 15.0 + i), 3: "W", 4: (8.0, 15.0, 30.0), 5: b"\0", 6: 640.5}
        )
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(folder / f"{i}.jpg", exif=exif)
    pycolmap.extract_features(tmp_path / "theirs.db", folder)
    data = make_input()
    records = []
    for i in range(2):
        with Image.open(folder / f"{i}.jpg") as image:
            gps = read_exif(image).gps
        records.append(ImageRecord(f"{i}.jpg", 640, 480, data.images[0].camera, "", gps))
    write_colmap_database(tmp_path / "ours.db", records, data.keypoints[:2], [], [])
    theirs, ours = priors_by_image(tmp_path / "theirs.db"), priors_by_image(tmp_path / "ours.db")
    assert sorted(ours) == sorted(theirs) == ["0.jpg", "1.jpg"]
    for name, our in ours.items():
        their = theirs[name]
        np.testing.assert_allclose(our.position, their.position, atol=1e-9)
        assert our.coordinate_system == their.coordinate_system == pycolmap.PosePriorCoordinateSystem.WGS84
        assert our.corr_data_id.sensor_id.type == their.corr_data_id.sensor_id.type
        assert not our.has_position_cov()


def test_errors_are_covariances_and_images_without_altitude_have_no_prior(tmp_path):
    data = make_input()
    tags = [GPSTag(46.5, 8.2, 600.0, 0.5, 2.0), GPSTag(46.5, 8.2, 600.0, 3.0), GPSTag(46.5, 8.2), None]
    camera = data.images[0].camera
    records = [ImageRecord(NAMES[i], 640, 480, camera, "", tag) for i, tag in enumerate(tags)]
    write_colmap_database(tmp_path / "a.db", records, data.keypoints[:4], [], [])
    first, second = priors_of(tmp_path / "a.db")
    np.testing.assert_allclose(first.position_covariance, np.diag([0.25, 0.25, 4.0]))
    np.testing.assert_allclose(second.position_covariance, np.diag([9.0, 9.0, 36.0]))
    assert [prior.corr_data_id.id for prior in (first, second)] == [1, 2]


@pytest.mark.parametrize(
    ("gimbal", "down"),
    [((10.0, -90.0, 0.0), (0, 0, 1)), ((10.0, 0.0, 0.0), (0, 1, 0)), ((0.0, -45.0, 0.0), (0, 0.5**0.5, 0.5**0.5))],
)
def test_gravity_by_the_gimbal(gimbal, down):
    np.testing.assert_allclose(gravity_in_camera(GPSTag(1.0, 2.0, gimbal=gimbal)), down, atol=1e-12)


@pytest.mark.slow
def test_colmaps_pose_prior_mapper_goes_on_from_them(tmp_path):
    """Its model is in metres, east, north and up from its first image."""
    data = make_input()
    enu = np.array([-(pose[:, :3].T @ pose[:, 3]) for pose in camera_poses()]) * 25.0
    rows = wgs84_from_enu(enu, ORIGIN).tolist()
    records = [
        ImageRecord(r.name, r.width, r.height, r.camera, "", GPSTag(*row, 0.5, 0.5))
        for r, row in zip(data.images, rows, strict=True)
    ]
    path = tmp_path / "database.db"
    write_colmap_database(path, records, data.keypoints, data.geometries, data.matches)
    options = pycolmap.IncrementalPipelineOptions(use_prior_position=True, num_threads=1, random_seed=0)
    models = pycolmap.incremental_mapping(path, tmp_path, tmp_path / "models", options)
    model = models[0]
    names = sorted(model.image(i).name for i in model.reg_image_ids())
    assert names == NAMES
    centres = {model.image(i).name: model.image(i).projection_center() for i in model.reg_image_ids()}
    found = np.array([centres[name] for name in NAMES])
    np.testing.assert_allclose(found - found.mean(axis=0), enu - enu.mean(axis=0), atol=1.0)
