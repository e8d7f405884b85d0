"""Nothing that only POSIX has is imported or called unguarded, so that the program may work on Windows."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.support.folders import DEMO, ROOT

WITHOUT_POSIX = (sys.executable, "-m", "tests.support.without_posix")


def without_posix(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*WITHOUT_POSIX, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )


def test_every_module_can_be_imported():
    done = without_posix("import")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr[-2000:]


def test_help_is_printed():
    done = without_posix("help")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "--matcher" in done.stdout


@pytest.mark.slow
def test_a_small_run_comes_to_a_model_and_its_end(tmp_path):
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for path in sorted((DEMO / "images").glob("*.jpg"))[:4]:
        shutil.copy(path, images)
    options = ("--resize", "320", "--weights", "compact", "--device", "cpu", "--offline", "--no-refine")
    done = without_posix("run", str(images), str(out), *options)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {"features.h5", "report.html", "run.json", "sparse"} <= {path.name for path in out.iterdir()}
    assert not (out / "features.h5.lock").exists()
    again = without_posix("run", str(images), str(out), *options)
    assert again.returncode == 0, again.stderr[-2000:]
    assert again.stdout.count(" reused ") >= 7
