"""Mapping that goes on from the model of fewer images, and when it does not."""

from dataclasses import replace

import numpy as np
import pycolmap
import pytest

from sfm.geometry.poses import pose_error_deg, relative_pose
from sfm.mapping import stage as mapping
from sfm.mapping.earlier_model import remember
from sfm.mapping.inputs import MappingInput
from tests.support.mapping_scene import NAMES, OPTIONS, camera_poses, poses_of


def of_images(data: MappingInput, names) -> MappingInput:
    """What mapping reads of some of the images."""
    rows = [i for i, record in enumerate(data.images) if record.name in names]
    return replace(
        data,
        images=tuple(data.images[i] for i in rows),
        keypoints=tuple(data.keypoints[i] for i in rows),
        geometries=tuple(g for g in data.geometries if {g.pair.name0, g.pair.name1} <= set(names)),
        matches=tuple(m for m in data.matches if {m.pair.name0, m.pair.name1} <= set(names)),
        grids={name: data.grids[name] for name in names},
    )


@pytest.fixture
def begun(mapping_data, tmp_path):
    """A results' folder with the model of the first four images."""
    mapping.reconstruct(of_images(mapping_data, NAMES[:4]), OPTIONS, tmp_path)
    return tmp_path


def test_new_images_join_the_model_that_is_there(mapping_data, begun):
    result = mapping.reconstruct(mapping_data, OPTIONS, begun)
    assert result.attempt == "earlier model"
    after = poses_of(pycolmap.Reconstruction(begun / "unrefined" / "0"))
    assert sorted(after) == NAMES
    for i, a in enumerate(NAMES):
        for j, b in enumerate(NAMES[:i]):
            found, wanted = relative_pose(after[a], after[b]), relative_pose(camera_poses()[i], camera_poses()[j])
            assert max(pose_error_deg(found, wanted)) < 0.5


@pytest.mark.parametrize("what", ["changed", "gone", "the same", "another camera", "damaged", "global"])
def test_mapping_begins_anew(mapping_data, begun, what):
    data, options = mapping_data, OPTIONS
    if what == "changed":
        data = replace(data, images=(replace(data.images[0], digest="other"), *data.images[1:]))
    elif what == "gone":
        data = of_images(data, NAMES[1:])
    elif what == "the same":
        data = of_images(data, NAMES[:4])
    elif what == "another camera":
        camera = replace(data.images[0].camera, model="RADIAL", params=np.array([600.0, 320, 240, 0, 0]))
        data = replace(data, images=tuple(replace(one, camera=camera) for one in data.images))
    elif what == "damaged":
        (begun / "unrefined" / "images.json").write_text('{"model": 3}')
    else:
        options = replace(options, mapper="global")
    assert mapping.reconstruct(data, options, begun).attempt == "default"


def test_a_start_that_new_images_do_not_fit_is_left(mapping_data, begun):
    """Poses that are wrong: the new images cannot join, and all are mapped anew."""
    folder = begun / "unrefined" / "0"
    model = pycolmap.Reconstruction(folder)
    rng = np.random.default_rng(0)
    for image_id in model.reg_image_ids():
        pose = model.images[image_id].cam_from_world()
        pose.translation = pose.translation + rng.normal(0, 1, 3)
        model.frames[model.images[image_id].frame_id].rig_from_world = pose
    model.write_binary(folder)
    remember(begun, of_images(mapping_data, NAMES[:4]).images)
    result = mapping.reconstruct(mapping_data, OPTIONS, begun)
    assert sorted(poses_of(result.models[0])) == NAMES
    after = poses_of(result.models[0])
    found = relative_pose(after[NAMES[0]], after[NAMES[5]])
    assert max(pose_error_deg(found, relative_pose(camera_poses()[0], camera_poses()[5]))) < 0.5
