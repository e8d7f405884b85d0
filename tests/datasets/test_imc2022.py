"""The challenge's layout: written and read back, and every way in which its files can be wrong."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from sfm.datasets.colmap_model import PosedImage, build_model
from sfm.datasets.courtyard.synthetic import write_scene as write_images
from sfm.datasets.imc2022 import (
    Sample,
    read_calibration,
    read_covisible_pairs,
    read_scaling_factors,
    read_submission,
    read_test_pairs,
    write_scene,
    write_submission,
    write_test,
)
from sfm.errors import BadFile
from sfm.evaluation.model import camera_poses, read_model
from sfm.evaluation.pose_metrics import challenge_errors
from sfm.geometry.epipolar import epipolar_distance
from sfm.geometry.poses import relative_pose

ONE, ZEROS = "1 0 0 0 1 0 0 0 1", " ".join("0" * 9)


# --- a scene of ours and back --------------------------------------------------------------------


@pytest.fixture(scope="module")
def layout(synthetic_scene, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("imc")
    write_images(synthetic_scene, folder / "courtyard")
    images = folder / "courtyard" / "images"
    write_scene(read_model(folder / "courtyard" / "gt"), images, folder / "imc", "courtyard", metres_per_unit=2.5)
    write_scene(read_model(folder / "courtyard" / "gt"), images, folder / "imc", "again")
    write_test(folder / "imc", "b1", images, [(synthetic_scene.names[2], synthetic_scene.names[0])])
    return folder / "imc"


def test_cameras_come_back(layout, synthetic_scene) -> None:
    cameras = read_calibration(layout / "train" / "courtyard")
    assert list(cameras) == [Path(name).stem for name in synthetic_scene.names]
    for camera, pose in zip(cameras.values(), synthetic_scene.cam_from_world, strict=True):
        np.testing.assert_allclose(camera.K, synthetic_scene.K, rtol=1e-12)
        np.testing.assert_allclose(camera.cam_from_world, pose, atol=1e-9)
    assert read_scaling_factors(layout) == {"courtyard": 2.5, "again": 1.0}


def test_written_matrices_agree_with_cameras_and_with_exact_matches(layout, synthetic_scene) -> None:
    cameras = read_calibration(layout / "train" / "courtyard")
    pairs = list(read_covisible_pairs(layout / "train" / "courtyard", cameras, min_covisibility=0.0))
    number = {Path(name).stem: i for i, name in enumerate(synthetic_scene.names)}
    assert len(pairs) == len(cameras) * (len(cameras) - 1) // 2
    for pair in pairs:
        one, two = cameras[pair.image_1], cameras[pair.image_2]
        ground_truth = relative_pose(one.cam_from_world, two.cam_from_world)
        assert challenge_errors(pair.F, one.K, two.K, ground_truth, 2.5) == pytest.approx((0, 0), abs=1e-5)
        xy_1, xy_2 = synthetic_scene.exact_matches(number[pair.image_1], number[pair.image_2], step=16)
        assert epipolar_distance(xy_1, xy_2, pair.F).max() < 1e-3
        assert pair.image_1 > pair.image_2  # as in the challenge
        assert 0 <= pair.covisibility <= 1


def test_covisibility_tells_near_pairs_from_far_ones_and_has_a_threshold(layout) -> None:
    place = layout / "train" / "courtyard"
    cameras = read_calibration(place)
    ids = sorted(cameras)
    shares = {(p.image_2, p.image_1): p.covisibility for p in read_covisible_pairs(place, cameras, min_covisibility=0)}
    assert shares[ids[0], ids[1]] > shares[ids[0], ids[-1]]
    bound = shares[ids[0], ids[1]]
    kept = [p.covisibility for p in read_covisible_pairs(place, cameras, min_covisibility=bound)]
    assert sorted(kept) == sorted(share for share in shares.values() if share >= bound)
    assert len(kept) < len(shares)


def test_images_are_there(layout, synthetic_scene) -> None:
    for name in synthetic_scene.names:
        with Image.open(layout / "train" / "courtyard" / "images" / f"{Path(name).stem}.jpg") as image:
            assert image.size == synthetic_scene.size
    samples = read_test_pairs(layout)
    first, third = (Path(synthetic_scene.names[i]).stem for i in (0, 2))
    assert samples == [Sample(f"b1;{third}-{first}", "b1", third, first)]
    with Image.open(layout / "test_images" / "b1" / f"{third}.png") as image:
        assert (image.format, image.size) == ("PNG", synthetic_scene.size)


def test_fountain(shared_dir, tmp_path) -> None:
    source = shared_dir / "datasets" / "strecha_fountain_p11"
    if not (source / "gt").is_dir():
        pytest.skip(f"no {source}")
    model = read_model(source / "gt")
    write_scene(model, source / "images", tmp_path, "fountain")
    cameras = read_calibration(tmp_path / "train" / "fountain")
    poses = camera_poses(model)
    assert list(cameras) == [Path(name).stem for name in poses]
    for camera, pose in zip(cameras.values(), poses.values(), strict=True):
        np.testing.assert_allclose(camera.cam_from_world, pose, atol=1e-9)
    pairs = list(read_covisible_pairs(tmp_path / "train" / "fountain", cameras))
    assert len(pairs) == 55
    assert {pair.covisibility for pair in pairs} == {1.0}  # the model has no points that could tell


# --- submissions ---------------------------------------------------------------------------------


def test_submission_comes_back_exactly(tmp_path) -> None:
    F = np.random.default_rng(0).normal(size=(3, 3)) * 1e-7
    path = tmp_path / "submission.csv"
    write_submission(path, {"a;b;c-d": F, 'odd,"id"': None})
    assert path.read_text().splitlines()[0] == "sample_id,fundamental_matrix"
    words = path.read_text().splitlines()[1].partition(",")[2].split(" ")
    assert [float(word) for word in words] == F.ravel().tolist()
    found = read_submission(path)
    np.testing.assert_array_equal(found["a;b;c-d"], F)
    assert not found['odd,"id"'].any()
    with path.open(newline="") as file:
        assert len(list(csv.reader(file))) == 3


# --- files that are wrong ------------------------------------------------------------------------


def write(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return folder


HEAD = "image_id,camera_intrinsics,rotation_matrix,translation_vector"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["image_id,camera_intrinsics,rotation_matrix", f"a,{ONE},{ONE}"], "no column translation_vector"),
        ([], "no column image_id"),
        ([HEAD, f"a,{ONE},{ONE},0 0 0", f"b,{ONE} 1,{ONE},0 0 0"], "line 3: camera_intrinsics holds 10 numbers"),
        ([HEAD, f"a,{ONE},{ONE},0 0"], "translation_vector holds 2 numbers, expected 3"),
        ([HEAD, f"a,{ONE},{ONE},0 nan 0"], "line 2: translation_vector holds a number that is not finite"),
        ([HEAD, f"a,{ONE},{ONE},0 inf 0"], "not finite"),
        ([HEAD, f"a,{ONE},{ONE},0 x 0"], "something that is no number"),
        ([HEAD, f"a,{ZEROS},{ONE},0 0 0"], "no calibration matrix"),
        ([HEAD, f"a,{ONE},2 0 0 0 1 0 0 0 1,0 0 0"], "rotation_matrix is no rotation"),
        ([HEAD, f"a,{ONE},-1 0 0 0 1 0 0 0 1,0 0 0"], "rotation_matrix is no rotation"),
        ([HEAD, f"a,{ONE},{ONE},0 0 0", f"a,{ONE},{ONE},0 0 0"], "line 3: image a a second time"),
        ([HEAD, f"../../etc/passwd,{ONE},{ONE},0 0 0"], "cannot be a file's name"),
        ([HEAD, f"..,{ONE},{ONE},0 0 0"], "cannot be a file's name"),
        ([HEAD, f"a\\b,{ONE},{ONE},0 0 0"], "cannot be a file's name"),
        ([HEAD, f"/etc/passwd,{ONE},{ONE},0 0 0"], "cannot be a file's name"),
        ([HEAD, f",{ONE},{ONE},0 0 0"], "cannot be a file's name"),
        ([HEAD, f"a,{ONE},{ONE}"], "line 2: 3 values, but the first line names 4 columns"),
        ([HEAD, f'a,"{ONE},{ONE},0 0 0'], "not a CSV file"),
        ([HEAD, "a," + "1 " * 40000], "longer than"),
    ],
)
def test_bad_calibration_is_one_line(lines, said, tmp_path) -> None:
    write(tmp_path, "calibration.csv", *lines)
    with pytest.raises(BadFile) as error:
        read_calibration(tmp_path)
    assert said in str(error.value)
    assert str(tmp_path / "calibration.csv") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([f"a-b,0.5,{ONE}", f"a-b,0.5,{ONE}"], "line 3: pair a-b a second time"),
        ([f"a-z,0.5,{ONE}"], "not ID1-ID2 with two images"),
        ([f"ab,0.5,{ONE}"], "not ID1-ID2"),
        ([f"a-a,0.5,{ONE}"], "not ID1-ID2"),
        ([f"a-b,much,{ONE}"], "something that is no number"),
        (["a-b,0.5,1 2 3"], "fundamental_matrix holds 3 numbers, expected 9"),
        (["a-b,0.5,1 0 0 0 1 0 0 0 nan"], "not finite"),
    ],
)
def test_bad_pairs_are_one_line(lines, said, tmp_path) -> None:
    write(tmp_path, "pair_covisibility.csv", "pair,covisibility,fundamental_matrix", *lines)
    with pytest.raises(BadFile) as error:
        list(read_covisible_pairs(tmp_path, ["a", "b", "c"]))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_pairs_below_a_tenth_do_not_count_and_ids_may_hold_hyphens(tmp_path) -> None:
    rows = [("a-1-b", 0.1), ("b-a-1", 0.0999), ("c-b", 0.8)]
    lines = [f"{ONE},beside,{covisibility},{pair}" for pair, covisibility in rows]
    write(tmp_path, "pair_covisibility.csv", "\ufefffundamental_matrix,extra,covisibility,pair", *lines, "")
    pairs = list(read_covisible_pairs(tmp_path, ["a-1", "b", "c"]))
    assert [(p.image_1, p.image_2) for p in pairs] == [("a-1", "b"), ("c", "b")]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["scene,scaling_factor", "a,1", "a,2"], "line 3: scene a a second time"),
        (["scene,scaling_factor", "a,-1"], "no positive scale"),
        (["scene,scaling_factor", "../a,1"], "cannot be a file's name"),
        (["scene,scaling_factor"], "names no scene"),
        (["scene", "a"], "no column scaling_factor"),
    ],
)
def test_bad_scales_are_one_line(lines, said, tmp_path) -> None:
    write(tmp_path, "train/scaling_factors.csv", *lines)
    with pytest.raises(BadFile, match=r"scaling_factors\.csv") as error:
        read_scaling_factors(tmp_path)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["s,b,x,y", "s,b,x,z"], "line 3: sample s a second time"),
        (["s,../b,x,y"], "batch_id '../b' cannot be"),
        (["s,b,../x,y"], "image_1_id '../x' cannot be"),
        ([], "names no pair"),
    ],
)
def test_bad_test_files_are_one_line(lines, said, tmp_path) -> None:
    write(tmp_path, "test.csv", "sample_id,batch_id,image_1_id,image_2_id", *lines)
    with pytest.raises(BadFile) as error:
        read_test_pairs(tmp_path)
    assert said in str(error.value)


def test_missing_and_foreign_files_are_one_line(tmp_path) -> None:
    with pytest.raises(BadFile, match=r"calibration\.csv: cannot be read"):
        read_calibration(tmp_path)
    (tmp_path / "calibration.csv").write_bytes(b"\xff\xd8\xff\xe0 JFIF")
    with pytest.raises(BadFile, match="not a CSV file"):
        read_calibration(tmp_path)


# --- what the layout cannot hold -----------------------------------------------------------------


def model_of(*names: str, camera_model: str = "PINHOLE") -> pycolmap.Reconstruction:
    params = np.array([100.0, 100, 32, 24] if camera_model == "PINHOLE" else [100.0, 32, 24, 0.1])
    return build_model([PosedImage(name, np.eye(3, 4), camera_model, (64, 48), params) for name in names])


def test_distortion_is_refused_before_anything_is_written(tmp_path) -> None:
    with pytest.raises(BadFile, match="undistort"):
        write_scene(model_of("a.jpg", camera_model="SIMPLE_RADIAL"), tmp_path, tmp_path / "imc", "s")
    assert not (tmp_path / "imc").exists()


def test_names_that_make_one_id_are_refused(tmp_path) -> None:
    with pytest.raises(BadFile, match="distinct ids"):
        write_scene(model_of("a/b.jpg", "a-b.jpg"), tmp_path, tmp_path / "imc", "s")
    with pytest.raises(BadFile, match="folder's name"):
        write_scene(model_of("a.jpg"), tmp_path, tmp_path / "imc", "../s")
