"""Further starts: for a camera that drives ahead, for EXIF that mapping ran away from, and for false EXIF."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pycolmap
import pytest

from sfm.colmap.camera import replace_focals
from sfm.geometry.epipolar import fundamental_matrix
from sfm.geometry.focal_from_F import estimate_focals, groups_ahead, moves_ahead
from sfm.mapping import focal_starts as S
from sfm.mapping import retry_strategy, stage
from sfm.mapping.inputs import Attempt, MappingInput
from tests.support.degenerate_scenes import input_of, pose, room
from tests.support.mapping_scene import FOCAL, HEIGHT, OPTIONS, WIDTH, K


def corridor(num=2500, seed=7):
    """(num, 3) points ahead and to the right, where the road leads."""
    rng = np.random.default_rng(seed)
    angle, far = rng.uniform(-0.6, 1.6, num), rng.uniform(6, 25, num)
    return np.column_stack([far * np.sin(angle), rng.uniform(-2.0, 1.5, num), far * np.cos(angle)])


def driving(num=9, turn_deg=6.0):
    """Poses of a car that drives ahead and turns."""
    headings, centre, poses = turn_deg * np.arange(num), np.zeros(3), []
    for heading in headings:
        poses.append(pose([-heading, 0.0], centre))
        middle = np.radians(heading + turn_deg / 2)
        centre = centre + 0.9 * np.array([np.sin(middle), 0.0, np.cos(middle)])
    return poses


@pytest.fixture(scope="module")
def drive() -> MappingInput:
    data = input_of([(driving(), corridor())], focal_prior=False)
    focals = estimate_focals(data.images, data.geometries)
    images = replace_focals(data.images, focals)
    return replace(data, images=images, estimated_focals=frozenset(focals))


def outcome(data, models=()):
    return retry_strategy.Outcome(Attempt("default", retry_strategy.STRATEGIES[0], data), models, frozenset(), None)


def test_motion_ahead_is_seen_in_the_epipoles():
    ahead, aside = np.eye(3, 4), np.eye(3, 4)
    ahead[:, 3], aside[:, 3] = [0.1, 0.05, 1.0], [1.0, 0.1, 0.3]
    assert moves_ahead(fundamental_matrix(K, K, ahead), WIDTH, HEIGHT)
    assert not moves_ahead(fundamental_matrix(K, K, aside), WIDTH, HEIGHT)


def test_a_drive_is_mapped_from_several_focal_lengths(drive, mapping_data):
    assert groups_ahead(drive.images, drive.geometries) == {"one"}
    attempts = list(S.further_starts(outcome(drive), len(drive.images)))
    assert [a.name for a in attempts] == ["held distortion", "wide focal", "guessed focal"]
    assert [a.data.images[0].camera.params[0] / WIDTH for a in attempts[1:]] == [S.WIDE, S.GUESS]
    assert all(a.hold_distortion and not a.hold_focal for a in attempts)
    assert groups_ahead(mapping_data.images, mapping_data.geometries) == frozenset()


def test_the_focal_length_of_a_drive_is_right(drive, tmp_path):
    model = stage.reconstruct(drive, OPTIONS, tmp_path).models[0]
    assert model.num_reg_images() == len(drive.images)
    assert model.cameras[1].mean_focal_length() == pytest.approx(FOCAL, rel=0.1)


def test_exif_is_kept_to_where_mapping_ran_away_from_it(mapped, mapping_data):
    """86,746 px in spite of EXIF."""
    good = outcome(mapping_data, mapped[1].models)
    assert list(S.further_starts(good, len(mapping_data.images))) == []
    exif = [replace(r.camera, params=np.array([FOCAL / 5, WIDTH / 2, HEIGHT / 2, 0.0])) for r in mapping_data.images]
    images = (replace(r, camera=camera) for r, camera in zip(mapping_data.images, exif, strict=True))
    wrong = replace(mapping_data, images=tuple(images))
    assert list(S.further_starts(outcome(wrong, mapped[1].models), 6)) == []  # it is EXIF that is false
    away = pycolmap.Reconstruction(mapped[1].models[0])
    away.cameras[1].focal_length = 10 * FOCAL
    (attempt,) = S.further_starts(outcome(mapping_data, (away,)), len(mapping_data.images))
    assert (attempt.name, attempt.hold_focal, attempt.hold_distortion) == ("EXIF focal", True, True)
    assert list(S.further_starts(outcome(replace(wrong, known_intrinsics=True), mapped[1].models), 6)) == []


@pytest.fixture(scope="module")
def turning() -> MappingInput:
    """Cameras that look everywhere as they move sideways: pairs determine the focal length."""
    rng = np.random.default_rng(6)
    poses = [pose(rng.uniform(-25, 25, 2), rng.uniform([-2, -1, -0.5], [2, 1, 0.5])) for _ in range(9)]
    return input_of([(poses, room(num=2500))], focal_prior=True)


def test_false_exif_with_which_hardly_anything_is_registered_is_left(mapping_data, turning):
    num, camera = len(mapping_data.images), mapping_data.images[0].camera
    (kept,) = S.further_starts(outcome(mapping_data), num)
    assert kept.name == "EXIF focal"  # which the pairs do not contradict
    wrong = replace(camera, params=np.array([4 * FOCAL, WIDTH / 2, HEIGHT / 2, 0.0]))
    data = replace(turning, images=tuple(replace(r, camera=wrong) for r in turning.images))
    kept, other = S.further_starts(outcome(data), num)
    assert other.name == "without EXIF"
    assert other.data.images[0].camera.params[0] == pytest.approx(FOCAL, rel=0.1)
    assert other.data.estimated_focals == {"one"}


def test_what_is_explained_needs_long_tracks_that_fit(mapped):
    model = mapped[1].models[0]
    all_of_it = S.explained(model, frozenset(), 4.0)
    assert 0 < S.explained(model, frozenset(), 1.0) < all_of_it
    most = sum(2 * p.track.length() - 3 for p in model.points3D.values() if p.track.length() >= 3)
    assert 0.8 * most < all_of_it / model.num_reg_images() < most
