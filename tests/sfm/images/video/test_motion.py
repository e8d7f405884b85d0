from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from sfm.images.video.motion import Follower, halved, sharpness
from tests.support.clips import W, blurred, view, wall


def grey(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.ascontiguousarray(picture[..., 0], np.float32)


@pytest.mark.parametrize("shift", [0, 1, 5, 17, 25])
def test_a_shift_is_measured_to_a_pixel(shift: int) -> None:
    found = Follower(grey(view(wall(), 100))).motion(grey(view(wall(), 100 + shift)))
    assert found.shift == pytest.approx(shift / W, abs=1.01 / W)
    assert found.found > 0.7


def test_a_long_way_is_followed_step_by_step() -> None:
    follower = Follower(grey(view(wall(), 0)))
    shifts = [follower.motion(grey(view(wall(), x))).shift for x in range(10, 121, 10)]
    assert shifts == pytest.approx([x / W for x in range(10, 121, 10)], abs=1.5 / W)


def test_moving_ahead_counts() -> None:
    start = grey(view(wall(), 100))
    centre = np.array(start.shape) / 2
    nearer = affine_transform(start, np.eye(2) / 1.2, centre - centre / 1.2, order=1).astype(np.float32)
    assert 0.03 < Follower(start).motion(nearer).shift < 0.15


def test_other_pictures_are_lost() -> None:
    found = Follower(grey(view(wall(seed=0), 0))).motion(grey(view(wall(seed=1), 0)))
    assert found.shift == np.inf
    assert found.found < 0.35


def test_plain_pictures_have_moved_only_if_they_differ() -> None:
    follower = Follower(np.full((180, 320), 90, np.float32))
    assert follower.motion(np.full((180, 320), 91, np.float32)).shift == 0
    assert follower.motion(np.full((180, 320), 140, np.float32)).shift == np.inf


def test_an_object_that_turns_before_a_still_background_counts() -> None:
    background, thing = grey(view(wall(seed=0), 0)), grey(view(wall(seed=1), 0))
    moved = background.copy()
    background[50:150, 80:240] = thing[50:150, 80:240]
    moved[50:150, 80:240] = thing[50:150, 96:256]
    assert Follower(background).motion(moved).shift > 6 / W


def test_blur_is_less_sharp_and_size_and_place_hardly_matter() -> None:
    sharp = grey(view(wall(), 100))
    assert sharpness(grey(blurred(view(wall(), 100), 9))) < 0.6 * sharpness(sharp)
    assert sharpness(grey(view(wall(), 140))) == pytest.approx(sharpness(sharp), rel=0.1)
    assert sharpness(np.zeros((16, 16), np.float32)) == 0


def test_halving_takes_the_mean() -> None:
    assert halved(np.arange(15, dtype=np.float32).reshape(3, 5)).tolist() == [[3.0, 5.0]]
