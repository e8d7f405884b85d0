"""Disks that are full or may not be written to, and two runs at once: a line, exit 2, and the next run carries on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from sfm.cli import main as cli
from tests.support.crash_trial import carried_on, killed_run, matches_of, same, state_of


@contextmanager
def mounted(folder, size):
    """A file system of its own at the folder. Skips where that is not allowed."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def refused(forks, course, out, **how):
    """The line that a run ends with that could not do its work."""
    begun = len(log_of(out))
    assert course.run(forks, out, **how)["status"] == 2, log_of(out)
    lines = log_of(out)[begun:].splitlines()
    errors = [line for line in lines if line.startswith("loftr-sfm: error: ")]
    assert len(errors) == 1
    assert lines[-1] == errors[0]
    assert "Traceback" not in "".join(lines)
    return errors[0]


def log_of(out):
    log = out.with_suffix(".log")
    return log.read_text() if log.exists() else ""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of file sizes are Linux's")
def test_every_file_may_be_the_one_that_does_not_fit(forks, course, whole, tmp_path):
    """No file may grow beyond a size, which grows from run to run."""
    out = tmp_path / "out"
    for size in (1500, 9_000, 20_000, 60_000, 100_000, 150_000, 250_000):
        line = refused(forks, course, out, largest_file=size)
        assert "features.h5: cannot be written (File too large); free some space" in line or "database.db: " in line
        assert matches_of(out).items() <= whole.matches.items()
    assert "database.db: cannot be written" in line
    carried_on(forks, course, out, whole)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux mounts")
def test_full_disk(forks, course, whole, tmp_path):
    out, files = tmp_path / "out", set()
    with mounted(out, "8k") as remount:
        for size in ("8k", "32k", "100k", "160k", "400k", "700k"):
            remount(f"size={size}")
            line = refused(forks, course, out)
            assert "cannot be written (" in line
            assert "free some space" in line
            files.add(line.split(": ")[2].rpartition("/")[2])
            assert matches_of(out).items() <= whole.matches.items()
        remount("size=100m")
        carried_on(forks, course, out, whole)
    assert files >= {"features.h5", "database.db"}


@pytest.mark.skipif(sys.platform != "linux", reason="Linux mounts")
def test_folder_that_may_only_be_read(forks, course, whole, tmp_path):
    out = tmp_path / "out"
    with mounted(out, "50m") as remount:
        course.run(forks, out, kill_at=200)
        before = matches_of(out)
        remount("ro")
        assert f"{out}: cannot be written (Read-only file system); choose another folder" in refused(forks, course, out)
        assert matches_of(out) == before  # reading does without a lock's file
        remount("rw")
        carried_on(forks, course, out, whole)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission(forks, course, tmp_path):
    out = tmp_path / "out"
    out.mkdir(mode=0o500)
    assert "cannot be written (Permission denied)" in refused(forks, course, out)
    assert list(out.iterdir()) == []


@pytest.mark.slow
def test_slow_disk(forks, course, whole, tmp_path):
    """A network disk, say: killed on it and interrupted on it, as on any other."""
    out = tmp_path / "out"
    killed_run(forks, course, out, whole, kill_at=150, fsync_s=0.02)
    kill = killed_run(
        forks, course, out, whole, after="begun", kill_after_s=0.1, signal=signal.SIGINT, delay=0.2, fsync_s=0.02
    )
    assert kill.seconds < 5
    assert course.run(forks, out, fsync_s=0.02)["status"] == 0
    same(state_of(out), whole, 1e-3)


def test_output_that_is_a_file_or_cannot_be_made(forks, course, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "file: is a file; give a folder for the results" in refused(forks, course, tmp_path / "file")
    (tmp_path / "below").mkdir()
    out = tmp_path / "file" / "out"
    log, tally = tmp_path / "a.log", tmp_path / "a.tally"
    assert forks.run(course.images, out, *course.arguments, log=log, tally=tally)["status"] == 2
    assert f"{out}: cannot be written (Not a directory); choose another folder" in log.read_text()
    assert (tmp_path / "file").read_text() == "mine"


def test_second_run_on_one_output_is_refused(forks, course, whole, tmp_path, capsys):
    out, lock, answers = tmp_path / "out", tmp_path / "out" / "features.h5.lock", []
    first = threading.Thread(target=lambda: answers.append(course.run(forks, out, stuck="matching")))
    first.start()
    while "stuck" not in log_of(out):
        time.sleep(0.01)
    holder = lock.read_text()
    pid = int(holder.split()[1].rstrip(","))
    assert cli.main([str(course.images), str(out), *course.arguments]) == 2
    line = f"loftr-sfm: error: {out}/features.h5: in use by process {pid}, since {time.strftime('%Y-%m-%d')}"
    assert capsys.readouterr().err.startswith(line)
    assert lock.read_text() == holder
    os.kill(pid, signal.SIGKILL)
    first.join()
    assert answers[0]["status"] == -signal.SIGKILL
    carried_on(forks, course, out, whole)  # the lock of a dead process is free
