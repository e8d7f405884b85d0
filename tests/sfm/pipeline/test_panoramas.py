"""A run over panoramas, from a folder of them to an exported folder of cube faces."""

from __future__ import annotations

import json

import numpy as np
import pycolmap
import pytest
from PIL import Image

from sfm.errors import BadOption
from sfm.export.registry import export
from sfm.export.source import ExportSource
from sfm.geometry.poses import pose_error_deg, relative_pose
from sfm.pipeline.run import open_run, reconstruct
from sfm.rigs.cube_faces import DIRECTIONS, face_rotation
from tests.support import panorama_scene as scene

NUM, WIDTH = 4, 1024


@pytest.fixture(scope="module")
def panoramas(tmp_path_factory):
    """Images and the results of one run by SIFT."""
    root = tmp_path_factory.mktemp("panoramas")
    scene.write_panoramas(root / "photos", NUM, WIDTH)
    summary = reconstruct(root / "photos", root / "out", matcher="sift", no_report=True)
    return root / "photos", root / "out", summary


def true_pose(name):
    face, _, file = name.partition("/")
    pose, turn = scene.poses(NUM)[int(file[0])], face_rotation(face)
    return np.column_stack([turn @ pose[:, :3], turn @ pose[:, 3]])


@pytest.mark.slow
def test_panoramas_are_mapped_exactly_and_said_to_be_some(panoramas):
    _, out, summary = panoramas
    assert summary.registered == 6 * NUM
    assert summary.warnings == ()
    notes = [note for stage in summary.stages for note in stage.notes]
    assert notes == [f"{NUM} panoramas, 24 cube faces of 100 degrees in cube_faces, each panorama a rig of its faces"]
    assert json.loads((out / "run.json").read_text())["images_folder"] == str(out / "cube_faces")
    model = pycolmap.Reconstruction(str(out / "sparse" / "0"))
    assert (model.num_rigs(), model.num_frames(), model.num_cameras()) == (1, NUM, 6)
    found = {image.name: image.cam_from_world().matrix() for image in model.images.values()}
    for a in range(NUM):
        for b in range(a):
            for face in ("front", "left"):
                one, two = f"{face}/{a}.jpg", f"{face}/{b}.jpg"
                own, true = relative_pose(found[one], found[two]), relative_pose(true_pose(one), true_pose(two))
                assert max(pose_error_deg(own, true)) < 0.3
        centres = [-found[f"{f}/{a}.jpg"][:, :3].T @ found[f"{f}/{a}.jpg"][:, 3] for f in DIRECTIONS]
        np.testing.assert_allclose(centres, np.tile(centres[0], (6, 1)), atol=1e-9)
    for camera in model.cameras.values():  # exactly known
        assert camera.model_name == "PINHOLE"
        assert camera.params.tolist() == [194 / np.tan(np.radians(50))] * 2 + [194.0] * 2


@pytest.mark.slow
def test_faces_of_one_panorama_are_not_matched_with_each_other(panoramas):
    images, out, _ = panoramas
    with open_run(images, out, matcher="sift", no_report=True) as run:
        pairs = run.db.read_pairs()
    assert len(pairs) == 6 * NUM * (6 * NUM - 1) // 2 - NUM * 15
    assert all(pair.name0[-5:] != pair.name1[-5:] for pair in pairs)


@pytest.mark.slow
def test_the_same_run_again_reuses_all(panoramas):
    images, out, _ = panoramas
    again = reconstruct(images, out, matcher="sift", no_report=True)
    assert all(stage.reused for stage in again.stages)


@pytest.mark.slow
def test_colmap_carries_on_with_the_rig(panoramas, tmp_path):
    _, out, _ = panoramas
    options = pycolmap.IncrementalPipelineOptions()
    options.extract_colors, options.num_threads, options.random_seed = False, 1, 0
    model = pycolmap.Reconstruction(str(out / "sparse" / "0"))
    again = pycolmap.triangulate_points(model, out / "database.db", out, tmp_path, True, options, False)
    assert (again.num_rigs(), again.num_reg_images()) == (1, 6 * NUM)


@pytest.mark.slow
def test_exports_give_the_cube_faces(panoramas, tmp_path):
    _, out, _ = panoramas
    export(ExportSource.of_run(out), tmp_path / "nerf", "nerfstudio")
    transforms = json.loads((tmp_path / "nerf" / "transforms.json").read_text())
    assert len(transforms["frames"]) == 6 * NUM
    frame = transforms["frames"][0]
    assert Image.open(tmp_path / "nerf" / frame["file_path"]).size == (388, 388)


def test_what_cannot_be_a_panorama_is_refused_in_one_line(tmp_path):
    images = tmp_path / "photos"
    images.mkdir()
    for i in range(2):
        Image.fromarray(scene.pinhole(scene.poses()[i], 300, 200, 200.0)).save(images / f"{i}.png")
    with pytest.raises(BadOption, match=r"0\.png is 300x200, and a panorama of the whole sphere is twice as wide"):
        reconstruct(images, tmp_path / "out", camera_model="EQUIRECTANGULAR")


def test_panoramas_off_takes_them_as_they_are(tmp_path):
    images = scene.write_panoramas(tmp_path / "photos", 2, 256)
    summary = reconstruct(images, tmp_path / "off", panoramas="off", matcher="sift", stop_after="images")
    assert summary.images == 2
    assert not (tmp_path / "off" / "cube_faces").exists()
    summary = reconstruct(images, tmp_path / "off", camera_model="EQUIRECTANGULAR", matcher="sift", stop_after="images")
    assert summary.images == 12
    summary = reconstruct(images, tmp_path / "off", panoramas="off", matcher="sift", stop_after="images")
    assert summary.images == 2
    assert not (tmp_path / "off" / "cube_faces").exists()
