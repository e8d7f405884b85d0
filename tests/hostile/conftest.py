"""Reading under limits, in a process of its own: a hang, a crash or much memory is an answer, too."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("the limits are those of Linux", allow_module_level=True)

from tests.support.hostile_readers import READERS
from tests.support.read_limits import attempt, guarded


@pytest.fixture
def said(tmp_path: Path) -> Callable[[str], str]:
    """What the reader of a name says of the files in tmp_path: READ, REFUSED, or what is wrong."""
    return lambda name: guarded(lambda: attempt(READERS[name].read, tmp_path))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a reader's whole files, made once."""

    @lru_cache
    def made(name: str) -> Path:
        folder = tmp_path_factory.mktemp("whole")
        READERS[name].make(folder)
        return folder

    return made


@pytest.fixture
def whole(made: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Puts a reader's whole files into tmp_path."""
    return lambda name: Path(shutil.copytree(made(name), tmp_path, dirs_exist_ok=True))
