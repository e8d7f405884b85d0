"""FileLock between processes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time

import pytest

from sfm.errors import BadFile
from sfm.system.file_lock import FileLock


def test_lock_names_the_holder_and_dies_with_it(tmp_path):
    path = tmp_path / "file"
    code = f"""
import pathlib, sys, time
from sfm.system.file_lock import FileLock
lock = FileLock(pathlib.Path({str(path)!r}), exclusive=True)
print("held", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for exclusive in (True, False):
            with pytest.raises(BadFile, match=rf"file: in use by process {holder.pid}, since \d{{4}}-\d\d-\d\d \d\d:"):
                FileLock(path, exclusive=exclusive)
        holder.kill()
    FileLock(path, exclusive=True).release()  # the lock of a dead process is free
    assert list(tmp_path.iterdir()) == []


def test_readers_share_and_keep_writers_out(tmp_path):
    path = tmp_path / "file"
    first, second = FileLock(path, exclusive=False), FileLock(path, exclusive=False)
    first.release()
    with pytest.raises(BadFile, match="in use by a process that reads it"):
        FileLock(path, exclusive=True)
    second.release()
    lock = FileLock(path, exclusive=True)
    with pytest.raises(BadFile, match=f"process {os.getpid()}"):
        FileLock(path, exclusive=True)
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_file_system_without_locks_is_said_to_be_so(tmp_path, monkeypatch, caplog):
    def flock(fd, how):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr("fcntl.flock", flock)
    FileLock(tmp_path / "file", exclusive=True).release()
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: no file locks there (Operation not supported); let one run at a time write to it"
    ]
    caplog.clear()
    FileLock(tmp_path / "file", exclusive=False).release()
    assert caplog.records == []


def test_a_lock_that_is_waited_for(tmp_path):
    path, said = tmp_path / "file", []
    first = FileLock(path, exclusive=True)
    threading.Timer(0.5, first.release).start()
    since = time.monotonic()
    second = FileLock(path, exclusive=True, wait=lambda: said.append("waiting"))
    assert 0.3 < time.monotonic() - since < 10
    assert said == ["waiting"]
    with pytest.raises(BadFile, match="in use by process"):
        FileLock(path, exclusive=True)
    second.release()
    assert list(tmp_path.iterdir()) == []
