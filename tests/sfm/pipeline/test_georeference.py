"""Whole runs of images with GPS: in metres by default, said everywhere, undone by --gps off, never redone for it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pycolmap
import pytest
from PIL import Image

from sfm.drawing.scene import read_scene, upright
from sfm.errors import BadOption
from sfm.export.registry import export
from sfm.export.source import ExportSource
from sfm.geometry.wgs84 import enu_from_wgs84, wgs84_from_enu
from sfm.options import GeoreferencingOptions, MappingOptions
from sfm.pipeline.run import reconstruct
from sfm.results.console import summary_text
from sfm.storage.database import FeatureDatabase
from sfm.types import STAGE_NAMES
from tests.support.arc_scene import NUM, OPTIONS, pose, reused, write_images
from tests.support.drone_scene import ORIGIN

UNIT = 40.0  # m
ENU_FROM_SCENE = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0.0]])  # the scene has y down
CENTRES = np.array([-(p[:, :3].T @ p[:, 3]) for p in map(pose, range(NUM))]) @ ENU_FROM_SCENE.T * UNIT
OFF = replace(OPTIONS, georeferencing=GeoreferencingOptions(gps="off"))


def dms(value):
    degrees, rest = divmod(abs(value), 1)
    minutes, rest = divmod(rest * 60, 1)
    return degrees, minutes, round(rest * 60, 6)


def tagged(folder):
    """The images of an arc, with exact positions."""
    write_images(folder)
    for i, (latitude, longitude, altitude) in enumerate(wgs84_from_enu(CENTRES, ORIGIN).tolist()):
        path = folder / f"{i}.png"
        exif = Image.Exif()
        exif[0x010F] = "Drone"
        exif.get_ifd(0x8825).update(
            {1: "N", 2: dms(latitude), 3: "E", 4: dms(longitude), 5: b"\0", 6: altitude, 0x1F: 0.1}
        )
        with Image.open(path) as image:
            image.copy().save(path, exif=exif)
    return folder


def centres_of(folder):
    model = pycolmap.Reconstruction(folder)
    found = {model.image(i).name: model.image(i).projection_center() for i in model.reg_image_ids()}
    return np.array([found[f"{i}.png"] for i in range(NUM)])


@pytest.fixture
def located(tmp_path):
    images, out = tagged(tmp_path / "images"), tmp_path / "out"
    return images, out, reconstruct(images, out, OPTIONS)


def test_a_run_is_in_metres_east_north_and_up(located, tmp_path):
    images, out, summary = located
    record = json.loads((out / "run.json").read_text())["georeference"]
    origin = np.array(list(record["origin"].values()))
    truth = enu_from_wgs84(wgs84_from_enu(CENTRES, ORIGIN), origin)
    np.testing.assert_allclose(centres_of(out / "sparse/0"), truth, atol=0.5)
    assert record["gps"]["residuals_m"]["total"]["p90"] < 0.5
    assert "metres, x east, y north, z up, by 6 of 6 GPS positions" in summary_text(summary, images, out)
    assert not summary.warnings
    xyz = np.array([p.xyz for p in pycolmap.Reconstruction(out / "sparse/0").points3D.values()])
    with (out / "points.ply").open("rb") as stream:
        head = stream.read(400)
    assert f"element vertex {len(xyz)}".encode() in head
    export(ExportSource.of_run(out), tmp_path / "ns", "nerfstudio")
    frames = json.loads((tmp_path / "ns/transforms.json").read_text())["frames"]
    found = np.array([np.array(f["transform_matrix"])[:3, 3] for f in sorted(frames, key=lambda f: f["file_path"])])
    np.testing.assert_allclose(found, centres_of(out / "sparse/0"), atol=1e-9)
    shown = upright(read_scene(out / "sparse/0")).cameras  # north stays north
    turned = shown.cam_from_world[:, :, :3] @ np.swapaxes(
        [
            pycolmap.Reconstruction(out / "sparse/0").find_image_with_name(n).cam_from_world().rotation.matrix()
            for n in shown.names
        ],
        1,
        2,
    )
    np.testing.assert_allclose(turned, np.tile(np.eye(3), (NUM, 1, 1)), atol=1e-6)
    assert "metres, x east" in (out / "report.html").read_text()


def test_the_database_has_the_positions_as_priors(located):
    _, out, _ = located
    database = pycolmap.Database.open(out / "database.db")
    try:
        priors = {p.corr_data_id.id: p.position for p in database.read_all_pose_priors()}
        names = {image.image_id: image.name for image in database.read_all_images()}
    finally:
        database.close()
    places = wgs84_from_enu(CENTRES, ORIGIN)
    assert len(priors) == NUM
    for image_id, name in names.items():
        np.testing.assert_allclose(priors[image_id], places[int(name[0])], atol=1e-6)


def test_options_of_gps_redo_no_stage_and_change_no_shape(located):
    images, out, _ = located
    metres = centres_of(out / "sparse/0")
    before = (out / "sparse/0/images.bin").read_bytes()
    assert reused(reconstruct(images, out, OPTIONS)) == list(STAGE_NAMES)
    assert (out / "sparse/0/images.bin").read_bytes() == before
    summary = reconstruct(images, out, OFF)
    assert reused(summary) == list(STAGE_NAMES)
    assert summary.georeference is None
    own = centres_of(out / "sparse/0")
    ratio = np.linalg.norm(metres[1:] - metres[0], axis=1) / np.linalg.norm(own[1:] - own[0], axis=1)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)
    assert ratio[0] > 2
    assert not (out / "sparse/0/frame.json").exists()


def test_a_run_without_gps_is_as_it_was(finished, copied):
    images, out = copied
    assert json.loads((finished[1] / "run.json").read_text())["georeference"] is None
    assert reconstruct(images, out, OPTIONS).georeference is None
    assert {p.name for p in (out / "sparse/0").iterdir()} == {p.name for p in (out / "unrefined/0").iterdir()}


def test_known_poses_keep_their_frame(located, tmp_path):
    images, out, _ = located
    reconstruct(images, out, OFF)
    own = centres_of(out / "sparse/0")
    options = replace(OPTIONS, mapping=MappingOptions(known_poses=out / "sparse/0"))
    summary = reconstruct(images, tmp_path / "posed", options)
    assert summary.georeference is None
    np.testing.assert_allclose(centres_of(tmp_path / "posed/sparse/0"), own, atol=0.05 * np.ptp(own))


def test_a_known_distance_is_checked_before_any_work(tmp_path):
    images = write_images(tmp_path / "images")
    options = replace(OPTIONS, georeferencing=GeoreferencingOptions(scale_bar="0.png,nosuch.png,2"))
    with pytest.raises(BadOption, match=r"nosuch\.png is neither an image"):
        reconstruct(images, tmp_path / "out", options)
    assert not (tmp_path / "out" / "features.h5").exists()
    options = replace(OPTIONS, georeferencing=GeoreferencingOptions(scale_bar="0.png,5.png,123"))
    reconstruct(images, tmp_path / "out", options)
    centres = centres_of(tmp_path / "out/sparse/0")
    assert np.linalg.norm(centres[5] - centres[0]) == pytest.approx(123, rel=1e-9)


def test_positions_are_kept_in_the_database_and_older_files_have_none(located):
    import h5py

    _, out, _ = located
    with FeatureDatabase.open(out / "features.h5", "r") as db:
        found = np.array([(r.gps.latitude, r.gps.longitude, r.gps.altitude) for r in db.read_images()])
    np.testing.assert_allclose(found, wgs84_from_enu(CENTRES, ORIGIN), atol=1e-6)
    with h5py.File(out / "features.h5", "r+") as file:
        del file["positions"]
    with FeatureDatabase.open(out / "features.h5", "r") as db:
        assert [r.gps for r in db.read_images()] == [None] * NUM
