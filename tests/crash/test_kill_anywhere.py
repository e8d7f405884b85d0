"""kill -9 at any moment: the next run carries on and ends as a run that nobody disturbed, with little done twice."""

from __future__ import annotations

import random
import shutil

import pytest
from crash_trial import killed_and_carried_on, quick_course, same, state_of
from crash_zygote import zygote

KILLS_AT_POINTS, KILLS_AT_TIMES = 44, 12


@pytest.fixture(scope="module")
def forks():
    with zygote() as found:
        yield found


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return quick_course(tmp_path_factory.mktemp("crash"))


@pytest.fixture(scope="module")
def whole(forks, course):
    """What an undisturbed run leaves, its number of points and its seconds."""
    out = course.photos.parent / "whole"
    done = course.run(forks, out)
    assert done["status"] == 0
    return state_of(out), done


def test_undisturbed_runs_are_equal(forks, course, whole, tmp_path):
    assert course.run(forks, tmp_path / "other")["status"] == 0
    same(state_of(tmp_path / "other"), whole[0], 1e-3)


def test_killed_at_points_all_over_the_run(forks, course, whole, tmp_path):
    state, done = whole
    assert done["points"] > 200
    rng, durable = random.Random(0), set()
    for trial in range(KILLS_AT_POINTS):
        first, last = (1 + done["points"] * i // KILLS_AT_POINTS for i in (trial, trial + 1))
        point = rng.randrange(first, last)
        found = killed_and_carried_on(forks, course, tmp_path / str(trial), state, kill_at=point)
        assert found["killed"], f"point {point}"
        durable.add(found["durable"])
        shutil.rmtree(tmp_path / str(trial))
    assert durable == {0, 2, 4, 6}  # the kills fell between all batches


def test_killed_at_any_time(forks, course, whole, tmp_path):
    state, done = whole
    rng = random.Random(1)
    found = [
        killed_and_carried_on(
            forks, course, tmp_path / str(trial), state, kill_after_s=rng.uniform(0.0, done["seconds"])
        )
        for trial in range(KILLS_AT_TIMES)
    ]
    assert sum(one["killed"] for one in found) > KILLS_AT_TIMES / 2


def test_killed_again_and_again(forks, course, whole, tmp_path):
    rng, out, kills = random.Random(2), tmp_path / "out", 0
    for _ in range(40):
        answer = course.run(forks, out, kill_at=rng.randrange(20, 200))
        kills += answer["status"] == -9
        if answer["status"] == 0:
            break
    assert answer["status"] == 0
    assert kills >= 2
    same(state_of(out), whole[0], 1e-3)
