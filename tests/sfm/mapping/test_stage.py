"""mapping: an exact scene through verification, tracks and COLMAP; its files; reasons of unregistered images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from sfm.errors import BadFile, NoModel
from sfm.geometry.poses import pose_error_deg, relative_pose
from sfm.mapping import stage as M
from sfm.mapping.inputs import Attempt, MappingInput, Strategy
from sfm.mapping.retry_strategy import Outcome
from sfm.types import ImagePair, KeypointMatches, Keypoints
from tests.support.mapping_scene import (
    FOCAL,
    HEIGHT,
    NAMES,
    NUM,
    OPTIONS,
    WIDTH,
    K,
    camera_poses,
    poses_of,
    with_cameras,
)


def assert_poses_are_right(poses, limit_deg):
    ground_truth = camera_poses()
    for i in range(NUM):
        for j in range(i + 1, NUM):
            estimate = relative_pose(poses[NAMES[i]], poses[NAMES[j]])
            assert max(pose_error_deg(estimate, relative_pose(ground_truth[i], ground_truth[j]))) < limit_deg


def test_poses_are_recovered_to_a_fraction_of_a_degree(mapped):
    _, result = mapped
    model = result.models[0]
    assert result.attempt == "default"
    assert sorted(poses_of(model)) == NAMES
    assert_poses_are_right(poses_of(model), 0.5)
    assert model.compute_mean_track_length() > 3.0
    assert model.compute_mean_reprojection_error() < 0.5


def test_global_mapping_recovers_them_too(mapping_data, tmp_path):
    result = M.reconstruct(mapping_data, replace(OPTIONS, mapper="global"), tmp_path)
    model = pycolmap.Reconstruction(tmp_path / "unrefined" / "0")
    assert sorted(poses_of(model)) == NAMES
    assert_poses_are_right(poses_of(model), 0.5)
    assert result.models[0].num_points3D() == model.num_points3D() > 500
    assert [name for name, _ in M.unregistered(mapping_data, result.models)] == ["zzz.jpg"]


def test_files_are_colmaps_own(mapped):
    output, result = mapped
    found = {p.name for p in (output / "unrefined" / "0").iterdir()}
    assert found >= {"cameras.bin", "images.bin", "points3D.bin", "rigs.bin", "frames.bin"}
    assert pycolmap.Reconstruction(output / "unrefined" / "0").num_points3D() == result.models[0].num_points3D()
    assert sorted(p.name for p in output.iterdir()) == ["database.db", "unrefined"]


def test_database_reads_back_as_written(mapped, mapping_data):
    data = mapping_data
    database = pycolmap.Database.open(mapped[0] / "database.db")
    try:
        assert [(i.image_id, i.name) for i in database.read_all_images()] == [
            (k + 1, r.name) for k, r in enumerate(data.images)
        ]
        assert (database.num_cameras(), database.num_rigs(), database.num_frames()) == (1, 1, NUM + 1)
        np.testing.assert_array_equal(database.read_keypoints(2)[:, :2], data.keypoints[1].xy)
        two_view = database.read_two_view_geometry(1, 2)
        matches = next(m for m in data.matches if m.pair == ImagePair(NAMES[0], NAMES[1]))
        np.testing.assert_array_equal(two_view.inlier_matches, matches.indices)
        geometry = next(g for g in data.geometries if g.pair == matches.pair)
        np.testing.assert_allclose(two_view.cam2_from_cam1.matrix(), geometry.cam1_from_cam0, atol=1e-9)
    finally:
        database.close()


def test_same_seed_same_model(mapped, mapping_data, tmp_path):
    again = M.reconstruct(mapping_data, OPTIONS, tmp_path)
    first, second = poses_of(mapped[1].models[0]), poses_of(again.models[0])
    assert all(np.array_equal(first[n], second[n]) for n in NAMES)


def test_two_images_make_a_model(mapping_data, tmp_path):
    data = mapping_data
    matches = tuple(m for m in data.matches if m.pair == ImagePair(NAMES[0], NAMES[2]))
    images, keypoints = (data.images[0], data.images[2]), (data.keypoints[0], data.keypoints[2])
    geometries = tuple(g for g in data.geometries if g.pair == matches[0].pair)
    two = replace(data, images=images, keypoints=keypoints, matches=matches, geometries=geometries)
    result = M.reconstruct(two, OPTIONS, tmp_path)
    assert result.models[0].num_reg_images() == 2
    assert result.models[0].num_points3D() > 0.5 * len(matches[0].indices)
    assert M.unregistered(two, result.models) == ()


def test_reasons_of_unregistered_images(mapped, mapping_data):
    data, models = mapping_data, mapped[1].models
    reasons = dict(M.unregistered(data, models))
    assert list(reasons) == ["zzz.jpg"]
    assert reasons["zzz.jpg"].startswith("matched nothing")
    weak = KeypointMatches(ImagePair(NAMES[0], "zzz.jpg"), np.stack([np.arange(12)] * 2, 1), np.ones(12))
    with_weak = replace(data, matches=(*data.matches, weak))
    assert M.unregistered(with_weak, models)[0][1] == f"too few inliers (12 at most, with {NAMES[0]})"
    assert M.unregistered(data, models, {"zzz.jpg": "because"}) == (("zzz.jpg", "because"),)


def test_a_misregistered_image_is_taken_out_and_says_so(mapped, mapping_data):
    model = pycolmap.Reconstruction(mapped[1].models[0])
    outcome = Outcome(
        Attempt("default", Strategy("", 0, 0, 0, 0), mapping_data), (model,), frozenset({NAMES[2]}), Path()
    )
    left_out = M.drop_misregistered(outcome)
    assert sorted(poses_of(model)) == [n for n in NAMES if n != NAMES[2]]
    assert dict(M.unregistered(mapping_data, [model], left_out))[NAMES[2]] == M.MISREGISTERED
    assert min(p.track.length() for p in model.points3D.values()) >= 2


def test_an_old_model_survives_a_run_without_a_model(tmp_path, mapping_data):
    (tmp_path / "unrefined" / "0").mkdir(parents=True)
    (tmp_path / "unrefined" / "0" / "points3D.bin").write_bytes(b"old")
    empty = tuple(Keypoints(np.zeros((0, 2)), np.zeros(0)) for _ in mapping_data.images)
    for mapper in ("incremental", "global"):
        with pytest.raises(NoModel, match="no pair was verified"):
            M.reconstruct(
                MappingInput(mapping_data.images, empty, (), (), {}), replace(OPTIONS, mapper=mapper), tmp_path
            )
    assert (tmp_path / "unrefined" / "0" / "points3D.bin").read_bytes() == b"old"
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_unwritable_output_is_one_clear_line(mapping_data, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(BadFile, match="cannot be written"):
        M.reconstruct(mapping_data, OPTIONS, Path(blocked) / "out")


@pytest.mark.parametrize("mapper", ["incremental", "global"])
def test_given_intrinsics_stay_as_they_are(mapping_data, tmp_path, mapper):
    given = [1.01 * FOCAL, WIDTH / 2 + 1, HEIGHT / 2, 0.01]
    known = replace(with_cameras(mapping_data, given, True), known_intrinsics=True)
    result = M.reconstruct(known, replace(OPTIONS, mapper=mapper), tmp_path)
    np.testing.assert_array_equal(result.models[0].cameras[1].params, given)
    assert result.models[0].num_reg_images() == NUM


def known_model(path, names, size=(WIDTH, HEIGHT)):
    """A COLMAP model with the true poses of the images, in a world of its own scale and frame, and odd ids."""
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(model="PINHOLE", width=size[0], height=size[1], params=[FOCAL, FOCAL, *K[:2, 2]])
    camera.camera_id = 7
    model.add_camera_with_trivial_rig(camera)
    rotation = Rotation.from_rotvec([0.3, 1.0, -0.4]).as_matrix()
    poses = {}
    for i, name in enumerate(names):
        true = camera_poses()[NAMES.index(name)] if name in NAMES else camera_poses()[0]
        poses[name] = np.concatenate([true[:, :3] @ rotation, 10 * true[:, 3:]], axis=1)
        image = pycolmap.Image(name=name, camera_id=7, image_id=40 - i)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(poses[name]))
    path.mkdir()
    model.write_text(path)
    return poses


def test_known_poses_and_cameras_are_kept(mapping_data, tmp_path):
    poses = known_model(tmp_path / "known", [*NAMES[:4], "elsewhere.jpg"])
    result = M.reconstruct(mapping_data, replace(OPTIONS, known_poses=tmp_path / "known"), tmp_path / "out")
    model = pycolmap.Reconstruction(tmp_path / "out" / "unrefined" / "0")
    found = poses_of(model)
    assert sorted(found) == NAMES[:4]
    assert all(np.allclose(found[name], poses[name], atol=1e-12) for name in found)
    image = next(i for i in model.images.values() if i.name == NAMES[0])
    np.testing.assert_array_equal(image.camera.params, [FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2])
    assert model.num_points3D() > 300
    assert model.compute_mean_reprojection_error() < 0.6
    reasons = dict(M.unregistered(mapping_data, result.models, result.left_out))
    assert reasons == dict.fromkeys([*NAMES[4:], "zzz.jpg"], "not in the model of known poses")


@pytest.mark.parametrize(
    ("names", "size", "message"),
    [(["other.jpg"], (WIDTH, HEIGHT), "none of the images"), (NAMES, (WIDTH // 2, HEIGHT), "320 x 480 px, the image")],
)
def test_poses_of_other_images_are_one_clear_line(mapping_data, tmp_path, names, size, message):
    known_model(tmp_path / "known", names, size)
    with pytest.raises(BadFile, match=message) as error:
        M.reconstruct(mapping_data, replace(OPTIONS, known_poses=tmp_path / "known"), tmp_path / "out")
    assert str(tmp_path / "known") in str(error.value)
    assert "\n" not in str(error.value)
