"""Which images may be of cameras that are mounted together, by their names or by COLMAP's file."""

from __future__ import annotations

import json

import numpy as np
import pycolmap
import pytest

from sfm.errors import BadFile
from sfm.rigs.layout import config_rigs, folder_rigs, read_rig_config, with_config_cameras
from sfm.types import CameraPrior, ImageRecord


def test_folders_of_equal_names_may_be_a_rig():
    names = [f"cam{k}/{i}.jpg" for k in range(3) for i in range(4)]
    (rig,) = folder_rigs(names)
    assert rig.prefixes == ("cam0/", "cam1/", "cam2/")
    assert rig.cam_from_rig is None
    assert not rig.fixed
    assert len(rig.frames) == 4
    assert rig.frames[2] == ("cam0/2.jpg", "cam1/2.jpg", "cam2/2.jpg")
    assert rig.names == frozenset(names)


def test_the_fullest_folder_is_the_reference_and_what_is_missing_is_none():
    (rig,) = folder_rigs(["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg", "b/3.jpg"])
    assert rig.prefixes == ("b/", "a/")
    assert rig.frames == (("b/1.jpg", "a/1.jpg"), ("b/2.jpg", "a/2.jpg"), ("b/3.jpg", None))


def test_deeper_folders_and_several_rigs_are_found():
    names = [f"{place}/{cam}/s/{i}.png" for place in ("roof", "yard") for cam in ("left", "right") for i in range(3)]
    names = [name.replace("roof", "roof") if "roof" in name else name.replace("s/", "t/x") for name in names]
    rigs = folder_rigs(names)
    assert [rig.prefixes for rig in rigs] == [("roof/left/", "roof/right/"), ("yard/left/", "yard/right/")]
    assert [len(rig.frames) for rig in rigs] == [3, 3]


@pytest.mark.parametrize(
    "names",
    [
        ["1.jpg", "2.jpg"],
        ["a/1.jpg", "a/2.jpg"],
        ["a/1.jpg", "a/2.jpg", "b/3.jpg", "b/4.jpg"],
        ["a/1.jpg", "a/2.jpg", "a/3.jpg", "b/1.jpg", "b/4.jpg", "b/5.jpg"],  # one name in common
        ["a/1.jpg", "b/1.jpg"],  # a single time
    ],
)
def test_other_folders_are_none(names):
    assert folder_rigs(names) == ()


def camera(prefix, **more):
    return {"image_prefix": prefix, **more}


def known(prefix, translation=(1, 0, 0)):
    return camera(prefix, cam_from_rig_rotation=[0, 1, 0, 0], cam_from_rig_translation=list(translation))


def write(tmp_path, value):
    path = tmp_path / "rig_config.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def test_a_file_is_read_as_colmap_reads_it(tmp_path):
    half = np.sqrt(0.5)
    entry = camera("b/", cam_from_rig_rotation=[half, 0, half, 0], cam_from_rig_translation=[0.1, 0.2, 0.3])
    entry |= {"camera_model_name": "PINHOLE", "camera_params": [500, 510, 320, 240]}
    path = write(tmp_path, [{"cameras": [entry, camera("a/", ref_sensor=True)]}])
    (own,) = read_rig_config(path)
    (theirs,) = pycolmap.read_rig_config(path)
    assert own.prefixes == ("a/", "b/")
    assert own.cam_from_rig is not None
    np.testing.assert_allclose(own.cam_from_rig[1], theirs.cameras[0].cam_from_rig.matrix(), atol=1e-12)
    assert own.cameras["b/"][0] == "PINHOLE"
    assert own.cameras["b/"][1].tolist() == [500, 510, 320, 240]


def test_its_rigs_hold_the_images_of_their_prefixes(tmp_path):
    path = write(tmp_path, [{"cameras": [camera("left_", ref_sensor=True), known("right_")]}])
    (rig,) = config_rigs(path, ["left_1.jpg", "left_2.jpg", "right_2.jpg", "other.jpg"])
    assert rig.fixed
    assert not rig.is_central
    assert rig.frames == (("left_1.jpg", None), ("left_2.jpg", "right_2.jpg"))


def test_without_all_poses_none_is_known(tmp_path):
    path = write(tmp_path, [{"cameras": [camera("a/", ref_sensor=True), known("b/"), camera("c/")]}])
    (rig,) = config_rigs(path, ["a/1.jpg", "b/1.jpg", "c/1.jpg"])
    assert rig.cam_from_rig is None
    assert not rig.fixed


def test_its_cameras_are_priors_of_the_images(tmp_path):
    entry = camera("a/", ref_sensor=True, camera_model_name="SIMPLE_PINHOLE", camera_params=[400, 32, 24])
    path = write(tmp_path, [{"cameras": [entry, camera("b/")]}])
    guess = CameraPrior("SIMPLE_RADIAL", np.array([77.0, 32, 24, 0]), False, "one")
    records = [ImageRecord(name, 64, 48, guess, "00") for name in ("a/1.jpg", "b/1.jpg")]
    first, second = with_config_cameras(records, path)
    assert first.camera.model == "SIMPLE_PINHOLE"
    assert first.camera.has_focal_prior
    assert first.camera.params.tolist() == [400, 32, 24]
    assert second.camera is guess


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "no rig_config.json"),
        ([], "no list of rigs with cameras"),
        ([{"cameras": [{"prefix": "a/"}]}], "no list of rigs with cameras"),
        ([{"cameras": [camera("a/", ref_sensor=True)]}], "a rig of 1 cameras"),
        ([{"cameras": [camera("a/"), camera("b/")]}], "0 cameras of a rig are its ref_sensor"),
        ([{"cameras": [camera("a/", ref_sensor=True), camera("a/b/")]}], "begins with another"),
        ([{"cameras": [camera("a/", ref_sensor=True), known("b/", (0, 1))]}], "must be 3 numbers"),
        (
            [{"cameras": [camera("a/", ref_sensor=True), known("b/") | {"cam_from_rig_rotation": [2, 0, 0, 0]}]}],
            "no unit quaternion",
        ),
        (
            [
                {
                    "cameras": [
                        camera("a/", ref_sensor=True, camera_model_name="PINHOLE", camera_params=[1]),
                        camera("b/"),
                    ]
                }
            ],
            "PINHOLE has 4",
        ),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(tmp_path, value, message):
    with pytest.raises(BadFile, match=message) as error:
        read_rig_config(write(tmp_path, value))
    assert "\n" not in str(error.value)
    assert "rig_config.json" in str(error.value)


def test_a_prefix_of_no_image_is_named(tmp_path):
    path = write(tmp_path, [{"cameras": [camera("a/", ref_sensor=True), known("wrong/")]}])
    with pytest.raises(BadFile, match=r"no image begins with image_prefix 'wrong/' \(there is a/1\.jpg"):
        config_rigs(path, ["a/1.jpg", "b/1.jpg"])
    with pytest.raises(BadFile, match=r"absent\.json: cannot be read"):
        read_rig_config(tmp_path / "absent.json")
