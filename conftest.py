"""Two tiers of tests: `python -m pytest` leaves out what is marked slow; `--all`, or naming files, runs everything."""

from __future__ import annotations

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores; before anything loads torch
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run the tests that are marked slow, too")


def pytest_configure(config: pytest.Config) -> None:
    """Naming files asks for all that is in them."""
    config.option.all |= config.args_source is not pytest.Config.ArgsSource.TESTPATHS


def pytest_report_header(config: pytest.Config) -> str:
    return "all tests" if config.option.all else "fast tests; --all runs the slow ones, too"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.all:
        if "PYTEST_XDIST_WORKER" in os.environ:  # files of slow tests first, so that no worker ends with them alone
            slow = {item.path for item in items if item.get_closest_marker("slow")}
            items.sort(key=lambda item: item.path not in slow)
        return
    config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("slow")])
    items[:] = [item for item in items if not item.get_closest_marker("slow")]
