"""A run over the images of two cameras that are mounted together, through refinement, and what COLMAP makes of it."""

from __future__ import annotations

import json

import numpy as np
import pycolmap
import pytest
from PIL import Image

from sfm.errors import BadFile
from sfm.geometry.poses import pose_error_deg, relative_pose, rotation_angle_deg
from sfm.pipeline.run import reconstruct
from sfm.rigs.averaging import square
from tests.support import panorama_scene as scene
from tests.support.rig_scene import compose, moved

pytestmark = pytest.mark.slow

WIDTH, HEIGHT, FOCAL, FRAMES = 400, 300, 280.0, 4
MOUNTED = moved(30.0, (0.25, 0.0, 0.0))
OPTIONS = {"matcher": "sift", "camera_model": "SIMPLE_PINHOLE", "no_report": True}


def true_poses():
    found = {}
    for i, rig_from_world in enumerate(scene.poses(FRAMES)):
        found[f"cam0/{i}.png"] = rig_from_world
        found[f"cam1/{i}.png"] = compose(MOUNTED, rig_from_world)
    return found


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rig") / "photos"
    for name, pose in true_poses().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene.pinhole(pose, WIDTH, HEIGHT, FOCAL)).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def finished(images):
    return images.parent / "out", reconstruct(images, images.parent / "out", **OPTIONS)


def notes(summary):
    return [note for stage in summary.stages for note in stage.notes]


def test_the_rig_is_found_said_and_refined(finished):
    out, summary = finished
    assert summary.registered == 2 * FRAMES
    assert summary.warnings == ()
    assert any(note.startswith("cam0/, cam1/ of equal file names: 2 cameras are a rig") for note in notes(summary))
    model = pycolmap.Reconstruction(str(out / "sparse" / "0"))
    assert (model.num_rigs(), model.num_frames(), model.num_cameras()) == (1, FRAMES, 2)
    (pose,) = (own.matrix() for rig in model.rigs.values() for own in rig.non_ref_sensors.values())
    assert rotation_angle_deg(pose[:, :3] @ MOUNTED[:, :3].T) < 0.1
    found = {image.name: image.cam_from_world().matrix() for image in model.images.values()}
    for a in range(FRAMES):
        for b in range(a):
            one, two = f"cam1/{a}.png", f"cam0/{b}.png"
            true = relative_pose(true_poses()[one], true_poses()[two])
            assert max(pose_error_deg(relative_pose(found[one], found[two]), true)) < 0.5


def test_devices_of_one_kind_have_one_calibration_to_the_end(finished):
    out, summary = finished
    assert any("have one calibration" in note for note in notes(summary))
    first, second = pycolmap.Reconstruction(str(out / "sparse" / "0")).cameras.values()
    np.testing.assert_array_equal(first.params, second.params)
    assert first.mean_focal_length() == pytest.approx(FOCAL, rel=0.01)
    assert any("8 images" in note for note in notes(summary))  # what calibrated it


def test_the_same_run_again_reuses_all(images, finished):
    assert all(stage.reused for stage in reconstruct(images, finished[0], **OPTIONS).stages)


def test_colmap_carries_on_from_the_refined_model(finished, tmp_path):
    out, _ = finished
    database = pycolmap.Database.open(out / "database.db")
    model = pycolmap.Reconstruction(str(out / "sparse" / "0"))
    (rig,) = database.read_all_rigs()
    (theirs,) = (own.matrix() for own in rig.non_ref_sensors.values())
    (ours,) = (own.matrix() for own in next(iter(model.rigs.values())).non_ref_sensors.values())
    database.close()
    np.testing.assert_allclose(theirs, ours, atol=1e-12)
    options = pycolmap.IncrementalPipelineOptions()
    options.extract_colors, options.num_threads, options.random_seed = False, 1, 0
    again = pycolmap.triangulate_points(model, out / "database.db", out, tmp_path, True, options, False)
    assert (again.num_rigs(), again.num_reg_images()) == (1, 2 * FRAMES)


def test_a_file_with_known_poses_gives_metres(images, tmp_path):
    x, y, z, w = pycolmap.Rotation3d(np.ascontiguousarray(MOUNTED[:, :3])).quat
    mounted = {"cam_from_rig_rotation": [w, x, y, z], "cam_from_rig_translation": MOUNTED[:, 3].tolist()}
    cameras = [{"image_prefix": "cam0/", "ref_sensor": True}, {"image_prefix": "cam1/", **mounted}]
    camera = {"camera_model_name": "SIMPLE_PINHOLE", "camera_params": [FOCAL, WIDTH / 2, HEIGHT / 2]}
    path = tmp_path / "rig_config.json"
    path.write_text(json.dumps([{"cameras": [own | camera for own in cameras]}]))
    reconstruct(images, tmp_path / "out", rig=str(path), **OPTIONS)
    model = pycolmap.Reconstruction(str(tmp_path / "out" / "sparse" / "0"))
    found = {image.name: square(image.cam_from_world().matrix()) for image in model.images.values()}
    centre = {name: np.linalg.inv(pose)[:3, 3] for name, pose in found.items()}
    true = {name: np.linalg.inv(square(pose))[:3, 3] for name, pose in true_poses().items()}
    distance = np.linalg.norm(centre["cam0/0.png"] - centre["cam0/3.png"])
    assert distance == pytest.approx(np.linalg.norm(true["cam0/0.png"] - true["cam0/3.png"]), rel=0.02)


def test_off_maps_each_image_on_its_own(images, tmp_path):
    summary = reconstruct(images, tmp_path / "out", rig="off", **OPTIONS)
    model = pycolmap.Reconstruction(str(tmp_path / "out" / "sparse" / "0"))
    assert model.num_frames() == 2 * FRAMES
    assert not any("rig" in note for note in notes(summary))


def test_a_file_that_is_not_there_is_named_before_any_work(images, tmp_path):
    with pytest.raises(BadFile, match=r"--rig rgi\.json: no such file, and neither auto nor off"):
        reconstruct(images, tmp_path / "out", rig="rgi.json", **OPTIONS)
    assert not (tmp_path / "out" / "features.h5").exists()
