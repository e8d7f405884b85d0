"""A model against GPS: which of the two is doubted."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sfm.geometry.similarity import Similarity
from sfm.quality.gps import contradicts_gps
from tests.support.drone_scene import model_of, nadir_rotations, names_of, records_of, strips, tags_of

ENU = strips()
NOISE = (2.0, 5.0)
LAST_STRIP = np.arange(30, 40)


def moved_strip():
    """The last strip lies on the first, as where furrows repeat."""
    centres = ENU.copy()
    centres[LAST_STRIP, 0] -= 90
    return centres


def folded():
    """The second half is turned over about an axis between both."""
    centres = ENU.copy()
    half = np.arange(20, 40)
    turn = Rotation.from_euler("y", 150, degrees=True).as_matrix()
    hinge = np.array([0, 0, 60.0])
    centres[half] = (centres[half] - hinge) @ turn.T + hinge
    return centres


def warnings(centres, tags, **more):
    return list(contradicts_gps(model_of(centres, **more), records_of(tags)))


@pytest.mark.parametrize("seed", range(3))
def test_a_right_model_has_no_warning(seed):
    assert warnings(ENU, tags_of(ENU, NOISE, seed)) == []


def test_a_strip_on_another_strips_place_is_named():
    (warning,) = warnings(moved_strip(), tags_of(ENU, NOISE))
    assert warning.sign == "contradicts GPS"
    assert "10 of 40 images" in warning.text
    assert all(names_of(40)[i] in warning.text for i in LAST_STRIP[:5])


def test_a_folded_model_is_told_with_images_of_one_half():
    (warning,) = warnings(folded(), tags_of(ENU, NOISE))
    named = {i for i, name in enumerate(names_of(40)) if name in warning.text}
    assert len(named) == 5
    assert max(named) < 20 or min(named) >= 20


def test_a_mirrored_model_is_told():
    hills = strips() + np.random.default_rng(4).normal(0, 40, (40, 3)) * [0, 0, 1]
    (warning,) = warnings(hills * [1, 1, -1], tags_of(hills, NOISE))
    assert "mirror image" in warning.text


def test_gps_that_no_shape_fits_is_no_sign_against_the_model():
    anywhere = np.random.default_rng(2).uniform(-150, 150, ENU.shape)
    assert warnings(ENU, tags_of(anywhere)) == []


def test_single_wrong_positions_are_no_sign_against_the_model():
    measured = ENU.copy()
    measured[::4] += np.random.default_rng(3).normal(0, 200, (10, 3))
    assert warnings(ENU, tags_of(measured, NOISE)) == []


def test_positions_that_stay_at_one_place_are_no_sign_against_the_model():
    measured = ENU.copy()
    measured[28:] = measured[28]  # the fix was lost
    assert warnings(ENU, tags_of(measured)) == []
    shaken = measured + np.random.default_rng(1).normal(0, 0.5, ENU.shape)
    assert warnings(ENU, tags_of(shaken)) == []


def drifted(seed):
    """A walk between houses: the positions of twelve images in a row drift away together."""
    rng, measured = np.random.default_rng(seed), ENU.copy()
    measured[20:32, :2] += np.cumsum(rng.normal(0, 9, (12, 2)), axis=0)
    measured[20:32, :2] += [25, 15]
    return tags_of(measured, NOISE, seed)


def test_positions_that_drift_together_are_hardly_ever_a_sign_against_the_model():
    warned = [seed for seed in range(20) if warnings(ENU, drifted(seed))]
    assert len(warned) <= 1  # a drift may happen to be a rotation


def test_positions_within_their_errors_say_nothing():
    small = moved_strip() * 0.02
    assert warnings(small, tags_of(ENU * 0.02, NOISE)) == []


def test_cameras_that_look_away_from_where_the_gimbal_does_are_told():
    level = ENU * [1, 1, 0] + [0, 0, 60]
    tags = tags_of(level, NOISE, gimbal=(0.0, -90.0, 0.0))
    assert warnings(level, tags) == []
    upwards = nadir_rotations(40) * np.array([1, -1, -1.0])[:, None]
    (warning,) = warnings(level, tags, rotations=upwards)
    assert "gimbal" in warning.text


def test_the_scale_of_the_model_does_not_matter():
    tiny = Similarity(1e-4, np.eye(3), np.zeros(3))
    assert warnings(ENU, tags_of(ENU, NOISE), frame=tiny) == []
    assert len(warnings(moved_strip(), tags_of(ENU, NOISE), frame=tiny)) == 1


def test_a_model_of_a_plane_that_is_upside_down_is_told():
    """Mirrored positions of a level flight: a half turn about an axis in the plane fits them as well."""
    level = ENU * [1, 1, 0] + [0, 0, 60]
    upwards = nadir_rotations(40) * np.array([1, -1, -1.0])[:, None]
    (warning,) = warnings(level, tags_of(level, NOISE), rotations=upwards)
    assert "look up by" in warning.text
    assert "upside down" in warning.text
