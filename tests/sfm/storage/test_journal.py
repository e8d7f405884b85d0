"""JournaledFile against a plain buffer, and what every possible crash leaves."""

import io
import shutil
import signal
import sys
import time
from itertools import count
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfm.storage import journal
from sfm.storage.journal import PAGE, JournaledFile, journal_path


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

    def torn_write(file, offset, data, write=journal.write_all):
        for end in (len(data) // 2, len(data)):
            write(file, offset, data[:end])
            snapshot()

    monkeypatch.setattr(journal, "write_all", torn_write)
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


def interrupted_at_call(number: int, work) -> None:
    """Run the work with Ctrl-C in the number-th call of a function of the journal, then wait for it if it came."""
    calls = count()

    def trace(frame, event, argument):
        if frame.f_code.co_filename == journal.__file__ and next(calls) == number:
            signal.raise_signal(signal.SIGINT)

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    if next(calls) > number:
        time.sleep(5)


def test_ctrl_c_while_hdf5_writes_loses_nothing(tmp_path):
    """In every call that HDF5 makes: what was written without an error is there, and the Ctrl-C is not forgotten."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    values = np.arange(500, dtype=np.int64)
    interrupted, done = True, 0
    for number in count():
        path = tmp_path / f"{number}.h5"
        h5py.File(path, "w", libver="v108").close()
        file = opened(path)
        with h5py.File(file, "r+", libver="v108") as hdf5:
            written = []

            def write(hdf5=hdf5, written=written):
                hdf5["values"] = values  # closed at once, where Python passes over errors
                written.append(True)

            try:
                interrupted_at_call(number, write)
                interrupted = False
            except KeyboardInterrupt:
                interrupted = True
            if written:
                hdf5.flush()
                file.commit()
                assert np.array_equal(hdf5["values"][()], values)
                done += interrupted
        file.close()
        if not interrupted:
            break
    signal.signal(signal.SIGINT, before)
    assert done >= 3
