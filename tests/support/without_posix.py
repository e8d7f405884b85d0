"""Run as a program: what a system without POSIX's own modules and calls, as Windows, would make of this package.

Only our code is shown such a system: other libraries are loaded before, and what they import on Linux they may.

    python -m tests.support.without_posix import | run IMAGES OUT | help
"""

from __future__ import annotations

import builtins
import ctypes
import importlib
import os
import pathlib
import signal
import sys
from types import ModuleType
from typing import Any

from tests.support.folders import ROOT

MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix", "readline"}
OS_CALLS = (
    *("set_blocking", "sched_getaffinity", "sched_setaffinity", "statvfs", "fstatvfs", "pread", "pwrite", "sysconf"),
    *("fork", "getuid", "geteuid", "getgid", "mkfifo", "nice", "getloadavg", "killpg", "setsid", "fchmod", "fchown"),
    *("uname", "sync", "O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK", "O_CLOEXEC"),
)
LIBRARIES = (
    *("numpy", "torch", "scipy.optimize", "h5py", "pycolmap", "pyceres", "matplotlib.pyplot", "PIL.Image", "tqdm"),
    *("platformdirs", "platformdirs.unix"),
)


class Absent(ImportError):
    """A module that Windows has not was imported without a guard."""


def take_away() -> None:
    """From here on our modules see no POSIX."""
    os.environ.setdefault("USERNAME", "somebody")  # Windows has it, and getpass asks the system where nothing has
    for name in LIBRARIES:
        importlib.import_module(name)
    real_import, real_library, real_read = builtins.__import__, ctypes.CDLL, pathlib.Path.read_text

    def import_for_us(name: str, globals: Any = None, *rest: Any, **more: Any) -> ModuleType:
        if name in MODULES and str((globals or {}).get("__name__", "")).startswith("sfm"):
            raise Absent(f"No module named {name!r}")
        return real_import(name, globals, *rest, **more)

    def library(name: str | None, *rest: Any, **more: Any) -> Any:
        if name is None:
            raise TypeError("ctypes.CDLL(None) as Windows answers it")
        return real_library(name, *rest, **more)

    def read_text(path: pathlib.Path, *rest: Any, **more: Any) -> str:
        if path.parts[:2] in (("/", "proc"), ("/", "sys")):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return real_read(path, *rest, **more)

    for name in OS_CALLS:
        if hasattr(os, name):
            delattr(os, name)
    for name in ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGALRM", "pthread_kill", "setitimer"):
        if hasattr(signal, name):
            delattr(signal, name)
    builtins.__import__ = import_for_us
    ctypes.CDLL = library  # type: ignore[assignment, misc]
    pathlib.Path.read_text = read_text  # type: ignore[assignment, method-assign]


def import_everything() -> int:
    """Imports every module of ours; prints and counts those that need what is absent."""
    failed = 0
    for top in ("sfm", "matchers", "weights", "datasets"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(part for part in (() if top == "sfm" else ("sfm",)) + parts if part != "__init__")
            try:
                importlib.import_module(name)
            except (Absent, AttributeError) as error:
                failed += 1
                print(f"{name}: {error}")
            except (ImportError, OSError) as error:  # Open3D needs libraries of the system
                print(f"{name} left out: {error}", file=sys.stderr)
    return failed


def main(what: str, *arguments: str) -> int:
    """0 where all went well."""
    take_away()
    if what == "import":
        return import_everything()
    from sfm.cli.main import main as run

    return run(["--help"] if what == "help" else [*arguments])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
