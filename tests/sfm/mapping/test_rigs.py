"""Rigs in mapping: found in a free model, or not; images that only a rig registers; models that COLMAP goes on from."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pycolmap
import pytest

from sfm.colmap.model_reader import read_models
from sfm.geometry.poses import pose_error_deg, relative_pose, rotation_angle_deg
from sfm.mapping import rigs as R
from sfm.mapping.stage import reconstruct, unregistered
from sfm.options import MappingOptions
from sfm.rigs.layout import folder_rigs
from tests.support import rig_scene as scene

OPTIONS = MappingOptions(threads=1)
LOST = "cam1/3.png"  # which overlaps with nothing but its neighbour in time, and that too little


@cache
def rig_input():
    return scene.make_input(scene.true_poses())


@cache
def lost_input():
    return scene.make_input(scene.true_poses(), blind=((LOST, ()),))


def layout():
    return folder_rigs([record.name for record in rig_input().images])[0]


def poses_of(model):
    return {model.image(i).name: model.image(i).cam_from_world().matrix() for i in model.reg_image_ids()}


def worst_deg(model, truth):
    """Largest error of the relative poses of images that are a metre or more apart."""
    found = poses_of(model)
    names = sorted(found)
    return max(
        max(pose_error_deg(relative_pose(found[a], found[b]), own))
        for i, a in enumerate(names)
        for b in names[:i]
        if np.linalg.norm((own := relative_pose(truth[a], truth[b]))[:, 3]) > 1.0
    )


def test_cameras_that_are_mounted_together_have_one_pose_a_frame(tmp_path):
    mapped = reconstruct(rig_input(), OPTIONS, tmp_path, [layout()])
    (model,) = read_models(tmp_path / "unrefined")
    assert (model.num_rigs(), model.num_frames(), model.num_reg_images()) == (1, 5, 10)
    (rig,) = model.rigs.values()
    (pose,) = (own.matrix() for own in rig.non_ref_sensors.values())
    assert rotation_angle_deg(pose[:, :3] @ scene.CAM_FROM_RIG[1][:, :3].T) < 0.1
    assert worst_deg(model, scene.true_poses()) < 1.0
    assert mapped.notes == (
        "cam0/, cam1/ of equal file names: 2 cameras are a rig, mounted within 0.0 degrees by 5 frames",
    )


def test_an_image_that_matches_nothing_gets_its_pose_through_the_rig(tmp_path):
    free = reconstruct(lost_input(), OPTIONS, tmp_path / "free")
    assert unregistered(lost_input(), free.models) == ((LOST, "matched nothing: no pair of it was verified"),)
    mapped = reconstruct(lost_input(), OPTIONS, tmp_path / "rig", [layout()])
    assert mapped.models[0].num_reg_images() == 10
    assert not unregistered(mapped.data, mapped.models, mapped.left_out)
    assert worst_deg(mapped.models[0], scene.true_poses()) < 1.0
    assert mapped.notes[0].endswith("1 images more registered through it")


def test_folders_of_equal_names_that_are_no_rig_are_mapped_as_ever(tmp_path):
    data = scene.make_input(scene.true_poses(loose=6.0))
    mapped = reconstruct(data, OPTIONS, tmp_path / "auto", [layout()])
    ordinary = reconstruct(data, OPTIONS, tmp_path / "off")
    assert "no rig, the cameras move against each other" in mapped.notes[0]
    assert ordinary.notes == ()
    for name in ("cameras", "images", "points3D", "rigs", "frames"):
        own, other = (tmp_path / run / "unrefined" / "0" / f"{name}.bin" for run in ("auto", "off"))
        assert own.read_bytes() == other.read_bytes()


def test_cameras_that_shake_a_little_are_no_rig_where_one_pose_explains_less(tmp_path):
    data = scene.make_input(scene.true_poses(loose=2.0))
    mapped = reconstruct(data, OPTIONS, tmp_path, [layout()])
    assert mapped.models[0].num_frames() == 10
    assert "no rig" in mapped.notes[0]


def test_given_poses_give_the_model_its_scale(tmp_path):
    """The distance between the cameras is known in metres, and so are all others."""
    rig = replace(layout(), cam_from_rig=scene.CAM_FROM_RIG, fixed=True)
    model = reconstruct(rig_input(), OPTIONS, tmp_path, [rig]).models[0]
    centre = {name: -pose[:, :3].T @ pose[:, 3] for name, pose in poses_of(model).items()}
    true = {name: -pose[:, :3].T @ pose[:, 3] for name, pose in scene.true_poses().items()}
    for a, b in (("cam0/0.png", "cam0/4.png"), ("cam1/1.png", "cam1/3.png")):
        ratio = np.linalg.norm(centre[a] - centre[b]) / np.linalg.norm(true[a] - true[b])
        assert ratio == pytest.approx(1.0, abs=0.01)
    (own,) = (next(iter(r.non_ref_sensors.values())).matrix() for r in model.rigs.values())
    np.testing.assert_allclose(own, scene.CAM_FROM_RIG[1], atol=1e-9)


def test_given_poses_that_the_model_contradicts_are_not_taken(tmp_path):
    wrong = (scene.IDENTITY, scene.moved(-25.0, (0.3, 0.05, 0.0)))
    mapped = reconstruct(rig_input(), OPTIONS, tmp_path, [replace(layout(), cam_from_rig=wrong, fixed=True)])
    assert mapped.models[0].num_frames() == 10
    assert "the model contradicts the given poses in the rig" in mapped.notes[0]


def test_colmap_carries_on_from_the_model_and_its_database(tmp_path):
    reconstruct(lost_input(), OPTIONS, tmp_path, [layout()])
    folder, database = tmp_path / "unrefined" / "0", tmp_path / "database.db"
    options = pycolmap.IncrementalPipelineOptions()
    options.extract_colors, options.num_threads, options.random_seed = False, 1, 0
    start = pycolmap.Reconstruction(str(folder))
    (tmp_path / "a").mkdir()
    again = pycolmap.triangulate_points(start, database, tmp_path, tmp_path / "a", True, options, False)
    assert again.num_reg_images() == 10
    assert again.num_points3D() > 1000
    (tmp_path / "b").mkdir()
    models = pycolmap.incremental_mapping(database, tmp_path, tmp_path / "b", options, input_path=folder)
    assert [(m.num_reg_images(), m.num_rigs()) for m in models.values()] == [(10, 1)]


def test_what_refinement_reads_has_the_cameras_and_rigs_of_the_model(tmp_path):
    mapped = reconstruct(rig_input(), OPTIONS, tmp_path, [layout()])
    data = R.as_mapped(rig_input(), mapped.models[0], [layout()])
    (rig,) = data.rigs
    assert rig.prefixes == ("cam0/", "cam1/")
    assert rig.frames == layout().frames
    assert not rig.fixed
    (pose,) = (own.matrix() for r in mapped.models[0].rigs.values() for own in r.non_ref_sensors.values())
    np.testing.assert_allclose(rig.cam_from_rig[1], pose, atol=1e-12)
    ordinary = reconstruct(rig_input(), OPTIONS, tmp_path / "off")
    assert R.as_mapped(rig_input(), ordinary.models[0], [layout()]).rigs == ()


def test_a_camera_whose_images_are_of_several_devices_is_none_of_a_rig():
    data = rig_input()
    first = replace(data.images[0], camera=replace(data.images[0].camera, group="another"))
    assert R.split_cameras(replace(data, images=(first, *data.images[1:])), layout()) is None
    one = dict.fromkeys(("cam0", "cam1"), "the same")
    split = R.split_cameras(scene.make_input(scene.true_poses(num=2), groups=one, num_points=300), layout())
    assert {record.camera.group for record in split.images} == {"the same of cam0/", "the same of cam1/"}
