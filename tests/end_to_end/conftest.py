"""The program as a person starts it: its own process, real arguments, real files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sfm.datasets.courtyard.demo_scene import copy_demo_scene
from tests.support.folders import ROOT


@pytest.fixture(scope="session")
def loftr_sfm() -> Callable[..., subprocess.CompletedProcess[str]]:
    """loftr_sfm(*arguments): runs the program to its end."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "reconstruct.py"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)

    return run


@pytest.fixture(scope="session")
def demo_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The twelve images of the demo; leave them as they are."""
    out = tmp_path_factory.mktemp("demo_photos")
    copy_demo_scene(out)
    return out / "images"
