"""attempts: what is tried next, what a model's support is, and that false pairs do not decide."""

from dataclasses import replace

import numpy as np
import pycolmap

from sfm.mapping import retry_strategy as A
from sfm.mapping.inputs import Attempt, write_database
from sfm.types import ImagePair, KeypointMatches, TwoViewGeometry
from tests.support.mapping_scene import FOCAL, HEIGHT, NAMES, NUM, OPTIONS, WIDTH, with_cameras


def outcome(data, models, num_misregistered=0):
    return A.Outcome(Attempt("default", A.STRATEGIES[0], data), models, frozenset(NAMES[:num_misregistered]), None)


def test_a_further_attempt_begins_at_the_focal_length_that_the_best_model_found(mapped, mapping_data):
    models = mapped[1].models
    guessed = with_cameras(mapping_data, [1.2 * WIDTH, WIDTH / 2, HEIGHT / 2, 0.0], False)
    found = models[0].cameras[1].mean_focal_length()
    (refined,) = A.other_focals(outcome(guessed, models), OPTIONS)
    assert refined.hold_distortion
    assert {r.camera.params[0] for r in refined.data.images} == {found}
    names = [a.name for a in A.other_focals(outcome(guessed, models, num_misregistered=4), OPTIONS)]
    assert names == ["refined focal", "long focal", "longest focal"]
    focals = [a.data.images[0].camera.params[0] / WIDTH for a in A.other_focals(outcome(guessed, ()), OPTIONS)]
    assert focals == [2.5, 5.0]


def test_focal_lengths_that_are_known_are_not_replaced(mapped, mapping_data):
    (again,) = A.other_focals(outcome(mapping_data, mapped[1].models, num_misregistered=4), OPTIONS)
    assert {r.camera.params[0] for r in again.data.images} == {FOCAL}
    known = replace(mapping_data, known_intrinsics=True)
    assert list(A.other_focals(outcome(known, mapped[1].models, num_misregistered=4), OPTIONS)) == []


def test_support_counts_well_registered_images_times_observations_of_long_tracks(mapped, mapping_data):
    model = mapped[1].models[0]
    observations = sum(n for p in model.points3D.values() if (n := p.track.length()) >= 3)
    assert A.support(model) == NUM * observations > 0
    placed = [
        sum(model.image(e.image_id).name not in NAMES[:2] for e in p.track.elements) for p in model.points3D.values()
    ]
    assert outcome(mapping_data, (model,), num_misregistered=2).support == (NUM - 2) * sum(n for n in placed if n >= 3)
    assert outcome(mapping_data, ()).support == -1


def test_freed_distortion_comes_back_from_a_wrong_value(mapped):
    model = pycolmap.Reconstruction(mapped[1].models[0])
    right = model.compute_mean_reprojection_error()
    model.cameras[1].params = [FOCAL, WIDTH / 2, HEIGHT / 2, 0.05]
    A.free_distortion(model, threads=1)
    assert abs(model.cameras[1].params[3]) < 0.01
    assert model.compute_mean_reprojection_error() < right + 0.02


def with_false_pair(data):
    """The first and the last image matched at random, and only so."""
    rng = np.random.default_rng(0)
    num = min(len(data.keypoints[0]), len(data.keypoints[NUM - 1]), 300)
    indices = np.stack([rng.permutation(num), rng.permutation(num)], axis=1)
    pair = ImagePair(NAMES[0], NAMES[-1])
    geometry = TwoViewGeometry(pair, np.arange(num), "uncalibrated", None, np.eye(3))
    others = [m for m in data.matches if m.pair != pair]
    geometries = [g for g in data.geometries if g.pair != pair]
    false = KeypointMatches(pair, indices, np.ones(num))
    return pair, replace(data, geometries=(*geometries, geometry), matches=(*others, false))


def test_a_false_pair_is_left_out_where_that_explains_more(mapping_data, tmp_path):
    pair, data = with_false_pair(mapping_data)
    with_all, _ = A.evaluated_run(Attempt("default", A.STRATEGIES[0], data), OPTIONS, tmp_path / "all")
    best = A.map_images(data, OPTIONS, tmp_path)
    assert best.removed_pairs == 1
    assert pair not in {m.pair for m in best.attempt.data.matches}
    assert best.num_well_registered == NUM
    assert best.support > with_all.support
    assert (best.folder / "database.db").is_file()


def test_global_mapping_has_no_attempts_that_differ_only_in_incremental_thresholds(mapping_data):
    best = outcome(mapping_data, ())
    assert [a.name for a in (*A.narrower(best, OPTIONS), *A.weaker(best, OPTIONS))] == ["narrow", "weak"]
    options = replace(OPTIONS, mapper="global")
    assert [*A.narrower(best, options), *A.weaker(best, options)] == []


def test_images_are_dropped_with_their_observations(mapped):
    model = pycolmap.Reconstruction(mapped[1].models[0])
    before = model.compute_num_observations()
    A.drop_images(model, frozenset(NAMES[:1]))
    assert model.num_reg_images() == NUM - 1
    assert model.compute_num_observations() < before


def test_an_image_in_a_wrong_place_is_registered_again(mapped, mapping_data, tmp_path, monkeypatch):
    model = pycolmap.Reconstruction(mapped[1].models[0])
    image = model.find_image_with_name(NAMES[1])
    for row in [i for i, p in enumerate(image.points2D) if p.has_point3D()][::2]:
        model.delete_observation(image.image_id, row)
    for row in [i for i, p in enumerate(image.points2D) if p.has_point3D()][::2]:
        model.delete_observation(image.image_id, row)
    right = image.cam_from_world().matrix()
    model.frame(image.frame_id).rig_from_world = pycolmap.Rigid3d(np.eye(3, 4))

    def wrong_model(attempt, options, folder):
        folder.mkdir()
        write_database(folder / "database.db", attempt.data)
        return [model]

    monkeypatch.setattr(A, "run_mapper", wrong_model)
    found, wrong = A.evaluated_run(Attempt("default", A.STRATEGIES[0], mapping_data), OPTIONS, tmp_path / "run")
    assert (found.num_well_registered, found.misregistered, wrong) == (NUM, frozenset(), frozenset())
    pose = found.models[0].find_image_with_name(NAMES[1]).cam_from_world().matrix()
    np.testing.assert_allclose(pose, right, atol=0.02)
