"""Ctrl-C that ends the program in time, whatever it is doing.

Python hands Ctrl-C to the main thread, which sees it when the compiled code that it is in returns: after minutes, where
that is bundle adjustment. What is done is on disk by then, and what is not is written whole or not at all, so the
process may end at any moment. The system's signal handler wakes a thread, which gives the main thread a little
time to end by itself, and then ends the process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

GRACE_S = 1.5
EXIT_CODE = 130


def end_at_sigterm() -> None:
    """SIGTERM ends the process at once, like a kill. Call it when pycolmap is loaded.

    Its glog takes SIGTERM for a crash: it writes the stack, and waits for ever where it interrupts an allocation.
    Does nothing outside the main thread.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _unraisable(told: sys.UnraisableHookArgs) -> None:
    """Python passes over what is raised in __del__ and the like, with a traceback, which Ctrl-C does not need."""
    if told.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(told)


@contextmanager
def ended_in_time(message: str, grace_s: float = GRACE_S) -> Iterator[None]:
    """Inside, and after a Ctrl-C that was raised inside, the process ends with 130 at most `grace_s` after a Ctrl-C.

    message: what is then said on standard error, unless the KeyboardInterrupt has come out by then.
    Does nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    standard_error = os.dup(2)  # 2 may lead nowhere while COLMAP is silenced
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    out, over = threading.Event(), threading.Event()

    def watch() -> None:
        while (number := os.read(read, 1)) and number != bytes([signal.SIGINT]):
            pass
        if not number or over.wait(grace_s):
            return
        if not out.is_set():
            with suppress(OSError):
                os.write(standard_error, f"\n{message}\n".encode(errors="replace"))
        os._exit(EXIT_CODE)

    told, sys.unraisablehook = sys.unraisablehook, _unraisable
    watcher = threading.Thread(target=watch, name="ended_in_time", daemon=True)
    watcher.start()
    try:
        yield
    except KeyboardInterrupt:
        out.set()  # the caller tells it; what threads still do at exit is not waited for
        signal.set_wakeup_fd(before)
        raise
    except BaseException:
        over.set()
        raise
    else:
        over.set()
    finally:
        sys.unraisablehook = told
        if over.is_set():
            signal.set_wakeup_fd(before)
            os.close(write)
            watcher.join()
            os.close(read)
            os.close(standard_error)
