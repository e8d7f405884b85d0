"""Fixtures that several rooms share."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfm.datasets.courtyard.synthetic import SyntheticScene
from tests.support.folders import SHARED


@pytest.fixture(scope="session")
def synthetic_scene() -> SyntheticScene:
    """Six small images of the synthetic courtyard with exact cameras, depth and matches."""
    pytest.importorskip("open3d", reason="Open3D, which renders the scene, cannot be loaded", exc_type=ImportError)
    return SyntheticScene.render(num_images=6, size=(320, 240))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of shared datasets and tools; LOFTR_SFM_SHARED names it where it is not beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"no shared folder at {SHARED}; set LOFTR_SFM_SHARED to it")
    return SHARED
