"""Every block of docs/extending.md, from the document itself: examples installed, listed and run; programs executed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.folders import ROOT

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall((ROOT / "docs" / "extending.md").read_text(encoding="utf-8"))
MODULES = {name[2:]: code for language, code in BLOCKS if (name := code.splitlines()[0]).startswith("# ")}
ENTRY_POINTS = [code for language, code in BLOCKS if language == "toml"]
PROGRAMS = [code for language, code in BLOCKS if language == "python" and not code.startswith("# ")]
GROUP = re.compile(r'\[project\.entry-points\."([\w.]+)"\]\n(\w+) = "([\w:]+)"\n')
RUN = "import sys; from sfm.cli.main import main; sys.exit(main())"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with the demo's first images, and beside it the examples as installed packages."""
    folder = tmp_path_factory.mktemp("extending")
    (folder / "work" / "images").mkdir(parents=True)
    for source in sorted((ROOT / "datasets" / "courtyard" / "demo" / "images").iterdir())[:5]:
        shutil.copy(source, folder / "work" / "images")
    for name, code in MODULES.items():
        (folder / name).write_text(code, encoding="utf-8")
    for code in ENTRY_POINTS:
        group, name, value = GROUP.fullmatch(code).groups()
        info = folder / f"example_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: example-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
    return folder


def python(place: Path, code: str, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(place), "OMP_NUM_THREADS": "1", "LOFTR_SFM_OFFLINE": "1"}
    command = [sys.executable, "-c", code, *argv]
    return subprocess.run(
        command, cwd=place / "work", env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_the_document_has_four_examples_of_less_than_sixty_lines():
    assert list(MODULES) == ["harris_matcher.py", "ring_pairs.py", "single_mapper.py", "trajectory_export.py"]
    groups = [GROUP.fullmatch(code)[1] for code in ENTRY_POINTS]
    assert groups == [f"loftr_sfm.{room}" for room in ("matchers", "pairs", "mappers", "exports")]
    assert all(code.count("\n") < 60 for code in MODULES.values())


def test_examples_are_listed_in_help(place):
    text = " ".join(python(place, RUN, "--help").stdout.split())
    assert "harris (Harris corners and patches)" in text
    assert "ring[:N] (each image with the next N by name, around a ring, default 3)" in text
    assert "single (COLMAP's incremental mapping with its own defaults, one model)" in text
    assert re.search(r"trajectory +a line per image: name, centre, quat", python(place, RUN, "export", "--help").stdout)


def test_tracks_of_the_matcher_from_the_document_are_refined(place):
    words = ("images", "cli", "--matcher", "harris", "--pairs", "ring:2", "--mapper", "single", "--no-report")
    done = python(place, RUN, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((place / "work" / "cli" / "run.json").read_text())
    assert record["matcher"] == {"matcher": "harris", "version": "1", "count": "1500"}
    assert record["registered"] == 5
    counts = {stage["stage"]: stage["counts"] for stage in record["stages"]}
    assert counts["pairs"]["pairs"] == 10
    assert counts["refinement"]["rounds"] >= 1
    assert counts["refinement"]["reprojection_error"] < 0.7 * counts["mapping"]["reprojection_error"]
    refused = python(place, RUN, "images", "cli", "--matcher", "harris", "--pairs", "ring:many")
    assert (refused.returncode, refused.stderr) == (
        2,
        "loftr-sfm: error: --pairs ring:many: give a number of neighbours\n",
    )


def test_programs_of_the_document_run(place):
    outputs = []
    for code in PROGRAMS:
        done = python(place, code)
        assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
        outputs.append(done.stdout)
    whole, staged, exported, two = outputs
    assert re.match(r"5 of 5 images, \d+ points in out/sparse/0\n$", whole)
    assert "view_00.jpg - view_01.jpg: " in staged
    assert exported.startswith("out/trajectory/trajectory.txt\n")
    assert len((place / "work" / "out" / "trajectory" / "trajectory.txt").read_text().splitlines()) == 5
    assert int(two.split()[0]) > 15
