"""What a run may take, and what counts as having run out of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sfm.system import memory

GB = 10**9


def available() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024


def test_what_the_user_gives_is_taken():
    assert memory.budget(1.5) == 1_500_000_000
    assert memory.budget(0.2, "cuda") == 200_000_000


@pytest.mark.skipif(not Path("/proc/meminfo").is_file(), reason="Linux tells it in /proc")
def test_the_default_is_a_share_of_what_is_free():
    assert 0 < memory.free() <= available() + GB
    assert 0 < memory.budget(None) <= memory.SHARE * (available() + GB)
    assert memory.budget(None, most=1000.0) == 1000
    assert memory.budget(1.5, most=1000.0) == 1_500_000_000


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A system with 8 GB free: functions that write the files of its control groups."""
    (tmp_path / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {8 * GB // 1024} kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "own")
    two, one = (group._replace(root=tmp_path / name) for group, name in zip(memory.GROUPS, ("v2", "v1"), strict=True))
    monkeypatch.setattr(memory, "GROUPS", (two, one))

    def write(group, path: str, limit: object, used: int, cached: int) -> None:
        folder = group.root / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / group.limit).write_text(f"{limit}\n")
        (folder / group.used).write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 1\n{group.cached} {cached}\nfile 2\n")

    def belong(*lines: str) -> None:
        (tmp_path / "own").write_text("\n".join(lines) + "\n")

    return two, one, write, belong


def test_without_control_groups_it_is_the_systems(system):
    assert memory.free() == pytest.approx(8 * GB, abs=1024)


def test_a_containers_limit_counts_less_what_is_used_but_not_cached_files(system):
    two, _, write, belong = system
    belong("0::/pod/job")
    write(two, "pod/job", "max", 3 * GB, 0)
    assert memory.free() == pytest.approx(8 * GB, abs=1024)
    write(two, "pod", 4 * GB, 3 * GB, 2 * GB)  # of the group around it
    assert memory.free() == 3 * GB
    write(two, "pod/job", 2 * GB, 1 * GB, 0)
    assert memory.free() == 1 * GB
    write(two, "pod/job", GB, 2 * GB, 0)
    assert memory.free() == 0


def test_version_1_and_a_container_that_shows_its_root_only(system):
    _, one, write, belong = system
    belong("12:cpu,cpuacct:/docker/ab", "4:memory:/docker/ab", "0::/")
    write(one, "", 6 * GB, 2 * GB, GB)
    assert memory.free() == 5 * GB


@pytest.mark.parametrize(
    ("fail", "exhausted"),
    [
        (lambda: torch.empty(10**15), True),
        (lambda: np.empty(10**15), True),
        (lambda: torch.empty(2) @ torch.empty(3), False),
        (lambda: [][0], False),
    ],
)
def test_what_counts_as_out_of_memory(fail, exhausted):
    with pytest.raises((RuntimeError, MemoryError, IndexError)) as caught:
        fail()
    assert memory.is_exhausted(caught.value) is exhausted


def test_a_gpus_error_counts():
    assert memory.is_exhausted(torch.OutOfMemoryError("CUDA out of memory"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other C libraries give memory back by themselves")
def test_what_is_free_within_the_process_is_given_back():
    script = """
import numpy as np
from sfm.system.memory import give_back

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))

held = [np.ones(4000) for _ in range(10000)]  # 320 MB in pieces too small for the system's pages
last = np.ones(4000)
del held
before = resident()
give_back()
print(before - resident())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 200_000  # kB
