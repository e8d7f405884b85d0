"""Runs of the program that die on purpose: a process that has everything imported and forks one child a run.

Read from standard input, a JSON line a run: {"arguments": [...], "kill_at": N | null, "kill_after_s": S | null,
"signal": 9, "delay": S, "batch": pairs that become durable at once, "tally": FILE, "real": true for the network,
"log": FILE}. Answered on standard output: {"status": S, "points": N, "seconds": S}.

A point is a moment at which the disk changes: before every open for writing, rename, removal, truncation, fsync, and
before and in the middle of every write of the journal. A child is killed at its N-th point, or after a time.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_EVENTS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class _Points:
    """Counts the points of this process, and kills it at one of them."""

    def __init__(self, kill_at: int | None) -> None:
        self.num = 0
        self._kill_at = kill_at

    def reached(self) -> None:
        """One more point."""
        self.num += 1
        if self.num == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """From here on every change of the disk is a point."""
        from sfm import journal

        sys.addaudithook(self._audit)
        fsync, write_all = os.fsync, journal._write_all

        def counted_fsync(fd: int) -> None:
            self.reached()
            fsync(fd)

        def torn_write(file: Any, offset: int, data: Any) -> None:
            view = memoryview(data).cast("B")
            self.reached()
            write_all(file, offset, view[: len(view) // 2])
            self.reached()
            write_all(file, offset + len(view) // 2, view[len(view) // 2 :])

        os.fsync = counted_fsync
        journal._write_all = torn_write

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING):
            self.reached()


def _child(request: dict[str, Any], pipe: int) -> None:
    """One run in a forked process; never returns."""
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    import crash_scene

    from sfm import cli, matcher_choice, matching

    matching._FLUSH_PAIRS = request.get("batch", matching._FLUSH_PAIRS)
    if not request.get("real"):
        matcher = crash_scene.CellMatcher(request.get("delay", 0.0), request.get("tally"))
        matcher_choice.MATCHERS["loftr"] = lambda options: matcher
    points = _Points(request.get("kill_at"))
    points.install()
    code = 99
    try:
        code = cli.main([str(word) for word in request["arguments"]])
    finally:
        sys.stdout.flush()
        os.write(pipe, str(points.num).encode())
        os._exit(code)


def _run(request: dict[str, Any]) -> dict[str, Any]:
    read, write = os.pipe()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.close(read)
        _child(request, write)
    os.close(write)
    if request.get("kill_after_s") is not None and not select.select([read], [], [], request["kill_after_s"])[0]:
        os.kill(pid, request.get("signal", signal.SIGKILL))
    signalled = time.monotonic()
    _, status = os.waitpid(pid, 0)
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
    import crash_scene  # noqa: F401

    from sfm import pair_geometry, patch_alignment, pipeline, track_alignment  # noqa: F401
    from sfm.views import report_parts  # noqa: F401

    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


if __name__ == "__main__":
    _main()
