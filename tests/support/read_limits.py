"""A read in a process of its own, with limits on memory and time: READ, REFUSED, or what is wrong. Linux."""

from __future__ import annotations

import gc
import os
import resource
import shutil
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

from sfm.errors import SfMError
from sfm.system.machine import peak_mb, reset_peak
from tests.support.folders import ROOT
from tests.support.hostile_readers import READERS

SECONDS, WAITING = 10, 60  # of the processor and of the clock for one file; whole ones take less than one
MEMORY_MB = 1024  # that one file may add
ADDRESS_SPACE = 6 << 30  # bytes that one process may add
READ, REFUSED = "read", "refused"


def guarded(action: Callable[[], str]) -> str:
    """What an action says in a process of its own within the limits, or how that ended ("ended by signal 9")."""
    receive, send = os.pipe()
    if (child := os.fork()) == 0:
        os.close(receive)
        gc.freeze()  # or collecting garbage would copy every page of what the parent holds
        try:
            limit()
            os.write(send, action().encode("utf-8", "replace")[:4000])
        except BaseException:  # ours
            os.write(send, traceback.format_exc().encode("utf-8", "replace")[-4000:])
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        said = pipe.read().decode("utf-8", "replace")
    status = os.waitpid(child, 0)[1]
    return f"ended by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else said or "no answer"


def limit() -> None:
    """This process may not take much more address space than it has, and ends when its alarm rings."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + ADDRESS_SPACE,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for alarm in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(alarm, signal.SIG_DFL)
    set_alarm()
    for stream in (1, 2):  # COLMAP's complaints
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def set_alarm() -> None:
    """This process ends after SECONDS of its own, or WAITING of the clock's: others may keep the processor busy."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(WAITING)


def attempt(read: Callable[[Path], object], folder: Path) -> str:
    """READ or REFUSED where reading a folder went as promised, else what is wrong and where."""
    reset_peak()
    before, said = peak_mb(), READ
    try:
        read(folder)
    except SfMError as error:
        if len(str(error).splitlines()) != 1 or str(folder) not in str(error):
            return f"not one line that names a file: {error!r}"
        if _memory_ended(error):
            return f"memory ended: {error}"
        said = REFUSED
    except Exception as error:
        ours = [f for f in traceback.extract_tb(error.__traceback__) if str(ROOT / "sfm") in f.filename] or [None]
        where = f" at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours[-1] else ""
        return f"{type(error).__name__}{where}: {str(error)[:200]}"
    grown = peak_mb() - before
    return f"memory: {grown:.0f} MB" if grown > MEMORY_MB else said


def _memory_ended(error: BaseException | None) -> bool:
    """Whether an error comes from an allocation that the limit refused: without one it might have been made."""
    while error is not None and not isinstance(error, MemoryError):
        error = error.__cause__ or error.__context__
    return error is not None


def replay(name: str, path: Path, place: Path) -> str:
    """Reads a kept file as fuzzing does: READ, REFUSED, or what is wrong."""
    reader = READERS[name]
    place.mkdir(parents=True, exist_ok=True)
    reader.make(place)
    shutil.copyfile(path, place / path.name.rpartition("--")[0].replace("__", "/"))
    return guarded(lambda: attempt(reader.read, place))
