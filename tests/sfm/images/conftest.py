from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.pictures import picture, save


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two good images, a.jpg and b.png."""
    save(tmp_path / "photos/a.jpg", picture(0))
    save(tmp_path / "photos/b.png", picture(1))
    return tmp_path / "photos"
