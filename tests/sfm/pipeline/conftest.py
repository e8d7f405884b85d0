"""A folder of images, and the results of one run over them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pycolmap
import pytest

from sfm.matchers import registry as matcher_choice
from sfm.pipeline.run import reconstruct
from sfm.registry import Entry
from tests.support.arc_scene import OPTIONS, ExactMatcher, write_images


@pytest.fixture(autouse=True)
def exact(monkeypatch) -> ExactMatcher:
    """What runs match with in place of LoFTR."""
    matcher = ExactMatcher(batch_size=4)
    monkeypatch.setitem(matcher_choice.MATCHERS.built_in, "loftr", Entry("", lambda *_: matcher))
    monkeypatch.setattr(pycolmap.logging, "minloglevel", 2)
    return matcher


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "photos")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, Path]:
    """Images and the results of one run over them; copy before you change them."""
    root = tmp_path_factory.mktemp("finished")
    write_images(root / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(matcher_choice.MATCHERS.built_in, "loftr", Entry("", lambda *_: ExactMatcher(batch_size=4)))
        reconstruct(root / "photos", root / "out", OPTIONS)
    return root / "photos", root / "out"


@pytest.fixture
def copied(finished, tmp_path) -> tuple[Path, Path]:
    """A copy of the finished run."""
    shutil.copytree(finished[0], tmp_path / "photos", copy_function=shutil.copy2)
    shutil.copytree(finished[1], tmp_path / "out")
    return tmp_path / "photos", tmp_path / "out"
