"""Wall time, processor time and peak memory of a command in a process of its own; and what it was measured on."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATASETS = ROOT.parent / "shared" / "datasets"


@dataclass(frozen=True)
class Measured:
    """How a command ended and what it took. peak_mib: largest resident memory of it or of one process it waited for.

    Linux counts in the caller's own memory at the start, so a caller that measures memory must be small itself.
    """

    exit_code: int
    seconds: float
    cpu_seconds: float
    peak_mib: float
    output: str


def run_measured(command: Sequence[str], log: Path) -> Measured:
    """Run the command in the root of the checkout, both its outputs into the log file."""
    start = time.perf_counter()
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Measured(
        exit_code=process.returncode,
        seconds=time.perf_counter() - start,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mib=usage.ru_maxrss / 1024,
        output=log.read_text(errors="replace"),
    )


def is_record_of(path: Path, command: list[str]) -> bool:
    """Whether a file is the record of this very command."""
    return path.is_file() and bool(json.loads(path.read_text())["command"] == command)


def machine() -> str:
    """The processor's name, how many cores this process may use, and the GPU where there is one."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = _first_line("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return f"{names[0] if names else platform.processor() or platform.machine()}, {cores} cores, {gpu or 'no GPU'}"


def code_version() -> str:
    """The commit of the checkout, marked where files differ from it; "" outside a git checkout."""
    return _first_line("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*")


def _first_line(*command: str) -> str:
    """First line that a command prints; "" where there is no such command or it fails."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[0].strip() if done.returncode == 0 else ""
