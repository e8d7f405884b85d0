"""Reading under limits, in a process of its own: a hang, a crash or much memory is an answer, too."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("the limits are those of Linux", allow_module_level=True)

from benchmarks.fuzz import attempt, guarded
from benchmarks.fuzz_readers import READERS


@pytest.fixture
def said(tmp_path: Path) -> Callable[[str], str]:
    """What the reader of a name says of the files in tmp_path: READ, REFUSED, or what is wrong."""
    return lambda name: guarded(lambda: attempt(READERS[name].read, tmp_path))
