from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

import sfm.pipeline.run
from sfm import __version__
from sfm.cli import commands as verbs
from sfm.cli import main as cli
from sfm.errors import BadFile, NoModel
from sfm.options import Options
from sfm.types import StageSummary
from tests.support.folders import ROOT


def exit_code(*argv: str) -> int:
    """What the process would end with."""
    try:
        return cli.main(argv)
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.fixture
def calls(monkeypatch):
    """Arguments of reconstruct(), which does nothing."""
    seen = []

    def reconstruct(folder, out, options, **more):
        seen.append((folder, out, options, more))
        summary = StageSummary("images", {"images": 2}, 0.1)
        return sfm.pipeline.run._summarise(out, [summary])

    monkeypatch.setattr(sfm.pipeline.run, "reconstruct", reconstruct)
    return seen


def test_defaults_are_those_of_the_dataclasses(calls):
    assert exit_code("photos", "out") == 0
    folder, out, options, _ = calls[0]
    assert (folder, out) == (Path("photos"), Path("out"))
    assert options == Options()


def test_options_arrive(calls):
    words = ["--camera", "single", "--masks", "m", "--pairs", "sequential:5", "--resize", "1024", "--confidence", "0.3"]
    assert exit_code("photos", "out", *words, "--offline", "--seed", "7", "--stop-after", "tracks") == 0
    _, _, options, more = calls[0]
    assert options.images.camera == "single"
    assert options.images.masks == Path("m")
    assert options.pairs.pairs == "sequential:5"
    assert (options.matching.resize, options.matching.confidence, options.matching.offline) == (1024, 0.3, True)
    assert options.mapping.seed == 7
    assert more["stop_after"] == "tracks"


def test_verbose_prints_the_resolved_options(calls, capsys):
    assert exit_code("photos", "out", "-v", "--resize", "800") == 0
    assert '"resize": 800' in capsys.readouterr().out


def test_help_has_every_option_and_its_default(capsys):
    assert exit_code("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    for kind in get_type_hints(Options).values():
        for option in fields(kind):
            assert "--" + option.name.replace("_", "-") in text
    assert "(default: 640)" in text
    assert "photos/ out/ --pairs sequential" in text
    for verb in cli.VERBS:
        assert f"loftr-sfm {verb}" in text


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_every_verb_has_help(verb, capsys):
    assert exit_code(verb, "--help") == 0
    assert f"usage: loftr-sfm {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["photos", "out", "--unknown"], "--unknown"),
        (["photos", "out", "--resiz", "640"], "--resiz"),
        (["photos", "out", "--resize", "big"], "--resize"),
        (["photos", "out", "--resize", "3"], "--resize 3"),
        (["photos", "out", "--matcher", "surf"], "surf"),
        (["photos", "out", "--stop-after", "cooking"], "cooking"),
        (["photos"], "OUT"),
        ([], "IMAGES"),
        (["absent-folder", "out"], "absent-folder"),
        (["weights", "polish"], "polish"),
        (["weights", "fetch"], "name the weights"),
        (["inspect", "absent-folder"], "absent-folder"),
    ],
)
def test_users_errors_are_one_line(argv, word, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert exit_code(*argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("loftr-sfm: error: ")
    assert word in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (BadFile("x: broken; mend it"), 2, "loftr-sfm: error: x: broken; mend it\n"),
        (NoModel("no model: add photos"), 3, "loftr-sfm: no model: add photos\n"),
        (KeyboardInterrupt(), 130, "carries on: loftr-sfm 'my photos' out --seed 1\n"),
    ],
)
def test_exit_codes(error, code, text, monkeypatch, capsys):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr(sfm.pipeline.run, "reconstruct", failing)
    assert exit_code("my photos", "out", "--seed", "1") == code
    assert capsys.readouterr().err.endswith(text)


@pytest.mark.parametrize(
    ("verb", "words"), [("evaluate", "the same command carries on"), ("match", "give the same command again")]
)
def test_ctrl_c_in_a_verb(verb, words, monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.VERBS, verb, interrupted)
    assert exit_code(verb, "my photos") == 130
    error = capsys.readouterr().err
    assert error.startswith("\nloftr-sfm: interrupted; ")
    assert f"{words}: loftr-sfm {verb} 'my photos'\n" in error


def test_formats_are_those_of_export():
    from sfm.export.formats import FORMATS

    assert set(verbs.FORMATS) == {*FORMATS, "hloc"}
    assert cli.STAGES == sfm.pipeline.run.STAGE_NAMES


def test_a_folder_with_a_verbs_name(calls):
    assert exit_code("./demo", "out") == 0
    assert calls[0][0] == Path("demo")


def test_version_and_front_door_of_a_checkout():
    command = [sys.executable, "reconstruct.py", "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"loftr-sfm {__version__}\n"
    assert re.search(r'loftr-sfm = "sfm\.cli\.main:main"', (ROOT / "pyproject.toml").read_text())
