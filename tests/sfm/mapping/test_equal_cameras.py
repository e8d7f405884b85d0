"""Folders of few images without EXIF: one calibration where it explains as much, several where devices differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sfm.mapping.equal_cameras import cameras_as_mapped, equal_cameras, with_equal_cameras
from sfm.mapping.stage import reconstruct
from sfm.options import MappingOptions
from sfm.rigs.layout import folder_rigs
from tests.support import rig_scene as scene

OPTIONS = MappingOptions(threads=1)
FEW = 4  # frames


def unknown_input(focals=None):
    """Two cameras of which nothing is known, four images each."""
    return scene.make_input(scene.true_poses(num=FEW), priors=False, focals=focals)


def focals_of(model):
    return {model.image(i).name[:4]: model.image(i).camera.mean_focal_length() for i in model.reg_image_ids()}


def test_only_unknown_cameras_of_one_size_and_few_images_may_be_equal():
    data = unknown_input()
    groups = {record.camera.group for record in with_equal_cameras(data).images}
    assert groups == {"devices of one kind, 640x480"}
    known = replace(data, images=tuple(replace(r, camera=replace(r.camera, has_focal_prior=True)) for r in data.images))
    assert with_equal_cameras(known) is None  # by EXIF, or the user
    named = [replace(r, camera=replace(r.camera, group=f"a phone {r.name[:4]}")) for r in data.images]
    assert with_equal_cameras(replace(data, images=tuple(named))) is None
    sizes = [replace(r, width=r.width + (r.name[:4] == "cam1")) for r in data.images]
    assert with_equal_cameras(replace(data, images=tuple(sizes))) is None
    many = scene.make_input(scene.true_poses(num=5), priors=False, num_points=300)
    assert with_equal_cameras(many) is None  # five images determine a camera


def test_equal_devices_have_one_calibration(tmp_path):
    mapped = reconstruct(unknown_input(), OPTIONS, tmp_path)
    assert mapped.notes == (
        "2 cameras without EXIF have one calibration: it explains the images as well as one for each",
    )
    assert len(set(focals_of(mapped.models[0]).values())) == 1
    assert focals_of(mapped.models[0])["cam0"] == pytest.approx(scene.FOCAL, rel=0.03)
    found = cameras_as_mapped(unknown_input(), mapped.models[0])
    assert {record.camera.group for record in found.images} == {"devices of one kind, 640x480"}


def test_different_devices_keep_a_calibration_each(tmp_path):
    data = unknown_input({"cam0": 420.0, "cam1": 760.0})
    mapped = reconstruct(data, OPTIONS, tmp_path)
    found = focals_of(mapped.models[0])
    assert found["cam0"] == pytest.approx(420.0, rel=0.05)
    assert found["cam1"] == pytest.approx(760.0, rel=0.05)
    assert mapped.notes == ()
    assert cameras_as_mapped(data, mapped.models[0]) is data


def test_equal_devices_of_a_rig_stay_equal(tmp_path):
    """In COLMAP cameras of a rig are several: that they have the same parameters says that they are one."""
    data = unknown_input()
    rig = folder_rigs([record.name for record in data.images])[0]
    mapped = reconstruct(data, OPTIONS, tmp_path, [rig])
    model = mapped.models[0]
    assert (model.num_cameras(), model.num_rigs(), model.num_reg_images()) == (2, 1, 8)
    np.testing.assert_array_equal(*(camera.params for camera in model.cameras.values()))
    assert equal_cameras(model) == {2: 1}
    assert focals_of(model)["cam1"] == pytest.approx(scene.FOCAL, rel=0.03)
    assert {r.camera.group for r in cameras_as_mapped(data, model).images} == {"devices of one kind, 640x480"}
