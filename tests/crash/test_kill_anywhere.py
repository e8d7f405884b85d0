"""kill -9 at any moment: the next run carries on and ends as a run that nobody disturbed, with little done twice."""

from __future__ import annotations

import random
import shutil
import signal
from dataclasses import replace

import pytest

from sfm.types import STAGE_NAMES
from tests.support import crash_scene
from tests.support.crash_trial import carried_on, killed_run, quick_course, same, state_of

CHAINS, KILLS_A_CHAIN = 10, 6


def test_undisturbed_runs_are_equal(forks, course, whole_run, tmp_path):
    assert course.run(forks, tmp_path / "other")["status"] == 0
    same(state_of(tmp_path / "other"), whole_run[0], 1e-3)


@pytest.mark.slow
def test_killed_at_points_all_over_the_run(forks, course, whole_run, tmp_path):
    """Each chain of runs goes on from where the last was killed; where, is drawn anew in every stretch of the run."""
    state, done = whole_run
    assert done["points"] > 200
    rng, kills = random.Random(0), []
    stretch = done["points"] // KILLS_A_CHAIN
    for chain in range(CHAINS):
        out = tmp_path / str(chain)
        found = [
            killed_run(forks, course, out, state, kill_at=rng.randrange(1, 2 * stretch)) for _ in range(KILLS_A_CHAIN)
        ]
        carried_on(forks, course, out, state)
        shutil.rmtree(out)
        kills += [kill for kill in found if kill.stage]
    assert len(kills) >= 50
    assert {kill.stage for kill in kills} >= set(STAGE_NAMES) - {"pairs"}  # which is three points long
    assert {kill.durable for kill in kills} == {0, 2, 4, 6}  # the kills fell between all batches


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, 12, 3))
def test_killed_where_a_run_begins(forks, course, whole_run, tmp_path, first):
    """The folder, the lock and the empty database come to be."""
    assert killed_run(forks, course, tmp_path / "out", whole_run[0], kill_at=first).stage == "images"
    carried_on(forks, course, tmp_path / "out", whole_run[0])


def test_killed_at_any_time(forks, course, whole_run, tmp_path):
    state, done = whole_run
    rng, out = random.Random(1), tmp_path / "out"
    moments = [0.01, *(rng.uniform(0.0, done["seconds"] / 3) for _ in range(7))]
    found = [killed_run(forks, course, out, state, kill_after_s=moment) for moment in moments]
    carried_on(forks, course, out, state)
    assert found[0].stage == "images"


@pytest.mark.slow
def test_killed_while_the_report_is_written(forks, tmp_path):
    """There is the whole report or none, and the next run writes it."""
    course = replace(quick_course(tmp_path), arguments=crash_scene.ARGUMENTS)
    out, report = tmp_path / "out", tmp_path / "out" / "report.html"
    course.run(forks, out)
    report.unlink()
    points = course.run(forks, out)["points"]
    whole = report.read_bytes()  # of a run that reuses all, as those that follow
    for back in range(3):
        report.unlink(missing_ok=True)
        assert course.run(forks, out, kill_at=points - back)["status"] == -signal.SIGKILL
        assert not report.exists() or report.read_bytes() == whole
    assert course.run(forks, out)["status"] == 0
    assert report.read_bytes() == whole
    assert not list(out.glob("*.part"))
