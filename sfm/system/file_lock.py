"""A lock on a file between processes: one writer or many readers.

flock where there is it, on Windows a locked byte, for writers only (untried). The lock dies with its process, so there
are no stale ones.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

from sfm.errors import BadFile

log = logging.getLogger(__name__)

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # a lock that is a link would empty the file it leads to
_WAIT_S = 0.2
_LOCKED_BYTE = 1 << 20  # on Windows; nobody can read a byte that is locked, so it is beyond the holder's line


class FileLock:
    """Held from its construction until `release`. The lock is of PATH.lock, which the last holder removes.

    wait: called once where another process has the lock, which is then waited for; without it that is a BadFile of one
    line which names the holder. On systems and file systems without locks there is no protection; a writer says so.
    """

    def __init__(self, path: Path, *, exclusive: bool, wait: Callable[[], object] | None = None) -> None:
        self._path = path.with_name(path.name + ".lock")
        self._exclusive = exclusive
        self._fd: int | None = None
        if not exclusive and not _has_flock():
            return
        waited = False
        while (holder := self._holder_or_taken()) is not None:
            if wait is None:
                raise BadFile(f"{path}: in use by {holder or 'a process that reads it'}; wait or end it")
            if not waited:
                wait()
            waited = True
            time.sleep(_WAIT_S)
        if self._fd is not None:
            self._sign(self._fd)

    def _holder_or_taken(self) -> str | None:
        """Who holds the lock, "" where that is not known; None when it was taken, or there are no locks."""
        while (fd := self._open()) is not None:
            try:
                taken = _take(fd, exclusive=self._exclusive)
                holder = "" if taken else _line_of(fd)
            except OSError as error:
                os.close(fd)
                if self._exclusive:
                    log.warning(
                        "%s: no file locks there (%s); let one run at a time write to it",
                        self._path.parent,
                        error.strerror,
                    )
                return None
            if taken and self._is_current(fd):
                self._fd = fd
                return None
            os.close(fd)
            if not taken:
                return holder
        return None

    def _open(self) -> int | None:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o644)
        except OSError:
            if self._exclusive:
                raise
            return None  # a reader of a folder that it may not write to

    def _is_current(self, fd: int) -> bool:
        """Whether the lock's file is still the one that was opened; its last holder may have removed it in between."""
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self._path))
        except FileNotFoundError:
            return False

    def _sign(self, fd: int) -> None:
        os.ftruncate(fd, 0)
        if self._exclusive:
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            os.lseek(fd, 0, os.SEEK_SET)
            os.write(fd, f"process {os.getpid()}, since {since}, on {platform.node()}\n".encode())

    def release(self) -> None:
        """Let go; the last holder removes the lock's file."""
        if self._fd is None:
            return
        with contextlib.suppress(OSError):
            if _take(self._fd, exclusive=True) and self._is_current(self._fd):
                self._path.unlink()
        os.close(self._fd)
        self._fd = None


def _has_flock() -> bool:
    try:
        import fcntl  # noqa: F401
    except ImportError:
        return False
    return True


def _take(fd: int, *, exclusive: bool) -> bool:
    """Takes the lock of an open file without waiting; False where another has it. OSError where there are no locks."""
    try:
        import fcntl
    except ImportError:
        return _take_on_windows(fd)
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _take_on_windows(fd: int) -> bool:
    try:
        msvcrt = importlib.import_module("msvcrt")
    except ImportError:  # a system without any locks
        return True
    os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
    try:
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
    except PermissionError:
        return False
    return True


def _line_of(fd: int) -> str:
    os.lseek(fd, 0, os.SEEK_SET)
    return os.read(fd, 200).decode("utf-8", "replace").strip()
