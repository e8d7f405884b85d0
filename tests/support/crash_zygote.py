"""Runs of the program that die on purpose: a process that has everything imported and forks one child a run.

Read from standard input, a JSON line a run: {"arguments": [...], "log": FILE} and any of {"kill_at": N,
"kill_after_s": S, "after": words of the log from which these seconds count, "tallied": matched pairs, likewise,
"signal": 9, "delay": seconds that a batch of matching takes, "batch": pairs that become durable at once, "tally": file
that gets a byte for each matched pair, "real": true for the network, "stuck": stage that never ends, in compiled code,
"largest_file": bytes, "fsync_s": seconds more that an fsync takes}. Answered on standard output: {"status": S,
"points": N, "seconds": S, "seconds_after_signal": S}.

A point is a moment at which the disk changes: before every open for writing, rename, removal, truncation, fsync, and
before and in the middle of every write of the journal. A child is killed at its N-th point, or after a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_EVENTS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree"}
HANGS_S, HUNG = 240.0, 77
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class _Points:
    """Counts the points of this process, and kills it at one of them."""

    def __init__(self, kill_at: int | None, fsync_s: float) -> None:
        self.num = 0
        self._fsync_s = fsync_s
        self._kill_at = kill_at

    def reached(self) -> None:
        """One more point."""
        self.num += 1
        if self.num == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """From here on every change of the disk is a point."""
        from sfm.storage import journal

        sys.addaudithook(self._audit)
        fsync, write_all = os.fsync, journal.write_all

        def counted_fsync(fd: int) -> None:
            self.reached()
            time.sleep(self._fsync_s)
            fsync(fd)

        def torn_write(file: Any, offset: int, data: Any) -> None:
            view = memoryview(data).cast("B")
            self.reached()
            write_all(file, offset, view[: len(view) // 2])
            self.reached()
            write_all(file, offset + len(view) // 2, view[len(view) // 2 :])

        os.fsync = counted_fsync
        journal.write_all = torn_write

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING):
            self.reached()


def _child(request: dict[str, Any], pipe: int) -> None:
    """One run in a forked process; never returns."""
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    from sfm.cli import main as cli
    from sfm.matchers import registry as matcher_choice
    from sfm.matching import match_writer
    from sfm.registry import Entry
    from tests.support import crash_scene

    match_writer.FLUSH_PAIRS = request.get("batch", match_writer.FLUSH_PAIRS)
    built_in: Any = matcher_choice.MATCHERS.built_in
    make = built_in["loftr"].make if request.get("real") else crash_scene.make_matcher
    built_in["loftr"] = Entry(
        "", lambda *given: crash_scene.slowed(make(*given), request.get("delay", 0.0), request.get("tally"))
    )
    if request.get("stuck"):
        _stick(request["stuck"])
    if request.get("largest_file"):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing beyond fails as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest_file"],) * 2)
    points = _Points(request.get("kill_at"), request.get("fsync_s", 0.0))
    points.install()
    code = 99
    print("begun", flush=True)
    try:
        code = cli.main([str(word) for word in request["arguments"]])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os.write(pipe, str(points.num).encode())
        os._exit(code)


def _stick(name: str) -> None:
    """Has a stage work in compiled code, where Python sees no signals, as bundle adjustment does: for hours."""
    from sfm.pipeline import run as pipeline

    def work(run: Any) -> Any:
        print("stuck", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"", b"", (1 << 31) - 1)

    pipeline.STAGES = tuple(replace(stage, run=work) if stage.name == name else stage for stage in pipeline.STAGES)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _signal(request: dict[str, Any], pid: int, ended: int, begun: int) -> None:
    """Sends the signal in time, unless the run ends before. ended: readable then. begun: where its log begins."""
    words = request.get("after", "").encode()
    tally = Path(request.get("tally", request["log"]))
    while words not in Path(request["log"]).read_bytes()[begun:] or _size(tally) < request.get("tallied", 0):
        if select.select([ended], [], [], 0.002)[0]:
            return
    if not select.select([ended], [], [], request.get("kill_after_s", 0.0))[0]:
        os.kill(pid, request.get("signal", signal.SIGKILL))


def _status(pid: int) -> int:
    """How a child ended; one that hangs is killed."""
    until = time.monotonic() + HANGS_S
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return HUNG << 8


def _run(request: dict[str, Any]) -> dict[str, Any]:
    log = Path(request["log"])
    log.touch()
    begun = log.stat().st_size
    read, write = os.pipe()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.close(read)
        _child(request, write)
    os.close(write)
    if request.keys() & {"kill_after_s", "after", "tallied"}:
        _signal(request, pid, read, begun)
    signalled = time.monotonic()
    status = _status(pid)
    points = os.read(read, 100) if select.select([read], [], [], 0)[0] else b""
    os.close(read)
    return {
        "status": os.waitstatus_to_exitcode(status),
        "points": int(points or 0),
        "seconds": time.monotonic() - started,
        "seconds_after_signal": time.monotonic() - signalled,
    }


class Zygote:
    """The process that forks; one run at a time."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOG_minloglevel": "2"}
        command = [sys.executable, __file__]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, *arguments: object, log: Path, **how: Any) -> dict[str, Any]:
        """Runs the program; see the module's head."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"arguments": arguments, "log": log, **how}, default=str) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


@contextmanager
def zygote() -> Iterator[Zygote]:
    """A process that forks runs, ended afterwards."""
    found = Zygote()
    try:
        yield found
    finally:
        found.close()


def _main() -> None:
    sys.path.insert(0, str(ROOT))
    import sfm  # noqa: F401, I001  (first: it finds libraries that pycolmap and torch share)
    from tests.support import crash_scene  # noqa: F401

    from sfm.geometry import two_view as pair_geometry  # noqa: F401
    from sfm.alignment import patch_alignment  # noqa: F401
    from sfm.pipeline import run as pipeline  # noqa: F401
    from sfm.alignment import track_alignment  # noqa: F401
    from sfm.report import parts as report_parts  # noqa: F401

    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


if __name__ == "__main__":
    _main()
