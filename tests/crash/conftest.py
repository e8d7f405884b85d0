"""Runs in processes of their own: images, a process that forks, and what a run leaves that nobody disturbs."""

from __future__ import annotations

import pytest

from tests.support.crash_trial import quick_course, state_of
from tests.support.crash_zygote import zygote


@pytest.fixture(scope="session")
def forks():
    with zygote() as found:
        yield found


@pytest.fixture(scope="session")
def course(tmp_path_factory):
    return quick_course(tmp_path_factory.mktemp("crash"))


@pytest.fixture(scope="session")
def whole_run(forks, course):
    """What an undisturbed run leaves, its number of points and its seconds."""
    out = course.images.parent / "whole"
    done = course.run(forks, out)
    assert done["status"] == 0
    return state_of(out), done


@pytest.fixture(scope="session")
def whole(whole_run):
    """What an undisturbed run leaves."""
    return whole_run[0]
