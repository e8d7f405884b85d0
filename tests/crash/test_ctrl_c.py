"""Ctrl-C in every stage: the run ends soon, says how to carry on, and all that was done is kept; SIGTERM is a kill."""

from __future__ import annotations

import signal

import pytest

from sfm.types import STAGE_NAMES
from tests.support.crash_trial import carried_on, killed_run

SOON_S = 5.0  # what is promised is two; machines that run tests have other things to do


def told(out, course):
    """What the last run said, without its stages."""
    log = out.with_suffix(".log").read_text()
    assert "Traceback" not in log
    return log.rpartition("\nloftr-sfm: ")[2]


def test_ctrl_c_in_every_stage(forks, course, whole, tmp_path):
    """One after the other, as impatient people press it; a stage may be too quick for them.

    Matching takes three seconds: also a signal that comes late on a busy machine comes before its end.
    """
    out, found = tmp_path / "out", []
    for before in ("begun", *STAGE_NAMES[:-1]):
        kill = killed_run(forks, course, out, whole, after=before, kill_after_s=0.01, signal=signal.SIGINT, delay=1.0)
        assert kill.seconds < SOON_S
        if kill.stage:
            words = f"interrupted; the same command resumes: loftr-sfm {course.images} {out} --no-report"
            assert told(out, course).startswith(words)
            found.append(kill.stage)
    assert len(set(found)) >= 3, found
    assert "matching" in found
    carried_on(forks, course, out, whole)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["images", "mapping"])
def test_ctrl_c_in_compiled_code(forks, course, whole, tmp_path, stage):
    """Which does not come back: Python alone would sit there for minutes."""
    out = tmp_path / "out"
    kill = killed_run(forks, course, out, whole, stuck=stage, after="stuck", kill_after_s=0.1, signal=signal.SIGINT)
    assert kill.stage == stage
    assert kill.seconds < SOON_S
    assert told(out, course).startswith("interrupted; the same command resumes: ")
    carried_on(forks, course, out, whole)


def test_ctrl_c_keeps_what_was_matched_since_the_last_write(forks, course, whole, tmp_path):
    """Matches become durable every few hundred pairs, and when somebody interrupts."""
    how = {"tallied": 2, "kill_after_s": 0.3, "delay": 2.0, "batch": 1000}
    kill = killed_run(forks, course, tmp_path / "out", whole, signal=signal.SIGINT, **how)
    assert (kill.stage, kill.durable, kill.repeated) == ("matching", 2, 0)


@pytest.mark.slow
def test_terminated_by_the_system(forks, course, whole, tmp_path):
    """A cluster's scheduler sends SIGTERM: the end of a kill, and as safe. COLMAP's glog would take it for a crash."""
    out = tmp_path / "out"
    kill = killed_run(forks, course, out, whole, tallied=2, delay=2.0, signal=signal.SIGTERM)
    assert kill.stage == "matching"
    assert "Aborted" not in out.with_suffix(".log").read_text()
    carried_on(forks, course, out, whole)
