"""Ctrl-C and what becomes of the process: each time in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from sfm.system.interrupts import ended_in_time
from tests.support.folders import ROOT

BEGIN = """
import hashlib, signal, sys, time
from sfm.system.interrupts import ended_in_time
signal.signal(signal.SIGINT, signal.default_int_handler)
def compiled():
    hashlib.pbkdf2_hmac("sha256", b"", b"", (1 << 31) - 1)  # minutes, and Python sees no signals
def begun():
    print("begun", flush=True)
"""


def interrupted(code: str) -> tuple[int, str, float]:
    """Exit code and standard error of a process that gets Ctrl-C when it says "begun", and seconds until its end."""
    command = [sys.executable, "-c", BEGIN + code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        since = time.monotonic()
        _, errors = process.communicate(timeout=60)
    return process.returncode, errors, time.monotonic() - since


def tells_by_itself(code: str) -> None:
    """What gets the KeyboardInterrupt that comes out of the code says so and ends the process, soon."""
    indented = "".join(f"    {line}\n" for line in code.splitlines())
    how = 'except KeyboardInterrupt:\n    print("told", file=sys.stderr)\n    sys.exit(130)\n'
    status, errors, seconds = interrupted(f"try:\n{indented}{how}")
    assert (status, errors) == (130, "told\n")
    assert seconds < 10


def test_compiled_code_is_ended():
    code, errors, seconds = interrupted("with ended_in_time('what to do', 0.3):\n    begun(); compiled()")
    assert (code, errors) == (130, "\nwhat to do\n")
    assert 0.2 < seconds < 5


def test_python_ends_by_itself_and_tells_itself():
    tells_by_itself("""
with ended_in_time("not this", 30):
    begun()
    time.sleep(60)
""")


def test_what_threads_do_at_the_end_is_not_waited_for():
    tells_by_itself("""
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
with ended_in_time("not this", 0.5):
    pool.submit(time.sleep, 60)
    begun()
    time.sleep(60)
""")


def test_ctrl_c_that_somebody_handles_inside_does_not_end_what_comes_after():
    code, errors, _ = interrupted("""
with ended_in_time("not this", 0.5):
    try:
        begun()
        time.sleep(60)
    except KeyboardInterrupt:
        pass
time.sleep(1)
print("after", file=sys.stderr)
""")
    assert (code, errors) == (0, "after\n")


def test_ctrl_c_that_python_passes_over_is_raised_again():
    tells_by_itself("""
class Slow:
    def __del__(self):
        begun()
        time.sleep(60)
with ended_in_time("not this", 30):
    Slow()
    time.sleep(60)
""")


def test_nothing_is_left_behind():
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    with ended_in_time("not this"):
        pass
    assert signal.set_wakeup_fd(before) == before
    for error in (ValueError, SystemExit, KeyboardInterrupt):
        with pytest.raises(error), ended_in_time("not this"):
            raise error
        assert signal.set_wakeup_fd(before) == before


def test_the_end_does_not_wait_for_a_child_that_lives_on():
    program = """
import os, time
from sfm.system.interrupts import ended_in_time
with ended_in_time("not this"):
    child = os.fork()
    if not child:
        time.sleep(60)
print(child)
"""
    since = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        status = process.wait(timeout=30)
        assert process.stdout is not None
        os.kill(int(process.stdout.readline()), signal.SIGKILL)
    assert status == 0
    assert time.monotonic() - since < 30


def test_sigterm_is_a_kill_whether_pycolmap_was_loaded_or_is_later():
    program = """
import os, signal
from sfm.system.interrupts import end_at_sigterm
end_at_sigterm()
import pycolmap
os.kill(os.getpid(), signal.SIGTERM)
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (-signal.SIGTERM, "")
