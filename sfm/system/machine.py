"""What a run ran on, and how much main memory its stages took."""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

_STATUS, _CLEAR, _CPUS = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/cpuinfo")


def reset_peak() -> None:
    """Peak memory counts from here on where the system can do that (Linux), elsewhere from the process's start."""
    with suppress(OSError):
        _CLEAR.write_text("5")


def peak_mb() -> float | None:
    """The most main memory that this process has held at once since `reset_peak`, MB to one decimal; None where the
    system does not say (Windows)."""
    try:
        lines = _STATUS.read_text().splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6, 1)
    except (OSError, StopIteration):
        return _peak_of_usage_mb()


def _peak_of_usage_mb() -> float | None:
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def machine() -> dict[str, str]:
    """System, processor, cores, memory, Python, and the GPU where torch is loaded and sees one: words for people."""
    found = {
        "system": platform.platform(terse=True),
        "processor": _processor(),
        "cores": str(os.cpu_count() or 1),
        "memory": _memory(),
        "python": platform.python_version(),
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpu"] = str(torch.cuda.get_device_name())
    return found


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.1f} GB"
    except (AttributeError, OSError, ValueError):
        return "unknown"


def _processor() -> str:
    try:
        lines = _CPUS.read_text(errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
