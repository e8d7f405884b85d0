"""mapping: an exact scene through verification, tracks and COLMAP; its files; reasons of unregistered images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from sfm import mapping as M
from sfm.errors import BadFile, NoModel
from sfm.geometry import pose_error_deg, relative_pose
from sfm.options import MappingOptions, TrackOptions, VerificationOptions
from sfm.tracks import build_tracks
from sfm.types import CameraPrior, ImagePair, ImageRecord, KeypointMatches, Keypoints, Matches
from sfm.verification import verify

WIDTH, HEIGHT, FOCAL, NUM = 640, 480, 600.0, 6
K = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
NAMES = [f"dir/{i}.jpg" for i in range(NUM)]
GRID = (8.0, 8.0, 80)
OPTIONS = MappingOptions(threads=1)


def camera_poses():
    """cam_from_world (3, 4) of cameras on an arc around the origin, 12 degrees apart."""
    poses = []
    for i in range(NUM):
        rotation = Rotation.from_euler("yx", [12.0 * i, 3.0 * (i % 2)], degrees=True).as_matrix()
        poses.append(np.concatenate([rotation, [[0.0], [0.0], [6.0]]], 1))
    return poses


def project(poses, xyz):
    return [(p := (xyz @ pose[:, :3].T + pose[:, 3]) @ K.T)[:, :2] / p[:, 2:] for pose in poses]


def semi_dense_pair(p0, p1, rng, share_false=0.1):
    """Rows as a detector-free matcher gives them: each end once on its cell's centre, the other moved with it."""
    cells = [(np.floor(p[:, 1] / 8) * 80 + np.floor(p[:, 0] / 8)).astype(np.int64) for p in (p0, p1)]
    centres = [np.stack([c % 80 + 0.5, c // 80 + 0.5], 1) * 8 for c in cells]
    noise = rng.normal(0, 0.2, (2, *p0.shape))
    points0 = np.concatenate([centres[0], p0 + centres[1] - p1 + noise[0]])
    points1 = np.concatenate([p1 + centres[0] - p0 + noise[1], centres[1]])
    wrong = rng.uniform(size=len(points0)) < share_false
    points1[wrong] = rng.uniform(0, [WIDTH, HEIGHT], (wrong.sum(), 2))
    limit = [WIDTH - 0.01, HEIGHT - 0.01]
    confidence = np.where(wrong, 0.3, 0.8) * rng.uniform(0.8, 1, len(wrong))
    ends = np.tile(cells[0], 2), np.tile(cells[1], 2)
    return Matches(np.clip(points0, 0, limit), np.clip(points1, 0, limit), confidence, *ends)


def record(name):
    prior = CameraPrior("SIMPLE_RADIAL", np.array([FOCAL, WIDTH / 2, HEIGHT / 2, 0.0]), True, "one")
    return ImageRecord(name, WIDTH, HEIGHT, prior, "")


def make_input(extra=()):
    rng = np.random.default_rng(1)
    xyz = rng.uniform([-1.5, -1.2, -1.5], [1.5, 1.2, 1.5], (700, 3))
    points = project(camera_poses(), xyz)
    items = []
    for i in range(NUM):
        for j in range(i + 1, NUM):
            inside = np.all(
                [(p > 8).all(1) & (p < [WIDTH - 8, HEIGHT - 8]).all(1) for p in (points[i], points[j])], axis=0
            )
            items.append((ImagePair(NAMES[i], NAMES[j]), semi_dense_pair(points[i][inside], points[j][inside], rng)))
    names = [*NAMES, *extra]
    records, grids = {n: record(n) for n in names}, dict.fromkeys(names, GRID)
    geometries = verify(items, records, grids, VerificationOptions(max_error=2.0))
    matches = dict(items)
    pairs = [(g, matches[g.pair]) for g in geometries if len(g.inliers)]
    result = build_tracks(names, pairs, grids, TrackOptions())
    return M.MappingInput(tuple(records.values()), result.keypoints, tuple(g for g, _ in pairs), result.matches, grids)


@pytest.fixture(scope="module")
def data():
    return make_input(extra=("zzz.jpg",))


@pytest.fixture(scope="module")
def built(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("out")
    models, strategy = M.reconstruct(
        data, OPTIONS, output, read_rgb=lambda _: np.full((HEIGHT, WIDTH, 3), [10, 200, 30], np.uint8)
    )
    return output, models, strategy


def poses_of(model):
    return {model.image(i).name: model.image(i).cam_from_world().matrix() for i in model.reg_image_ids()}


def test_poses_are_recovered_to_a_fraction_of_a_degree(built):
    _, models, strategy = built
    poses, truth = poses_of(models[0]), camera_poses()
    assert strategy == "default"
    assert sorted(poses) == NAMES
    for i in range(NUM):
        for j in range(i + 1, NUM):
            estimate = relative_pose(poses[NAMES[i]], poses[NAMES[j]])
            assert max(pose_error_deg(estimate, relative_pose(truth[i], truth[j]))) < 0.5
    assert models[0].compute_mean_track_length() > 3.0
    assert models[0].compute_mean_reprojection_error() < 0.5


def test_files_are_colmaps_own(built):
    output, models, _ = built
    found = {p.name for p in (output / "sparse" / "0").iterdir()}
    assert found >= {"cameras.bin", "images.bin", "points3D.bin", "rigs.bin", "frames.bin"}
    assert pycolmap.Reconstruction(output / "sparse" / "0").num_points3D() == models[0].num_points3D()
    assert sorted(p.name for p in output.iterdir()) == ["database.db", "points.ply", "sparse"]
    assert (output / "points.ply").read_bytes()[:3] == b"ply"


def test_points_take_their_colour_from_the_reader(built):
    output, _, _ = built
    model = pycolmap.Reconstruction(output / "sparse" / "0")
    assert {tuple(int(c) for c in p.color) for p in model.points3D.values()} == {(10, 200, 30)}


def test_database_reads_back_as_written(built, data):
    database = pycolmap.Database.open(built[0] / "database.db")
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


def test_same_seed_same_model(built, data, tmp_path):
    models, _ = M.reconstruct(data, OPTIONS, tmp_path)
    first, again = poses_of(built[1][0]), poses_of(models[0])
    assert all(np.array_equal(first[n], again[n]) for n in NAMES)


def test_two_photos_make_a_model(data, tmp_path):
    matches = tuple(m for m in data.matches if m.pair == ImagePair(NAMES[0], NAMES[2]))
    images, keypoints = (data.images[0], data.images[2]), (data.keypoints[0], data.keypoints[2])
    two = M.MappingInput(images, keypoints, data.geometries, matches, data.grids)
    models, _ = M.reconstruct(two, OPTIONS, tmp_path)
    assert models[0].num_reg_images() == 2
    assert models[0].num_points3D() > 0.5 * len(matches[0].indices)
    assert M.unregistered(two, models) == ()


def test_reasons_of_unregistered_images(built, data):
    reasons = dict(M.unregistered(data, built[1]))
    assert list(reasons) == ["zzz.jpg"]
    assert reasons["zzz.jpg"].startswith("matched nothing")
    weak = KeypointMatches(ImagePair(NAMES[0], "zzz.jpg"), np.stack([np.arange(12)] * 2, 1), np.ones(12))
    with_weak = M.MappingInput(data.images, data.keypoints, data.geometries, (*data.matches, weak), data.grids)
    assert M.unregistered(with_weak, built[1])[0][1] == f"too few inliers (12 at most, with {NAMES[0]})"


def test_an_old_model_survives_a_run_without_a_model(tmp_path, data):
    (tmp_path / "sparse" / "0").mkdir(parents=True)
    (tmp_path / "sparse" / "0" / "points3D.bin").write_bytes(b"old")
    nothing = M.MappingInput(
        data.images, tuple(Keypoints(np.zeros((0, 2)), np.zeros(0)) for _ in data.images), (), (), {}
    )
    with pytest.raises(NoModel, match="no pair was verified"):
        M.reconstruct(nothing, OPTIONS, tmp_path)
    assert (tmp_path / "sparse" / "0" / "points3D.bin").read_bytes() == b"old"
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_unwritable_output_is_one_clear_line(data, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(BadFile, match="cannot be written"):
        M.reconstruct(data, OPTIONS, Path(blocked) / "out")


def test_thresholds_follow_the_reduction_and_detectors_keep_colmaps(data):
    wide = M.MappingInput(
        data.images, data.keypoints, data.geometries, data.matches, dict.fromkeys(NAMES, (16.0, 16.0, 80))
    )
    sparse = M.MappingInput(data.images, data.keypoints, data.geometries, data.matches, dict.fromkeys(NAMES))
    default = pycolmap.IncrementalPipelineOptions().mapper
    as_sparse, as_wide = (M.mapper_options(d, OPTIONS, M.STRATEGIES[0]) for d in (sparse, wide))
    names = ("init_max_error", "abs_pose_max_error", "filter_max_reproj_error")
    assert [getattr(as_sparse.mapper, n) for n in names] == [getattr(default, n) for n in names] == [4, 12, 4]
    expected = [2 * e for e in (M.INIT_ERROR, M.REGISTRATION_ERROR, M.FILTER_ERROR)]
    assert [getattr(as_wide.mapper, n) for n in names] == expected
    assert as_wide.triangulation.merge_max_reproj_error == 2 * M.FILTER_ERROR
    assert {as_wide.random_seed, as_wide.mapper.random_seed, as_wide.triangulation.random_seed} == {OPTIONS.seed}


def with_cameras(data, params, has_focal_prior):
    prior = CameraPrior("SIMPLE_RADIAL", np.array(params), has_focal_prior, "one")
    return replace(data, images=tuple(replace(r, camera=prior) for r in data.images))


def test_given_intrinsics_stay_as_they_are(data, tmp_path):
    given = [1.01 * FOCAL, WIDTH / 2 + 1, HEIGHT / 2, 0.01]
    known = replace(with_cameras(data, given, True), known_intrinsics=True)
    models, _ = M.reconstruct(known, OPTIONS, tmp_path)
    np.testing.assert_array_equal(models[0].cameras[1].params, given)
    assert models[0].num_reg_images() == NUM


def test_held_distortion_leaves_the_focal_length_free(data):
    options = M.mapper_options(data, OPTIONS, M.STRATEGIES[0], hold_distortion=True)
    assert not options.ba_refine_extra_params
    assert not options.mapper.abs_pose_refine_extra_params
    assert options.ba_refine_focal_length
    assert options.mapper.abs_pose_refine_focal_length


def test_a_further_attempt_begins_at_the_focal_length_that_the_best_model_found(built, data):
    guessed = with_cameras(data, [1.2 * WIDTH, WIDTH / 2, HEIGHT / 2, 0.0], False)
    first = M.Attempt("default", M.STRATEGIES[0], guessed)
    found = built[1][0].cameras[1].mean_focal_length()
    (refined,) = M._again(first, built[1], NUM)
    assert refined.hold_distortion
    assert {r.camera.params[0] for r in refined.data.images} == {found}
    names = [a.name for a in M._again(first, built[1], 3 * NUM)]
    assert names == ["refined focal", "long focal", "longest focal"]
    focals = [a.data.images[0].camera.params[0] / WIDTH for a in M._again(first, [], NUM)]
    assert focals == [2.5, 5.0]


def test_focal_lengths_with_a_prior_are_not_replaced(built, data):
    (again,) = M._again(M.Attempt("default", M.STRATEGIES[0], data), built[1], 3 * NUM)
    assert {r.camera.params[0] for r in again.data.images} == {FOCAL}


def test_support_counts_images_times_observations_of_long_tracks(built):
    model = built[1][0]
    lengths = [p.track.length() for p in model.points3D.values()]
    assert M.support(model) == NUM * sum(n for n in lengths if n >= 3) > 0
