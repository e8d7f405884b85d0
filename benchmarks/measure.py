"""Wall time, processor time and peak memory of a command in a process of its own."""

from __future__ import annotations

import os
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
