"""Rounds on a roof that is photographed exactly, what must stay, and rounds that survive a kill."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap

from sfm.colmap import model_arrays
from sfm.colmap.model_arrays import ModelColumns
from sfm.finders import Finder
from sfm.options import MappingOptions, RefinementOptions
from sfm.refinement import bundle_adjustment, large_problem
from sfm.refinement import rounds as R
from sfm.refinement.params import RefinementParams
from tests.support.plane_scene import NAMES, PARAMS, ground_truth_of, make_model, project, rendered, surface_points
from tests.support.refinement_scene import WRONG, assert_same, largest_error_deg, mapped, refiner_of

PARAMS_OF_ROUNDS = RefinementParams()


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
    ground_truth = ground_truth_of(columns, surface_points())
    offset = columns.xy - ground_truth  # all of a track's are off by what its reference is, as seen from there
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
        assert (np.linalg.eigvalsh(own) >= 0.99 * PARAMS_OF_ROUNDS.alignment_sigma**2).all()
        assert (np.linalg.eigvalsh(own) <= 1.01 * PARAMS_OF_ROUNDS.match_sigma**2).all()


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
    references = np.isclose(own, PARAMS_OF_ROUNDS.reference_sigma**2).all(axis=1)
    assert 0.9 * state.model.num_points3D() < references.sum() <= state.model.num_points3D()
    assert np.median(own[~references]) < (1.5 * PARAMS_OF_ROUNDS.alignment_sigma) ** 2


def test_what_does_not_fit_is_rejected():
    """Further off than max_error, or than max_whitened deviations; what is unknown along the error is not."""
    xyz = surface_points()
    exact = [project(i, xyz) for i in range(5)]
    model = make_model(xyz, exact)
    own = {i: np.tile(0.01 * np.eye(2), (len(xyz), 1, 1)) for i in range(1, 6)}
    offsets = {(1, 0): [0.0, 0.3], (2, 1): [0.5, 0.0], (3, 2): [0.0, 1.9], (4, 3): [2.2, 0.0]}
    for (image_id, j), offset in offsets.items():
        model.images[image_id].points2D[j].xy += offset
    own[3][2] = np.diag([0.01, 4.0])
    own[4][3] = np.diag([4.0, 0.01])
    assert R.reject(model, own, dict.fromkeys(NAMES, 1.0), 0, PARAMS_OF_ROUNDS) == 2
    assert [model.images[i].points2D[j].has_point3D() for i, j in offsets] == [True, False, True, False]
    assert model.compute_num_observations() == 5 * len(xyz) - 2
    assert R.reject(model, own, dict.fromkeys(NAMES, 1.0), 1, PARAMS_OF_ROUNDS) == 1  # later rounds ask for more: 1 px
    assert [model.images[i].points2D[j].has_point3D() for i, j in offsets] == [True, False, False, False]


def test_a_keypoint_is_held_to_how_exact_its_own_matcher_is():
    """The same error of two thirds of a pixel is right for a matcher that is as rough as its image, not for a finer."""
    xyz = surface_points()
    model = make_model(xyz, [project(i, xyz) for i in range(5)])
    own = {i: np.tile(np.diag([0.01, 4.0]), (len(xyz), 1, 1)) for i in range(1, 6)}
    for j in (0, 1):
        model.images[2].points2D[j].xy += [0.0, 0.7]
    fineness = {name: np.ones(len(xyz)) for name in NAMES}
    fineness[NAMES[1]][1] = 0.25
    fineness[NAMES[2]] = np.ones(2)  # points beyond are of no matcher, and as their image
    assert R.reject(model, own, dict.fromkeys(NAMES, 1.0), 0, PARAMS_OF_ROUNDS, fineness=fineness) == 1
    assert [model.images[2].points2D[j].has_point3D() for j in (0, 1)] == [True, False]


def test_before_the_first_round_covariances_are_the_matchers(data, model):
    names = [record.name for record in data.images]
    keypoints = tuple(replace(own, finder=(np.arange(len(own)) % 2).astype(np.uint8)) for own in data.keypoints)
    finer = Finder(dict.fromkeys(names), replace(data.traits, pixel_sigma=0.5 * data.sigma))
    two = refiner_of(replace(data, keypoints=keypoints, beside=(finer,))).start(model)
    one = refiner_of(data).start(model)
    for image_id, own in two.covariances.items():
        ratio = own[:, 0, 0] / one.covariances[image_id][:, 0, 0]
        np.testing.assert_allclose(ratio, np.where(np.arange(len(ratio)) % 2, 0.25, 1.0))


def test_before_stays_as_it_is(data, model, tmp_path):
    refiner = refiner_of(data)
    before, untouched = refiner.start(model), pycolmap.Reconstruction(model)
    kept = {i: own.copy() for i, own in before.covariances.items()}
    after = refiner.next_round(before, tmp_path)
    assert_same(before.model, untouched, rtol=0)
    assert before.rounds == 0
    assert all((before.covariances[i] == own).all() for i, own in kept.items())
    assert largest_error_deg(after.model) < largest_error_deg(before.model)


def test_a_large_model_is_refined_to_the_same(data, model, refined, tmp_path, monkeypatch):
    """In columns, in small blocks, in bulk: what millions of observations take, on few."""
    monkeypatch.setattr(bundle_adjustment, "LARGE", 100)
    monkeypatch.setattr(large_problem, "BLOCK", 128)
    monkeypatch.setattr(model_arrays, "MANY", 100)
    refiner = refiner_of(data)
    first = refiner.next_round(refiner.start(model), tmp_path)
    second = refiner.next_round(first, tmp_path)
    assert largest_error_deg(second.model) < 0.05
    assert largest_error_deg(second.model) < 1.1 * largest_error_deg(refined[1].model) + 1e-3
    errors = [state.model.compute_mean_reprojection_error() for state in (second, refined[1])]
    assert abs(errors[0] / errors[1] - 1) < 0.05
    assert abs(second.num_rejected - refined[1].num_rejected) <= 2


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


def test_images_that_say_nothing_leave_a_model(data, model, tmp_path):
    """Images of which no two look alike: the model is held by its matches."""
    refiner = refiner_of(data, read_grey=lambda name: rendered(0, seed=20 + NAMES.index(name)))
    state = R.refine(refiner, model, tmp_path)
    assert state.model.num_reg_images() == 5
    assert state.model.compute_num_observations() > 0.7 * model.compute_num_observations()
    assert largest_error_deg(state.model) < 1.5 * largest_error_deg(model)


def test_a_image_that_looks_different_is_held_by_its_matches(data, model, tmp_path):
    """One of five is of another place: it keeps its observations, the others are refined."""
    refiner = refiner_of(
        data, read_grey=lambda name: rendered(0, seed=20) if name == NAMES[4] else rendered(NAMES.index(name))
    )
    state = R.refine(refiner, model, tmp_path)
    held = next(i for i in state.model.images.values() if i.name == NAMES[4])
    assert held.num_points3D > 0.6 * next(i for i in model.images.values() if i.name == NAMES[4]).num_points3D
    sigma = np.sqrt(np.median(state.covariances[held.image_id][:, 0, 0]))
    assert sigma > 1.0
    assert np.sqrt(np.median(state.covariances[1][:160, 0, 0])) < 0.3


# --- the stage ------------------------------------------------------------------------------------


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
