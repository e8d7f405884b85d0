"""How much memory a run may take, and how its exhaustion is recognised."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

SHARE = 0.5  # of what is free; COLMAP's mapping, the model and other programs need theirs
_UNKNOWN = 4 * 10**9  # bytes assumed to be free where the system does not say
MEMINFO, OWN_GROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup")
_CPU_ALLOCATOR = "DefaultCPUAllocator"  # in torch's message; its error for main memory has no class of its own


def budget(gigabytes: float | None, device: str = "cpu", *, most: float = float("inf")) -> int:
    """Bytes that a stage may take: what the user allows, or a share of what is free where the work is done.

    device: auto, cpu or cuda; auto is the GPU where torch is loaded and sees one. most: bytes of main memory beyond
    which more would gain next to nothing.
    """
    if gigabytes is not None:
        return int(gigabytes * 1e9)
    share = SHARE * free(device)
    return int(share if _on_gpu(device) else min(share, most))


def free(device: str = "cpu") -> int:
    """Bytes that could be taken now: of the GPU, or of main memory within the limits of the process's containers."""
    if _on_gpu(device):
        return int(sys.modules["torch"].cuda.mem_get_info()[0])
    return max(0, min([_free_in_system(), *_free_in_groups()]))


def _on_gpu(device: str) -> bool:
    torch = sys.modules.get("torch")
    return device != "cpu" and torch is not None and bool(torch.cuda.is_available())


def _free_in_system() -> int:
    with suppress(OSError, StopIteration):
        lines = MEMINFO.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024
    with suppress(AttributeError, OSError, ValueError):  # macOS does not say how much is free, take half
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return _UNKNOWN


def _free_in_groups() -> Iterator[int]:
    """What the limits of the control groups around the process leave; files that are only cached count as free."""
    for group in GROUPS:
        for folder in group.around():
            with suppress(OSError, ValueError, StopIteration):
                limit = int((folder / group.limit).read_text())  # "max" is none
                lines = (folder / "memory.stat").read_text().splitlines()
                cached = next(int(line.split()[1]) for line in lines if line.startswith(f"{group.cached} "))
                yield limit - int((folder / group.used).read_text()) + cached


class _Group(NamedTuple):
    """Where a version of Linux' control groups reports memory. line: how its line in /proc/self/cgroup begins after
    the number. limit, used: files. cached: row of memory.stat."""

    line: str
    root: Path
    limit: str
    used: str
    cached: str

    def around(self) -> Iterator[Path]:
        """Folders of the process's own group and of all around it. In a container only the root may be there."""
        with suppress(OSError):
            for line in OWN_GROUPS.read_text().splitlines():
                _, _, rest = line.partition(":")
                if rest.startswith(self.line):
                    own = self.root / rest.removeprefix(self.line).lstrip("/")
                    yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(self.root))


GROUPS = (
    _Group(":", Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    _Group(
        "memory:",
        Path("/sys/fs/cgroup/memory"),
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def give_back() -> None:
    """Returns to the system what is free within the process; the C library of Linux otherwise keeps much of it."""
    with suppress(OSError, AttributeError, TypeError):  # the last on Windows
        ctypes.CDLL(None).malloc_trim(0)


def is_exhausted(error: Exception) -> bool:
    """Whether an error says that memory ran out, Python's, torch's on a GPU or torch's on the CPU; imports no torch."""
    named = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    return named or isinstance(error, MemoryError) or _CPU_ALLOCATOR in str(error)
