"""What the tests of odd images share."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sfm.datasets.courtyard.demo_scene import copy_demo_scene


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    """Half of the demo's images, (480, 640, 3) u8."""
    folder = tmp_path_factory.mktemp("demo")
    copy_demo_scene(folder)
    return [np.asarray(Image.open(path).convert("RGB")) for path in sorted((folder / "images").iterdir())[:6]]
