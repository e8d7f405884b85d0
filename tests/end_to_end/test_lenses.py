"""Whole runs on images of other lenses than a phone's, and on images whose EXIF or motion says little of the lens."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from sfm.geometry.poses import pose_error_deg, relative_pose
from tests.support.fisheye_scene import PARAMS, poses, render
from tests.support.folders import SHARED

pytestmark = pytest.mark.slow

CPU = ("--weights", "compact", "--device", "cpu", "--offline", "--no-report")
NUM = 6


@pytest.fixture(scope="module")
def fisheye(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("fisheye") / "images"
    render(folder, NUM)
    return folder


@pytest.mark.parametrize("model", ["auto", "OPENCV_FISHEYE"])
def test_a_fisheye_lens_is_mapped_as_one(loftr_sfm, fisheye, model, tmp_path):
    """As SIMPLE_RADIAL its poses were 5 degrees off (median), with ten images."""
    out = tmp_path / "out"
    done = loftr_sfm(fisheye, out, "--camera-model", model, *CPU)
    assert done.returncode == 0, done.stderr
    found = pycolmap.Reconstruction(out / "sparse" / "0")
    (camera,) = found.cameras.values()
    assert camera.model_name == "OPENCV_FISHEYE"
    assert camera.mean_focal_length() == pytest.approx(PARAMS[0], rel=0.01)
    own = {int(image.name[:2]): image.cam_from_world().matrix() for image in found.images.values()}
    assert sorted(own) == list(range(NUM))
    true = poses(NUM)
    errors = [
        max(pose_error_deg(relative_pose(own[a], own[b]), relative_pose(true[a], true[b])))
        for a, b in combinations(range(NUM), 2)
    ]
    assert np.max(errors) < 0.5
    done = loftr_sfm("export", out, "undistorted", "--images", fisheye)
    assert done.returncode == 0, done.stderr
    (pinhole,) = pycolmap.Reconstruction(out / "undistorted" / "sparse").cameras.values()
    assert pinhole.model_name == "PINHOLE"
    assert pinhole.mean_focal_length() == pytest.approx(PARAMS[0], rel=0.01)
    assert 600 < pinhole.width < 1200  # 110 to 140 degrees across, of 134


def shared_case(name: str) -> Path:
    folder = SHARED / "cases" / name / "images"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


def test_a_car_that_drives_ahead(loftr_sfm, tmp_path):
    """It was f 165 px, and called probably bad."""
    done = loftr_sfm(shared_case("forward_turn"), tmp_path / "out", *CPU)
    assert done.returncode == 0, done.stderr
    found = pycolmap.Reconstruction(tmp_path / "out" / "sparse" / "0")
    assert found.num_reg_images() == 11
    assert next(iter(found.cameras.values())).mean_focal_length() == pytest.approx(371, rel=0.05)


def test_a_drone_that_looks_straight_down(loftr_sfm, tmp_path):
    """It was f 748 px of 1,000 with k1 and k2 (2,991 of 4,000); the lens has about 575."""
    out = tmp_path / "out"
    done = loftr_sfm(shared_case("nadir_focal"), out, "--resize", "480", *CPU)
    assert done.returncode == 0, done.stderr
    (camera,) = pycolmap.Reconstruction(out / "sparse" / "0").cameras.values()
    assert camera.model_name == "SIMPLE_RADIAL"
    assert camera.mean_focal_length() == pytest.approx(575, rel=0.1)
    assert "the focal length is EXIF's more than the images'" in done.stdout
    assert "±" in json.dumps(json.loads((out / "run.json").read_text()), ensure_ascii=False)
