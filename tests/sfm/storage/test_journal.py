"""JournaledFile against a plain buffer, and what every possible crash leaves; FileLock between processes."""

import errno
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfm.errors import BadFile
from sfm.storage import journal
from sfm.storage.journal import PAGE, FileLock, JournaledFile, journal_path


def opened(path: Path, *, writable: bool = True, size: int | None = None) -> JournaledFile:
    return JournaledFile(path, committed_size=lambda head, found: found if size is None else size, writable=writable)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 5 * PAGE), st.integers(1, 2 * PAGE), st.integers(1, 255)),
        st.tuples(st.just("commit")),
        st.tuples(st.just("reopen")),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(OPERATIONS)
def test_reads_what_was_written_and_keeps_what_was_committed(tmp_path_factory, operations):
    path = tmp_path_factory.mktemp("journal") / "file"
    path.write_bytes(b"\x07" * (PAGE + 100))
    now, committed = io.BytesIO(path.read_bytes()), path.read_bytes()
    file = opened(path)
    for name, *arguments in operations:
        if name == "write":
            offset, length, value = arguments
            for target in (now, file):
                target.seek(offset)
                target.write(bytes([value]) * length)
        elif name == "commit":
            file.commit()
            committed = now.getvalue()
        else:
            file.close()
            file, now = opened(path), io.BytesIO(committed)
        file.seek(0)
        assert file.read() == now.getvalue()
    file.close()
    assert path.read_bytes() == committed
    assert sorted(p.name for p in path.parent.iterdir()) == ["file"]


def test_every_crash_leaves_the_old_file_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "file"
    old, new = b"a" * 3 * PAGE, b"b" * 2 * PAGE + b"a" * PAGE + b"b" * PAGE
    path.write_bytes(old)
    snapshots = []

    def snapshot() -> None:
        folder = tmp_path / f"{len(snapshots)}"
        folder.mkdir()
        for name in (path, journal_path(path)):
            if name.exists():
                shutil.copy(name, folder)
        snapshots.append(folder / path.name)

    def torn_write(file, offset, data, write=journal._write_all):
        for end in (len(data) // 2, len(data)):
            write(file, offset, data[:end])
            snapshot()

    monkeypatch.setattr(journal, "_write_all", torn_write)
    file = opened(path)
    file.write(b"b" * 2 * PAGE)
    file.seek(3 * PAGE)
    file.write(b"b" * PAGE)
    file.commit()
    monkeypatch.undo()
    snapshot()

    contents = []
    for crashed in snapshots:
        for writable in (False, True):  # a reader sees what a writer then makes real
            reopened = opened(crashed, writable=writable, size=None if journal_path(crashed).exists() else len(old))
            contents.append(reopened.read()[: len(old)])
            reopened.close()
    assert len(snapshots) >= 8
    assert set(contents) == {old, new[: len(old)]}
    assert contents == sorted(contents)  # old until some moment, new from then on
    assert path.read_bytes() == new


def test_broken_journal_is_ignored(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"a" * PAGE)
    journal_path(path).write_bytes(b"SFMJRNL1" + b"\xff" * 500)
    file = opened(path)
    assert file.read() == b"a" * PAGE
    file.close()
    assert not journal_path(path).exists()


def test_full_disk_leaves_the_committed_state(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"a" * PAGE)
    file = opened(path)
    file.write(b"b" * 2 * PAGE)
    monkeypatch.setattr(journal.os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        file.commit()
    monkeypatch.undo()
    file.close()
    assert path.read_bytes() == b"a" * PAGE


def test_lock_names_the_holder_and_dies_with_it(tmp_path):
    path = tmp_path / "file"
    code = f"""
import pathlib, sys, time
from sfm.storage.journal import FileLock
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
