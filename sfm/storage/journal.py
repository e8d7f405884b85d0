"""A file whose changes are committed atomically.

HDF5 overwrites its own metadata in place, so a process killed inside a write leaves a file that
no longer opens. `JournaledFile` is the layer between HDF5 and the disk. Bytes beyond the committed end go
to the file at once (nobody looks there yet); changes below it are kept in memory, page by page.
`commit` then makes all of it durable, as SQLite's journal does:

1. fsync the file: the appended bytes are safe;
2. write the changed pages and a checksum to `FILE.journal`, fsync: from here on the commit holds;
3. write the pages into the file, cut it to its new size, fsync, empty the journal.

A kill before the end of 2 leaves the old file, one after it leaves a whole journal, which the next
`JournaledFile` replays (or, opened for reading, overlays). Independent of HDF5.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sfm.errors import BadFile
from sfm.storage.heap_check import check_heaps
from sfm.system.interrupts import defer_ctrl_c
from sfm.system.safe_paths import refuse_links

PAGE = 4096  # bytes
_HEAD = struct.Struct("<8sQQ")  # magic, number of pages, size of the file after the commit (bytes)
_MAGIC = b"SFMJRNL1"
_MAX_GROWTH = 1 << 30  # bytes that a commit may leave without a value at the file's end


def journal_path(path: Path) -> Path:
    """Path of the journal of a file."""
    return path.with_name(path.name + ".journal")


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can."""
    if os.name == "posix":
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def replace_durably(temporary: Path, path: Path) -> None:
    """Give a finished temporary file its final name so that a crash leaves the old file or the new one, whole."""
    with temporary.open("r+b") as file:  # Windows syncs only files that may be written to
        os.fsync(file.fileno())
    os.replace(temporary, path)
    fsync_folder(path.parent)


def write_all(file: io.FileIO, offset: int, data: bytes | bytearray | memoryview) -> None:
    """Writes all of the data at an offset, however many calls that takes."""
    view = memoryview(data).cast("B")
    file.seek(offset)
    while len(view):
        view = view[file.write(view) :]


def _read_journal(path: Path, size: int) -> tuple[dict[int, bytearray], int] | None:
    """The pages and the file size of a whole journal of a file of `size` bytes; None where there is none or it was
    never finished. BadFile where it is larger than one of all the file's pages."""
    try:
        if path.stat().st_size > _HEAD.size + (size // PAGE + 2) * (8 + PAGE) + 32:
            raise BadFile(f"{path}: not the journal of {path.stem}; delete it")
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(data) < _HEAD.size + 32:
        return None
    magic, count, new_size = _HEAD.unpack_from(data)
    body, checksum = data[:-32], data[-32:]
    if magic != _MAGIC or len(body) != _HEAD.size + count * (8 + PAGE) or hashlib.sha256(body).digest() != checksum:
        return None
    starts = range(_HEAD.size, len(body), 8 + PAGE)
    return {struct.unpack_from("<Q", body, s)[0]: bytearray(body[s + 8 : s + 8 + PAGE]) for s in starts}, new_size


class JournaledFile:
    """A binary file object (read, write, seek, tell, truncate, flush) with `commit`; not thread-safe.

    A write that fails (disk full) raises its error from `commit`, not from `write`. A Ctrl-C waits until HDF5 has its
    answer: HDF5 closes datasets where Python passes over errors, so what it could not write would be missed by nobody.

    committed_size: the length of the file, bytes, from its first page; whatever is
    beyond was never committed. It may raise for a file that is not what it should be.
    """

    def __init__(self, path: Path, *, committed_size: Callable[[bytes, int], int], writable: bool) -> None:
        if writable:
            refuse_links(path.parent, [path.name, journal_path(path).name])
        self._file = io.FileIO(path, "r+" if writable else "r")
        self._journal_path = journal_path(path)
        self._journal: io.FileIO | None = None
        self._writable = writable
        self._position = 0
        self._pages: dict[int, bytearray] = {}
        self._size = os.fstat(self._file.fileno()).st_size  # logical, bytes
        self._error: Exception | None = None  # of a write that HDF5 believes done
        self._pending = False  # a whole journal that has not been carried out yet
        try:
            self._recover()
            self._size = committed_size(bytes(self._page(0)), self._size)
            self._set_base()
        except BaseException:
            self._file.close()
            raise
        self._no_longer_defer = defer_ctrl_c(__file__) if writable else lambda: None

    def _recover(self) -> None:
        found = _read_journal(self._journal_path, self._size)
        if found is not None:
            if max(found[1], PAGE * max(found[0], default=0)) > self._size + len(found[0]) * PAGE + _MAX_GROWTH:
                raise BadFile(f"{self._journal_path}: not the journal of {self._journal_path.stem}; delete it")
            self._pages, self._size = found
            if self._writable:
                self._pending = True
                self._apply()
        elif self._writable:
            self._journal_path.unlink(missing_ok=True)

    def _set_base(self) -> None:
        """From now on everything below the end of the file is committed."""
        self._committed = self._size
        self._base = -(-self._size // PAGE) * PAGE  # first byte that may be written at once
        self._appended = False

    # what HDF5 calls

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; from the end means from the logical end, uncommitted bytes included."""
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        """Position, bytes."""
        return self._position

    def flush(self) -> None:
        """Nothing: only `commit` makes changes real."""

    def truncate(self, size: int | None = None) -> int:
        """Set the logical size, bytes; takes effect on disk with the next commit."""
        self._size = self._position if size is None else size
        return self._size

    def read(self, size: int = -1) -> bytes:
        """Bytes from the position on; zeros where nothing was ever written."""
        data = bytearray(max(self._size - self._position if size < 0 else size, 0))
        self.readinto(data)
        return bytes(data)

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer; see `read`. OSError where it holds what HDF5 must not see."""
        view = memoryview(buffer).cast("B")
        self._fill(self._position, view)
        check_heaps(view, self._position, self._at)
        self._position += len(view)
        return len(view)

    def _at(self, offset: int, size: int) -> bytes:
        data = bytearray(size)
        self._fill(offset, memoryview(data))
        return bytes(data)

    def write(self, data: Any) -> int:
        """Below the committed end into memory, beyond it into the file."""
        view = memoryview(data).cast("B")
        start, end = self._position, self._position + len(view)
        below = max(0, min(end, self._base) - start)
        try:
            self._write_pages(start, view[:below])
            if below < len(view):
                self._appended = True
                write_all(self._file, start + below, view[below:])
        except (OSError, MemoryError) as error:  # HDF5 cannot handle an error in the middle of its work
            self._error = error
        self._position = end
        self._size = max(self._size, end)
        return len(view)

    def _fill(self, start: int, view: memoryview) -> None:
        size, done = len(view), 0
        self._file.seek(start)
        while done < size and (got := self._file.readinto(view[done:])):
            done += got
        view[done:] = bytes(size - done)
        for page in range(start // PAGE, -(-(start + size) // PAGE)) if self._pages else ():
            if page in self._pages:
                first, last = max(start, page * PAGE), min(start + size, (page + 1) * PAGE)
                view[first - start : last - start] = self._pages[page][first - page * PAGE : last - page * PAGE]

    def _page(self, page: int) -> bytearray:
        data = bytearray(PAGE)
        self._fill(page * PAGE, memoryview(data))
        return data

    def _write_pages(self, start: int, view: memoryview) -> None:
        done = 0
        while done < len(view):
            page, offset = divmod(start + done, PAGE)
            if page not in self._pages:
                self._pages[page] = self._page(page)
            step = min(PAGE - offset, len(view) - done)
            self._pages[page][offset : offset + step] = view[done : done + step]
            done += step

    # commit

    def commit(self) -> None:
        """Make all changes real and durable, or none. An error (disk full) leaves the committed state untouched."""
        if self._error is not None:
            raise self._error
        os.fsync(self._file.fileno())
        if self._journal is None:
            self._journal = io.FileIO(self._journal_path, "w")
            fsync_folder(self._journal_path.parent)
        body = _HEAD.pack(_MAGIC, len(self._pages), self._size) + b"".join(
            struct.pack("<Q", page) + data for page, data in sorted(self._pages.items())
        )
        write_all(self._journal, 0, body + hashlib.sha256(body).digest())
        self._journal.truncate()
        self._pending = True
        os.fsync(self._journal.fileno())
        self._apply()
        self._set_base()

    def _apply(self) -> None:
        for page, data in sorted(self._pages.items()):
            write_all(self._file, page * PAGE, data)
        self._file.truncate(self._size)
        os.fsync(self._file.fileno())
        self._pages = {}
        if self._journal is None:
            self._journal = io.FileIO(self._journal_path, "r+")
        self._journal.truncate(0)
        self._pending = False

    def close(self) -> None:
        """Forget what was not committed; remove the (empty) journal."""
        self._no_longer_defer()
        if self._file.closed:
            return
        if self._appended and not self._pending:
            self._file.truncate(self._committed)
        self._file.close()
        if self._journal is not None:
            self._journal.close()
            if not self._pending:
                self._journal_path.unlink(missing_ok=True)
