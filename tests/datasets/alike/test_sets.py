"""The sets are of the size that is meant, and their cameras are told apart by place."""

from __future__ import annotations

import numpy as np
import pytest

from sfm.datasets.alike.sets import RECIPES
from sfm.geometry.poses import relative_pose


def test_there_are_ten_mild_and_as_many_mean():
    mild, mean = ([name for name in RECIPES if name.endswith(kind)] for kind in ("-mild", "-mean"))
    assert [name.removesuffix("-mild") for name in mild] == [name.removesuffix("-mean") for name in mean]
    assert len(mild) == 10
    assert set(RECIPES) - {*mild, *mean} == {"four-fronts"}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_sets_are_small_and_their_cameras_upright_and_apart(name):
    made = RECIPES[name]()
    assert 12 <= len(made.names) == len(set(made.names)) == len(made.poses) <= 40
    assert made.models in (1, 2)
    for pose in made.poses:
        np.testing.assert_allclose(pose[:, :3] @ pose[:, :3].T, np.eye(3), atol=1e-9)
        assert pose[1, 2] < -0.8  # y down
    steps = [np.linalg.norm(relative_pose(a, b)[:, 3]) for a, b in zip(made.poses, made.poses[1:], strict=False)]
    assert min(steps) > 0.01
