"""The verbs that take images one by one: right use of every odd one, one clear line for every broken one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfm.cli.main import main
from sfm.datasets.courtyard.demo_scene import copy_demo_scene
from tests.support import odd_images
from tests.support.folders import ROOT
from tests.support.odd_images import BROKEN, USED, Kind, encoded

QUICK = ("--weights", "compact", "--device", "cpu", "--offline", "--resize", "160")
NAMED = ("line break in the name", "escape sequence in the name")  # good images, and one alone needs no list
DRAWN = {"line break in the name", "name: formula", "black"}


@pytest.fixture
def good(pictures, tmp_path: Path) -> Path:
    """A good image."""
    (tmp_path / "good.png").write_bytes(encoded(pictures[1], "PNG"))
    return tmp_path / "good.png"


def small(path: Path) -> np.ndarray:
    """The image at an eighth of its size: odd files are quickly made of it."""
    return np.ascontiguousarray(np.asarray(Image.open(path).convert("RGB"))[::8, ::8])


@pytest.mark.parametrize("kind", [kind for kind in BROKEN if kind.what not in NAMED], ids=lambda k: k.what)
def test_match_says_in_one_line_what_is_wrong(
    good: Path, tmp_path: Path, kind: Kind, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd").mkdir()
    bad = tmp_path / "odd" / odd_images.write(tmp_path / "odd", kind, small(good))
    assert main(["match", str(good), str(bad), str(tmp_path / "out"), *QUICK]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("loftr-sfm: error: ")
    assert line.isprintable()
    assert kind.reason.removeprefix("its ") in line
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in (*BROKEN, *USED) if kind.what in DRAWN], ids=lambda k: k.what)
def test_match_draws_odd_images(pictures, good: Path, tmp_path: Path, kind: Kind) -> None:
    (tmp_path / "odd").mkdir()
    odd = tmp_path / "odd" / odd_images.write(tmp_path / "odd", kind, pictures[0])
    code = main(["match", str(odd), str(good), str(tmp_path / "out"), *QUICK])
    assert code == 0
    numbers = json.loads((tmp_path / "out" / "two_view.json").read_text(encoding="utf-8"))
    assert (numbers["inliers"] > 30) == (kind.what != "black")
    with Image.open(tmp_path / "out" / "matches.png") as drawn:
        assert np.asarray(drawn.convert("L")).std() > 5


@pytest.mark.parametrize("broken", [False, True])
def test_evaluate_pairs_among_odd_images(tmp_path: Path, broken: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Images that the ground truth does not name do no harm; one that it names must be good."""
    copy_demo_scene(tmp_path)
    first = sorted((tmp_path / "images").iterdir())[0]
    picture = small(first)
    for kind in (*BROKEN, *(kind for kind in USED if kind.what in DRAWN)):
        odd_images.write(tmp_path / "images", kind, picture)
    if broken:
        first.write_bytes(first.read_bytes()[:5000])
    found = ["evaluate", "pairs", str(tmp_path / "images"), str(tmp_path / "gt"), "--out", str(tmp_path / "out")]
    code = main([*found, "--max-pairs", "2", "--seeds", "1", *QUICK])
    printed = capsys.readouterr()
    assert code == (2 if broken else 0), printed.err
    if broken:
        (line,) = printed.err.splitlines()
        assert first.name in line
        assert "no usable image" in line
    else:
        assert "AUC" in printed.out


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
@pytest.mark.parametrize("verb", [[], ["match"], ["view"], ["report"], ["inspect"]])
def test_path_that_is_no_text_is_one_line(tmp_path: Path, verb: list[str]) -> None:
    strange = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    Path(strange).mkdir()
    command = [sys.executable, str(ROOT / "reconstruct.py"), *verb, strange, strange]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert "not valid UTF-8: rename it" in line
