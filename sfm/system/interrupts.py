"""Ctrl-C that ends the program in time, whatever it is doing.

Python hands Ctrl-C to the main thread, which sees it when the compiled code that it is in returns: after minutes, where
that is bundle adjustment. What is done is on disk by then, and what is not is written whole or not at all, so the
process may end at any moment. The system's signal handler wakes a thread, which gives the main thread a little
time to end by itself, and then ends the process.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

GRACE_S = 1.5
EXIT_CODE = 130
_AGAIN_S = 0.005  # after which a deferred Ctrl-C is tried again
_OVER = b"\0"  # written where signals' numbers are, none of which is 0


def end_at_sigterm() -> None:
    """SIGTERM ends the process at once, like a kill.

    pycolmap's glog, from when it is loaded, takes SIGTERM for a crash: it writes the stack, and waits for ever where it
    interrupts an allocation. So it is loaded here. Does nothing outside the main thread.
    """
    import pycolmap  # noqa: F401

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def defer_ctrl_c(source: str) -> Callable[[], None]:
    """From now on no KeyboardInterrupt is raised inside the functions of a source file, or inside what they call, but
    as soon as they have returned. For functions that compiled code calls, and that would lose what they are raised in.

    source: the file's path, as in `__file__`. Returns what ends it. Does nothing outside the main thread, where Python
    never raises KeyboardInterrupt, and where Ctrl-C is ignored or left to the system.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        return lambda: None

    def handler(number: int, frame: FrameType | None) -> None:
        caller = frame
        while caller is not None and caller.f_code.co_filename != source:
            caller = caller.f_back
        if caller is None:
            before(number, frame)
            return
        _interrupt_soon()

    def end() -> None:
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is handler:
            signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, handler)
    return end


def _interrupt_soon() -> None:
    again = threading.Timer(_AGAIN_S, _interrupt_main_thread)
    again.daemon = True
    again.start()


def _interrupt_main_thread() -> None:
    if hasattr(signal, "pthread_kill"):  # unlike the other, wakes a thread that sleeps or waits
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


@contextmanager
def ended_in_time(message: str, grace_s: float = GRACE_S) -> Iterator[None]:
    """Inside, and after a Ctrl-C that was raised inside, the process ends with 130 at most `grace_s` after a Ctrl-C.

    message: what is then said on standard error, unless the KeyboardInterrupt has come out by then.
    Does nothing outside the main thread, and where the system cannot wake a thread (Windows with Python before 3.12).
    """
    if threading.current_thread() is not threading.main_thread() or not _can_wake():
        yield
        return
    watcher = _Watcher(message, grace_s)
    try:
        with _raised_again():
            yield
    except KeyboardInterrupt:
        watcher.let_run()
        raise
    except BaseException:
        watcher.stop()
        raise
    else:
        watcher.stop()


def _can_wake() -> bool:
    return hasattr(os, "set_blocking") and hasattr(signal, "set_wakeup_fd")


class _Watcher:
    """A thread that the system's signal handler wakes at Ctrl-C, and that then ends the process after `grace_s`."""

    def __init__(self, message: str, grace_s: float) -> None:
        self._message, self._grace_s = message, grace_s
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._standard_error = os.dup(2)  # 2 may lead nowhere while COLMAP is silenced
        self._before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._out, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ended_in_time", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while (number := os.read(self._read, 1)) not in (_OVER, bytes([signal.SIGINT])):
            pass
        if number == _OVER or self._over.wait(self._grace_s):
            return
        if not self._out.is_set():
            with suppress(OSError):
                os.write(self._standard_error, f"\n{self._message}\n".encode(errors="replace"))
        os._exit(EXIT_CODE)

    def let_run(self) -> None:
        """The KeyboardInterrupt has come out: its caller reports it, and what threads do at exit is not waited for."""
        self._out.set()
        signal.set_wakeup_fd(self._before)

    def stop(self) -> None:
        """No Ctrl-C counts any more."""
        self._over.set()
        signal.set_wakeup_fd(self._before)
        os.write(self._write, _OVER)  # closing it would say nothing where a child of this process holds it, too
        self._thread.join()
        os.close(self._write)
        os.close(self._read)
        os.close(self._standard_error)


@contextmanager
def _raised_again() -> Iterator[None]:
    """Python passes over what is raised in __del__ and the like, with a traceback: a Ctrl-C is raised again instead."""
    before, sys.unraisablehook = sys.unraisablehook, _unraisable
    try:
        yield
    finally:
        sys.unraisablehook = before


def _unraisable(raised: sys.UnraisableHookArgs) -> None:
    if raised.exc_type is KeyboardInterrupt:
        _interrupt_soon()
    else:
        sys.__unraisablehook__(raised)
