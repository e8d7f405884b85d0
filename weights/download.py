"""Downloads weights into the user's cache: resumed, checked, put in place by one rename.

A download grows in NAME.part, under a lock that dies with its process, and becomes NAME only when
its size and checksum are right. Standard library only; nothing but http and https is opened.
"""

from __future__ import annotations

import http.client
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from platformdirs import user_cache_dir

from sfm.errors import BadFile
from sfm.system.file_lock import FileLock
from sfm.system.hashing import files_digest
from sfm.system.progress import progress_bar
from sfm.weights.registry import Weights

MAX_BYTES = 1 << 30  # no LoFTR checkpoint comes near it
TIMEOUT_S = 20.0
MIN_RATE = 1024  # bytes per second over a timeout; slower counts as stalled
_CHUNK = 1 << 18
_TRIES = 5  # of one address, as long as each brings it further


class _Failed(Exception):
    """One try at one address failed; `again` says that the same address may still serve the rest."""

    def __init__(self, reason: str, *, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


def cache_folder() -> Path:
    """Folder of downloaded weights: LOFTR_SFM_CACHE/weights, else the user's cache folder."""
    root = os.environ.get("LOFTR_SFM_CACHE") or user_cache_dir("loftr-sfm", appauthor=False)
    return Path(root).expanduser() / "weights"


def is_offline(offline: bool = False) -> bool:
    """True where the option or LOFTR_SFM_OFFLINE (anything but empty or 0) forbids the network."""
    return offline or os.environ.get("LOFTR_SFM_OFFLINE", "0") not in ("", "0")


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file; BadFile when it cannot be read."""
    try:
        return files_digest([path])
    except OSError as error:
        raise BadFile(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error


def fault_of(path: Path, weights: Weights) -> str | None:
    """Why a file is not these weights ("wrong size ..."), None when it is or when nothing can be checked."""
    size = path.stat().st_size
    if weights.size is not None and size != weights.size:
        return f"{size} bytes instead of {weights.size}"
    if weights.sha256 is not None and sha256_of(path) != weights.sha256:
        return "wrong SHA-256 checksum"
    with path.open("rb") as file:
        head = file.read(64).lstrip().lower()
    return "empty or a web page, not a checkpoint" if not head or head.startswith(b"<") else None


def places(weights: Weights) -> list[Path]:
    """Paths where the file of these weights may be on this machine, best first."""
    return [weights.embedded] if weights.embedded else [cache_folder() / name for name in weights.file_names]


def find(weights: Weights) -> Path | None:
    """The file of these weights on this machine, checked; None when absent or damaged."""
    return next((p for p in places(weights) if p.is_file() and fault_of(p, weights) is None), None)


def state_of(weights: Weights) -> str:
    """In words: "ok ...", "not checked ...", "damaged ..." with the file, or "not on this machine"."""
    if (path := find(weights)) is not None:
        checked = "ok, checksum right" if weights.sha256 else "there, not checked (no checksum is known)"
        return f"{checked}: {path}"
    damaged = next((p for p in places(weights) if p.is_file()), None)
    return f"damaged ({fault_of(damaged, weights)}): {damaged}" if damaged else "not on this machine"


def fetch(weights: Weights, *, offline: bool = False, timeout_s: float = TIMEOUT_S) -> Path:
    """The file of these weights, downloaded if need be. BadFile, in one line, when it cannot be had."""
    if (found := find(weights)) is not None:
        return found
    if weights.embedded is not None:
        raise BadFile(f"{weights.embedded}: missing or damaged although it ships with loftr-sfm; install it again")
    target = cache_folder() / weights.file_names[0]
    if is_offline(offline):
        raise BadFile(f"weights {weights.name}: {state_of(weights)}, and the network is forbidden; {_by_hand(weights)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target, exclusive=True, wait=lambda: _say_waiting(target))
        try:
            return find(weights) or _download(weights, target, timeout_s)
        finally:
            lock.release()
    except OSError as error:
        raise BadFile(f"{target}: cannot be written ({error.strerror}); set LOFTR_SFM_CACHE to a folder") from error


def _by_hand(weights: Weights) -> str:
    return f"put {weights.urls[0]} at {cache_folder() / weights.file_names[0]} manually"


def _download(weights: Weights, target: Path, timeout_s: float) -> Path:
    part = target.with_name(target.name + ".part")
    reasons = []
    for url in weights.urls:
        if weights.sha256 is None:
            part.unlink(missing_ok=True)  # its two halves may not belong together
        try:
            _fetch_from(url, part, weights, timeout_s)
        except _Failed as failure:
            reasons.append(f"{urlsplit(url).netloc}: {failure}")
        else:
            os.replace(part, target)
            return target
    raise BadFile(f"weights {weights.name}: download failed ({'; '.join(reasons)}); {_by_hand(weights)}")


def _fetch_from(url: str, part: Path, weights: Weights, timeout_s: float) -> None:
    """Leaves the whole checked file in `part`, or raises _Failed (and removes `part` when it is wrong)."""
    for _ in range(_TRIES):
        before = _size(part)
        try:
            _receive(url, part, weights, timeout_s)
        except _Failed as failure:
            if not (failure.again and _size(part) != before):
                raise
            continue
        fault = fault_of(part, weights)
        if fault is None:
            return
        part.unlink()
        if not before:  # else the old beginning may have been at fault: once more from the start
            raise _Failed(fault)
    raise _Failed("the connection was cut again and again", again=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _receive(url: str, part: Path, weights: Weights, timeout_s: float) -> None:
    """One connection: appends to `part` what is missing of it."""
    start = _size(part)
    if weights.size is not None and start >= weights.size:
        if start == weights.size:
            return
        part.unlink()
        start = 0
    try:
        with _open(url, start, timeout_s) as response:
            start, total = _extent(response, start, weights)
            with part.open("r+b" if start else "wb") as file:
                file.seek(start)
                file.truncate()
                _copy(response, file, (start, total), weights, timeout_s)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            part.unlink(missing_ok=True)
        raise _Failed(f"HTTP {error.code} {error.reason}", again=error.code == 416) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # of the cache folder, not of the network
        raise _Failed(_words(error), again=True) from error


def _words(error: Exception) -> str:
    cause = getattr(error, "reason", error)
    return "timed out" if isinstance(cause, TimeoutError) else str(cause) or type(cause).__name__


def _open(url: str, start: int, timeout_s: float) -> Any:
    """Response for the bytes from `start` on. The opener knows http and https only, redirects included."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise _Failed("only http and https addresses are opened")
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    headers = {"User-Agent": "loftr-sfm", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    return opener.open(urllib.request.Request(url, headers=headers), timeout=timeout_s)


def _extent(response: Any, start: int, weights: Weights) -> tuple[int, int | None]:
    """Where the served bytes begin in the file, and the file's size if the server sends it; checks both."""
    if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        raise _Failed("served another range than was asked for")
    if response.status != 206:
        start = 0  # the server knows no ranges and sends the whole file
    length = response.headers.get("Content-Length")
    total = None if length is None else start + int(length)
    if total is not None and weights.size is not None and total != weights.size:
        raise _Failed(f"serves {total} bytes instead of {weights.size}")
    if total is not None and total > MAX_BYTES:
        raise _Failed(f"serves {total} bytes, more than any checkpoint has")
    return start, total


def _copy(response: Any, file: IO[bytes], extent: tuple[int, int | None], weights: Weights, timeout_s: float) -> None:
    """Streams the body into `file`; _Failed when it stalls, is cut short or does not end."""
    done, total = extent
    limit = total or weights.size or MAX_BYTES
    bar = progress_bar(total or weights.size or 0, desc=file.name.rsplit(os.sep)[-1], unit="B", initial=done)
    bar.unit_scale = True
    with bar:
        since, mark = time.monotonic(), done
        while block := response.read1(_CHUNK):
            file.write(block)
            done += len(block)
            bar.update(len(block))
            if done > limit:
                raise _Failed(f"sends more than {limit} bytes")
            if (elapsed := time.monotonic() - since) > timeout_s:
                if done - mark < MIN_RATE * elapsed:
                    raise _Failed("stalled")
                since, mark = time.monotonic(), done
    if total is not None and done < total:
        raise _Failed(f"connection cut at {done} of {total} bytes", again=True)


def _say_waiting(target: Path) -> None:
    print(f"waiting for another process that downloads {target.name}", file=sys.stderr)
