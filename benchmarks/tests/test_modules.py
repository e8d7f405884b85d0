"""Every benchmark can be begun: its imports are found and its command line is whole."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import benchmarks

NAMES = sorted(path.stem for path in Path(benchmarks.__path__[0]).glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_imports(name):
    importlib.import_module(f"benchmarks.{name}")
