from __future__ import annotations

import inspect
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import get_type_hints

import pytest

import sfm.pipeline.run
from sfm import __version__
from sfm.cli import main as cli
from sfm.errors import BadFile, NoModel
from sfm.options import Options
from sfm.types import STAGE_NAMES, ReconstructionSummary, StageSummary
from tests.support.folders import ROOT


def exit_code(*argv: str) -> int:
    """What the process would end with."""
    try:
        return cli.main(argv)
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.mark.parametrize(
    ("words", "meant"), [(["evaluate", "modle", "a", "b"], "model"), (["evaluate", "pair", "a", "b"], "pairs")]
)
def test_a_misspelt_form_of_a_verb_gets_the_nearest(words, meant, capsys):
    assert exit_code(*words) == 2
    said = capsys.readouterr().err
    assert f"{words[1]!r}: choose one of model, pairs, imc2022; did you mean {meant}?" in said
    assert said.count("\n") == 1


@pytest.fixture
def calls(monkeypatch):
    """Arguments of reconstruct(), which does nothing."""
    seen = []

    def reconstruct(folder, out, options, **more):
        seen.append((folder, out, options, more))
        summary = StageSummary("images", {"images": 2}, 0.1)
        return ReconstructionSummary(2, 0, 0, 0, 0.0, 0.0, (), (summary,), (), None)

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


@pytest.mark.parametrize("name", ["--rotations", "--turns"])
def test_an_option_keeps_its_former_name(calls, name):
    assert exit_code("photos", "out", name, "off") == 0
    assert calls[0][2].matching.turns == "off"


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
    assert "images/ out/ --pairs sequential" in text
    for verb in cli.VERBS:
        assert f"loftr-sfm {verb}" in text


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_a_verb_parses_calls_and_prints(verb):
    assert len(inspect.getsource(cli.VERBS[verb].run).splitlines()) <= 15


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
        (["export", "absent-folder", "ply"], "absent-folder: no such folder"),
        (["weights"], "required: list|fetch|check (see"),
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
        (NoModel("no model: add images"), 3, "loftr-sfm: no model: add images\n"),
        (KeyboardInterrupt(), 130, "resumes: loftr-sfm 'my images' out --seed 1\n"),
    ],
)
def test_exit_codes(error, code, text, monkeypatch, capsys):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr(sfm.pipeline.run, "reconstruct", failing)
    assert exit_code("my images", "out", "--seed", "1") == code
    assert capsys.readouterr().err.endswith(text)


@pytest.mark.parametrize(
    ("verb", "words"), [("evaluate", "the same command resumes"), ("match", "give the same command again")]
)
def test_ctrl_c_in_a_verb(verb, words, monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    replaced = replace(cli.VERBS[verb], add_arguments=lambda parser: parser.add_argument("x"), run=interrupted)
    monkeypatch.setattr(cli, "VERBS", {**cli.VERBS, verb: replaced})
    assert exit_code(verb, "my images") == 130
    error = capsys.readouterr().err
    assert error.startswith("\nloftr-sfm: interrupted; ")
    assert f"{words}: loftr-sfm {verb} 'my images'\n" in error


def test_formats_are_those_of_the_registry(capsys):
    from sfm.export.registry import EXPORTS

    assert exit_code("export", "--help") == 0
    text = capsys.readouterr().out
    for name, entry in EXPORTS.entries().items():
        assert re.search(rf"^  {name} +{re.escape(entry.help)}$", text, re.MULTILINE)


def test_stages_are_named_once(capsys):
    assert exit_code("--help") == 0
    assert ", ".join(STAGE_NAMES) in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("argv", "meant"),
    [
        (["exprot", "out", "ply"], "loftr-sfm export"),
        (["veiw", "out"], "loftr-sfm view"),
        (["photos", "out", "--mather", "sift"], "--matcher"),
        (["photos", "out", "--resiz=640"], "--resize"),
        (["photos", "out", "--matcher", "sfit"], "sift"),
        (["photos", "out", "--camera", "per-floder"], "per-folder"),
        (["photos", "out", "--stop-after", "track"], "tracks"),
        (["export", "out", "nerfstudo"], "nerfstudio"),
        (["weights", "fech"], "fetch"),
        (["view", "out", "--color", "heigth"], "height"),
    ],
)
def test_what_is_misspelt_gets_a_suggestion(argv, meant, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert exit_code(*argv) == 2
    assert f"did you mean {meant}?" in capsys.readouterr().err


def test_a_folder_that_is_there_is_no_misspelt_verb(calls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exports").mkdir()
    assert exit_code("exports", "out") == 0
    assert calls[0][0] == Path("exports")


def test_help_and_choices_load_no_library():
    heavy = ("torch", "open3d", "pycolmap", "h5py", "scipy", "PIL")
    program = f"""
import sys
from sfm.cli.main import VERBS, parser_of
for name in ("", *VERBS):
    parser_of(name).format_help()
sys.exit(" ".join(name for name in {heavy!r} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_a_folder_with_a_verbs_name(calls):
    assert exit_code("./demo", "out") == 0
    assert calls[0][0] == Path("demo")


def test_front_door_of_a_checkout_that_is_not_installed(tmp_path):
    command = [sys.executable, "-S", str(ROOT / "reconstruct.py"), "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("reconstruct.py: ")
    assert done.stderr.endswith("pip install -c constraints.txt -e .\n")
    assert done.stderr.count("\n") == 1


def test_version_and_front_door_of_a_checkout():
    command = [sys.executable, "reconstruct.py", "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"loftr-sfm {__version__}\n"
    assert re.search(r'loftr-sfm = "sfm\.cli\.main:main"', (ROOT / "pyproject.toml").read_text())
