"""refinement: whole rounds on a roof that is photographed exactly, what must stay, and rounds that survive a kill."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from sfm.colmap.log import adjust_bundle
from sfm.colmap.model_arrays import ModelColumns
from sfm.geometry.epipolar import pose_error_deg, relative_pose
from sfm.options import MappingOptions, RefinementOptions
from sfm.refinement import stage as R
from sfm.refinement.checkpoint import _digest
from tests.support.plane_scene import (
    NAMES,
    PARAMS,
    make_input,
    make_model,
    perturbed,
    photo,
    poses,
    project,
    surface_points,
    truth_of,
)

WRONG = 3  # points of image 1 whose observations are of something else
LEFT_OUT = (("5.png", "no verified pair"), ("4.png", "too few matches"))


def refiner_of(data, **changes):
    made = R.Refiner(data, RefinementOptions(), MappingOptions(threads=1), lambda name: photo(NAMES.index(name)))
    return replace(made, **changes)


def mapped(observations, images=range(5)):
    """What mapping would make of the observations: all poses and points fitted to them, intrinsics held."""
    xyz = surface_points()
    model = make_model(xyz, observations, images=images)
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_focal_length = options.refine_extra_params = False
    adjust_bundle(model, options)
    return model


@pytest.fixture(scope="module")
def observations():
    """Of each image (N, 2), 1 px off; a few are of another place altogether."""
    found = perturbed(surface_points(), 1.0)
    found[1][:WRONG] += [9.0, 7.0]
    return found


@pytest.fixture(scope="module")
def data(observations):
    return make_input(observations, known_intrinsics=True)


@pytest.fixture(scope="module")
def model(observations):
    """Read only."""
    return mapped(observations)


@pytest.fixture(scope="module")
def refined(data, model, tmp_path_factory):
    """Two rounds with known intrinsics: the state after each, and the scratch folder. Read only."""
    scratch = tmp_path_factory.mktemp("rounds")
    refiner = refiner_of(data)
    first = refiner.next_round(refiner.start(model), scratch)
    return first, refiner.next_round(first, scratch), scratch


def largest_error_deg(model):
    """Largest error of the relative poses of all images, degrees."""
    found = {m.name: m.cam_from_world().matrix() for m in model.images.values()}
    truth = dict(zip(NAMES, poses(), strict=True))
    names = sorted(found)
    return max(
        max(pose_error_deg(relative_pose(found[a], found[b]), relative_pose(truth[a], truth[b])))
        for a in names
        for b in names
        if a < b
    )


def assert_same(a, b, **tolerance):
    """Two models are the same but for numbers of points."""
    ours, theirs = ModelColumns.of(a), ModelColumns.of(b)
    assert ours.names == theirs.names
    np.testing.assert_allclose(ours.rotations, theirs.rotations, **tolerance)
    np.testing.assert_allclose(ours.translations, theirs.translations, **tolerance)
    rows = [np.lexsort((c.point2D, c.image)) for c in (ours, theirs)]
    for name in ("image", "point2D"):
        np.testing.assert_array_equal(getattr(ours, name)[rows[0]], getattr(theirs, name)[rows[1]])
    np.testing.assert_allclose(ours.xy[rows[0]], theirs.xy[rows[1]], **tolerance)
    np.testing.assert_allclose(ours.xyz[ours.point[rows[0]]], theirs.xyz[theirs.point[rows[1]]], **tolerance)
    for i, camera in a.cameras.items():
        np.testing.assert_allclose(camera.params, b.cameras[i].params, **tolerance)


# --- rounds ---------------------------------------------------------------------------------------


def test_two_rounds_make_poses_and_observations_exact(model, refined):
    first, second, _ = refined
    before, after = largest_error_deg(model), largest_error_deg(second.model)
    assert before > 0.25
    assert after < 0.05
    assert after < before / 5
    assert largest_error_deg(first.model) < before / 3
    assert model.compute_mean_reprojection_error() > 0.8
    assert second.model.compute_mean_reprojection_error() < 0.1


def test_tracks_are_consistent_to_a_few_hundredths_of_a_pixel(refined):
    """Against where the true poses see the place that each track's reference shows."""
    columns = ModelColumns.of(refined[0].model)  # later ones have observations of points that were proposed
    truth = truth_of(columns, surface_points())
    offset = columns.xy - truth  # all of a track's are off by what its reference is, as seen from there
    shared = np.stack([np.bincount(columns.point, axis) / columns.track_lengths for axis in offset.T], axis=1)
    assert np.median(np.linalg.norm(offset - shared[columns.point], axis=1)) < 0.15
    assert np.median(np.linalg.norm(columns.residuals(), axis=1)) < 0.06


def test_what_a_round_tells_of_itself(refined):
    first, second, _ = refined
    assert (first.rounds, second.rounds) == (1, 2)
    assert 0.8 < first.moved < 2.0
    assert second.moved == first.moved
    assert second.num_registered == 0
    assert WRONG <= first.num_rejected <= second.num_rejected < 40
    num_images = {i: len(m.points2D) for i, m in second.model.images.items()}
    assert {i: own.shape for i, own in second.covariances.items()} == {i: (n, 2, 2) for i, n in num_images.items()}
    for own in second.covariances.values():
        assert (np.linalg.eigvalsh(own) >= 0.99 * R.ALIGNMENT_SIGMA**2).all()
        assert (np.linalg.eigvalsh(own) <= 1.01 * R.MATCH_SIGMA**2).all()


def test_observations_of_another_place_are_rejected(refined):
    for state in refined[:2]:
        xyz = surface_points()
        own = state.model.images[2]
        assert own.name == NAMES[1]
        for j in range(WRONG):  # gone, or where it belongs
            off = np.linalg.norm(own.points2D[j].xy - project(1, xyz)[j])
            assert not own.points2D[j].has_point3D() or off < 3


def test_covariances_are_of_the_pixels_where_there_is_texture(refined):
    state = refined[1]
    parts = [state.covariances[i][[p.has_point3D() for p in image.points2D]] for i, image in state.model.images.items()]
    own = np.linalg.eigvalsh(np.concatenate(parts))
    references = np.isclose(own, R.REFERENCE_SIGMA**2).all(axis=1)
    assert 0.9 * state.model.num_points3D() < references.sum() <= state.model.num_points3D()
    assert np.median(own[~references]) < (1.5 * R.ALIGNMENT_SIGMA) ** 2


def test_what_does_not_fit_is_rejected():
    """Further off than MAX_ERROR, or than MAX_WHITENED deviations; what is unknown along the error is not."""
    xyz = surface_points()
    exact = [project(i, xyz) for i in range(5)]
    model = make_model(xyz, exact)
    own = {i: np.tile(0.01 * np.eye(2), (len(xyz), 1, 1)) for i in range(1, 6)}
    offsets = {(1, 0): [0.0, 0.3], (2, 1): [0.5, 0.0], (3, 2): [0.0, 1.9], (4, 3): [2.2, 0.0]}
    for (image_id, j), offset in offsets.items():
        model.images[image_id].points2D[j].xy += offset
    own[3][2] = np.diag([0.01, 4.0])
    own[4][3] = np.diag([4.0, 0.01])
    assert R._reject(model, own, dict.fromkeys(NAMES, 1.0), 0) == 2
    assert [model.images[i].points2D[j].has_point3D() for i, j in offsets] == [True, False, True, False]
    assert model.compute_num_observations() == 5 * len(xyz) - 2
    assert R._reject(model, own, dict.fromkeys(NAMES, 1.0), 1) == 1  # later rounds ask for more: 1 px
    assert [model.images[i].points2D[j].has_point3D() for i, j in offsets] == [True, False, False, False]


def test_before_stays_as_it_is(data, model, tmp_path):
    refiner = refiner_of(data)
    before, untouched = refiner.start(model), pycolmap.Reconstruction(model)
    kept = {i: own.copy() for i, own in before.covariances.items()}
    after = refiner.next_round(before, tmp_path)
    assert_same(before.model, untouched, rtol=0)
    assert before.rounds == 0
    assert all((before.covariances[i] == own).all() for i, own in kept.items())
    assert largest_error_deg(after.model) < largest_error_deg(before.model)


def test_known_intrinsics_stay_and_others_are_found(data, model, refined, tmp_path):
    np.testing.assert_array_equal(refined[1].model.cameras[1].params, PARAMS)
    off = pycolmap.Reconstruction(model)
    off.cameras[1].params = [1.01 * PARAMS[0], *PARAMS[1:3], 0.0]
    refiner = refiner_of(replace(data, known_intrinsics=False), options=RefinementOptions(rounds=1))
    found = R.refine(refiner, off, tmp_path).model.cameras[1].params
    np.testing.assert_array_equal(found[1:3], PARAMS[1:3])
    assert abs(found[0] - PARAMS[0]) < 1.5
    assert abs(found[3] - PARAMS[3]) < 0.01


def test_known_poses_and_their_cameras_stay(data, observations, tmp_path):
    model = make_model(surface_points(), observations)
    before = {i: m.cam_from_world().params.copy() for i, m in model.images.items()}
    known = MappingOptions(threads=1, known_poses=Path("somewhere"))
    state = R.refine(refiner_of(replace(data, known_intrinsics=False), mapping=known), model, tmp_path)
    for i, image in state.model.images.items():
        np.testing.assert_allclose(image.cam_from_world().params, before[i], rtol=1e-15)
    np.testing.assert_array_equal(state.model.cameras[1].params, PARAMS)
    assert state.model.compute_mean_reprojection_error() < 0.15


def test_an_image_left_out_is_registered_between_rounds(data, observations, tmp_path):
    model = mapped(observations, images=[0, 1, 2, 4])
    state = R.refine(refiner_of(data), model, tmp_path)
    assert state.num_registered == 1
    assert state.model.num_reg_images() == 5
    assert set(state.covariances) == {1, 2, 3, 4, 5}
    assert largest_error_deg(state.model) < 0.15


def test_posed_images_are_never_added(data, observations, tmp_path):
    model = make_model(surface_points(), observations, images=[0, 1, 2, 4])
    known = MappingOptions(threads=1, known_poses=Path("somewhere"))
    state = R.refine(refiner_of(data, mapping=known), model, tmp_path)
    assert (state.num_registered, state.model.num_reg_images()) == (0, 4)


def test_photos_that_say_nothing_leave_a_model(data, model, tmp_path):
    """Photos of which no two look alike: the model is held by its matches."""
    refiner = refiner_of(data, read_grey=lambda name: photo(0, seed=20 + NAMES.index(name)))
    state = R.refine(refiner, model, tmp_path)
    assert state.model.num_reg_images() == 5
    assert state.model.compute_num_observations() > 0.7 * model.compute_num_observations()
    assert largest_error_deg(state.model) < 1.5 * largest_error_deg(model)


def test_a_photo_that_looks_different_is_held_by_its_matches(data, model, tmp_path):
    """One of five is of another place: it keeps its observations, the others are refined."""
    refiner = refiner_of(
        data, read_grey=lambda name: photo(0, seed=20) if name == NAMES[4] else photo(NAMES.index(name))
    )
    state = R.refine(refiner, model, tmp_path)
    held = next(i for i in state.model.images.values() if i.name == NAMES[4])
    assert held.num_points3D > 0.6 * next(i for i in model.images.values() if i.name == NAMES[4]).num_points3D
    sigma = np.sqrt(np.median(state.covariances[held.image_id][:, 0, 0]))
    assert sigma > 1.0
    assert np.sqrt(np.median(state.covariances[1][:160, 0, 0])) < 0.3


# --- the stage ------------------------------------------------------------------------------------


def test_a_round_that_is_kept_comes_back(refined, tmp_path):
    first, second, _ = refined
    for state in (first, second):
        R.save_round(state, tmp_path)
        back = R.load_round(tmp_path, NAMES)
        assert_same(back.model, state.model, rtol=0)
        for name in ("rounds", "num_registered", "num_rejected", "moved"):
            assert getattr(back, name) == getattr(state, name)
        assert back.covariances.keys() == state.covariances.keys()
        assert all((back.covariances[i] == own).all() for i, own in state.covariances.items())
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("name", ["counts.json", "covariances.npz", "images.bin", "points3D.bin", "cameras.bin"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "other"])
def test_a_damaged_round_is_not_used(refined, tmp_path, name, damage):
    R.save_round(refined[0], tmp_path)
    path = tmp_path / "state" / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "other": b"\xff" * 60}[damage])
    assert R.load_round(tmp_path, NAMES) is None


@pytest.mark.parametrize("other", [[], 3, {}, {"rounds": 1, "unknown": 2}])
def test_counts_of_another_version_are_not_used(refined, tmp_path, other):
    R.save_round(refined[0], tmp_path)
    path = tmp_path / "state" / "counts.json"
    digest = json.loads(path.read_text())["digest"]
    path.write_text(json.dumps({**other, "digest": digest} if other and isinstance(other, dict) else other))
    assert R.load_round(tmp_path, NAMES) is None


def test_a_round_of_other_photos_is_not_used(refined, tmp_path):
    R.save_round(refined[0], tmp_path)
    assert R.load_round(tmp_path, NAMES[:3]) is None


@pytest.mark.parametrize("arrays", [{}, {"x": np.zeros(3)}, {"1": np.zeros((3, 2, 2))}, {"1": np.array([{}], object)}])
def test_covariances_of_another_shape_are_not_used(refined, tmp_path, arrays):
    R.save_round(refined[0], tmp_path)
    np.savez(tmp_path / "state" / "covariances.npz", allow_pickle=True, **arrays)
    with_digest(tmp_path)
    assert R.load_round(tmp_path, NAMES) is None


def test_covariances_that_unpack_to_more_are_not_used(refined, tmp_path):
    R.save_round(refined[0], tmp_path)
    np.savez_compressed(tmp_path / "state" / "covariances.npz", **{"1": np.zeros((1 << 20, 2, 2))})
    with_digest(tmp_path)
    assert R.load_round(tmp_path, NAMES) is None


def with_digest(folder):
    """Makes the hash in a kept state right again."""
    path = folder / "state" / "counts.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "digest": _digest(folder / "state")}))


def test_no_round_is_none(tmp_path):
    assert R.load_round(tmp_path / "nowhere", NAMES) is None


def test_a_run_that_was_killed_ends_as_an_undisturbed_one(data, model, refined, tmp_path, monkeypatch):
    once = refiner_of(data, options=RefinementOptions(rounds=1))
    assert R.refine(once, model, tmp_path).rounds == 1
    numbers = []
    next_round = R.Refiner.next_round

    def counted(self, before, scratch):
        numbers.append(before.rounds)
        return next_round(self, before, scratch)

    monkeypatch.setattr(R.Refiner, "next_round", counted)
    resumed = R.refine(refiner_of(data), model, tmp_path)
    assert numbers == [1]
    assert_same(resumed.model, refined[1].model, rtol=1e-6, atol=1e-6)
    again = R.refine(refiner_of(data), model, tmp_path)
    assert numbers == [1]
    assert_same(again.model, resumed.model, rtol=0)


def output_of(model, tmp_path, num=1):
    for i in range(num):
        (tmp_path / "unrefined" / str(i)).mkdir(parents=True)
        model.write_binary(tmp_path / "unrefined" / str(i))
    (tmp_path / "database.db").write_bytes(b"of mapping")
    return tmp_path


def stage(refiner, output):
    def read_rgb(name):
        return np.repeat(photo(NAMES.index(name))[..., None], 3, axis=2)

    return R.run(refiner, output=output, read_rgb=read_rgb, left_out=LEFT_OUT)


def test_the_stage_writes_refined_models_and_their_keypoints(data, model, refined, tmp_path):
    output = output_of(model, tmp_path)
    summary = stage(refiner_of(data), output)
    result = pycolmap.Reconstruction(output / "sparse" / "0")
    assert_same(result, refined[1].model, rtol=1e-6, atol=1e-6)
    assert sorted(p.name for p in output.iterdir()) == ["database.db", "points.ply", "sparse", "unrefined"]
    assert_same(pycolmap.Reconstruction(output / "unrefined" / "0"), model, rtol=0)
    database = pycolmap.Database.open(output / "database.db")
    for i, image in result.images.items():
        keypoints = database.read_keypoints(i)
        keypoints = np.array([[k.x, k.y] for k in keypoints]) if not isinstance(keypoints, np.ndarray) else keypoints
        np.testing.assert_allclose(keypoints[:, :2], [p.xy for p in image.points2D], atol=1e-4)
    database.close()
    counts = summary.counts
    assert (summary.stage, counts["models"], counts["registered"], counts["rounds"]) == ("refinement", 1, 5, 2)
    assert counts["points3D"] == result.num_points3D()
    assert counts["observations"] == result.compute_num_observations()
    assert counts["reprojection_error"] == pytest.approx(result.compute_mean_reprojection_error(), rel=1e-6)
    assert (counts["rejected"], counts["newly_registered"]) == (refined[1].num_rejected, 0)
    assert summary.skipped == LEFT_OUT[:1]  # the other one is registered
    colours = np.array([p.color for p in result.points3D.values()], np.float64)
    assert (colours[:, 0] == colours[:, 2]).all()
    assert colours[:, 0].std() > 10


@pytest.mark.parametrize("case", ["--no-refine", "detector"])
def test_models_stay_without_refinement(observations, data, model, tmp_path, case):
    refiner = {
        "--no-refine": refiner_of(data, options=RefinementOptions(no_refine=True)),
        "detector": refiner_of(make_input(observations, grid=None)),
    }[case]
    output = output_of(model, tmp_path, num=2)
    summary = stage(refiner, output)
    for i in range(2):
        assert_same(pycolmap.Reconstruction(output / "sparse" / str(i)), model, rtol=0)
    assert (output / "database.db").read_bytes() == b"of mapping"
    assert (output / "points.ply").stat().st_size > 1000
    assert (summary.counts["models"], summary.counts["rounds"], summary.counts["moved_network_px"]) == (2, 0, 0)
    assert not (output / ".refinement").exists()


def test_a_killed_stage_goes_on_with_its_own_rounds_only(data, model, tmp_path, monkeypatch):
    """Killed after the first round: that is found again; with other options or another model it is not."""
    output = output_of(model, tmp_path)
    numbers = []
    next_round = R.Refiner.next_round

    def killed(self, before, scratch):
        numbers.append(before.rounds)
        if len(numbers) == 2:
            raise KeyboardInterrupt
        return replace(before, rounds=before.rounds + 1) if len(numbers) > 2 else next_round(self, before, scratch)

    monkeypatch.setattr(R.Refiner, "next_round", killed)
    with pytest.raises(KeyboardInterrupt):
        stage(refiner_of(data), output)
    assert not (output / "sparse").exists()
    kept = next((output / ".refinement").iterdir())
    assert (kept / "0" / "state" / "counts.json").is_file()
    assert R._scratch(output, refiner_of(data)) == kept
    stage(refiner_of(data), output)
    assert numbers == [0, 1, *range(1, RefinementOptions().rounds)]
    assert not (output / ".refinement").exists()
    other = R._scratch(output, refiner_of(data, options=RefinementOptions(align_size=800)))
    assert other != kept
    assert [p.name for p in other.parent.iterdir()] == [other.name]
    changed = pycolmap.Reconstruction(model)
    changed.delete_observation(1, 0)
    changed.write_binary(output / "unrefined" / "0")
    assert R._scratch(output, refiner_of(data)) != kept
