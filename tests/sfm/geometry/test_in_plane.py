import numpy as np
import pytest

from sfm.geometry.in_plane import in_plane_rotation
from sfm.types import Matches


def turned(degrees: float, num: int = 300, share_false: float = 0.4, scale: float = 1.3, seed: int = 0) -> Matches:
    rng = np.random.default_rng(seed)
    p0 = rng.uniform(0, (1000, 700), (num, 2))
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    p1 = scale * (p0 - (500, 350)) @ np.array([[c, s], [-s, c]]) + (800, 900) + rng.normal(0, 3, p0.shape)
    wrong = rng.random(num) < share_false
    p1[wrong] = rng.uniform(0, (1600, 1800), (int(wrong.sum()), 2))
    rows = np.arange(num)
    return Matches(p0, p1, np.ones(num), rows, rows)


@pytest.mark.parametrize("degrees", [-179, -120, -45, 0, 10, 90, 135, 180])
def test_the_turn_is_found_among_wrong_matches(degrees):
    found = in_plane_rotation(turned(degrees))
    assert found is not None
    assert abs((found - degrees + 180) % 360 - 180) < 3


def test_the_other_way_round_it_is_the_opposite():
    matches = turned(37.0)
    back = Matches(matches.points1, matches.points0, matches.confidence, matches.cells1, matches.cells0)
    there, again = in_plane_rotation(matches), in_plane_rotation(back)
    assert there is not None
    assert again == pytest.approx(-there, abs=1.0)


def test_too_few_say_nothing():
    assert in_plane_rotation(Matches.empty()) is None
    one_spot = Matches(np.ones((50, 2)), np.ones((50, 2)), np.ones(50), np.arange(50), np.arange(50))
    assert in_plane_rotation(one_spot) is None
