"""ruff and mypy over our packages, where they are installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def check(tool: str, *arguments: str, cwd: Path = ROOT) -> None:
    if importlib.util.find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed")
    done = subprocess.run(
        [sys.executable, "-m", tool, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def test_ruff_check():
    check("ruff", "check", ".")


def test_ruff_format():
    check("ruff", "format", "--check", ".")


def test_mypy(tmp_path):
    """mypy does not know setuptools' package-dir, so it is shown the tree that an installation would have:
    sfm/ with matchers/, weights/ and datasets/ inside, as links."""
    package = tmp_path / "sfm"
    package.mkdir()
    for path in [
        *(path for path in (ROOT / "sfm").iterdir() if path.name != "__pycache__"),
        *(ROOT / name for name in ("matchers", "weights", "datasets")),
    ]:
        (package / path.name).symlink_to(path)
    config, cache = ROOT / "pyproject.toml", ROOT / ".mypy_cache" / "as_installed"
    check("mypy", "--config-file", str(config), "--cache-dir", str(cache), "-p", "sfm", cwd=tmp_path)
