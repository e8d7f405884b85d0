"""A folder of images, and the results of one run over them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pycolmap
import pytest

from sfm.matchers import registry as matcher_choice
from sfm.pipeline.run import reconstruct
from sfm.registry import Entry
from tests.support.exact_run import (
    NUM,
    OPTIONS,
    ExactMatcher,
    write_photo,
)


@pytest.fixture(autouse=True)
def exact_matcher(monkeypatch):
    monkeypatch.setitem(matcher_choice.MATCHERS.built_in, "loftr", Entry("", lambda *_: ExactMatcher()))
    monkeypatch.setattr(ExactMatcher, "num_matched", 0)
    monkeypatch.setattr(pycolmap.logging, "minloglevel", 2)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(NUM):
        write_photo(folder / f"{i}.png", i)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, Path]:
    """Photos and the results of one run over them; copy before you change them."""
    root = tmp_path_factory.mktemp("finished")
    (root / "photos").mkdir()
    for i in range(NUM):
        write_photo(root / "photos" / f"{i}.png", i)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(matcher_choice.MATCHERS.built_in, "loftr", Entry("", lambda *_: ExactMatcher()))
        reconstruct(root / "photos", root / "out", OPTIONS)
    return root / "photos", root / "out"


@pytest.fixture
def copied(finished, tmp_path) -> tuple[Path, Path]:
    """A copy of the finished run."""
    shutil.copytree(finished[0], tmp_path / "photos", copy_function=shutil.copy2)
    shutil.copytree(finished[1], tmp_path / "out")
    return tmp_path / "photos", tmp_path / "out"
