from __future__ import annotations

from pathlib import Path

import pytest

from sfm.cli.commands import VERBS
from sfm.options import Options
from sfm.results.hints import next_commands
from sfm.results.run_json import command
from sfm.results.shell import VERB_NAMES, path_word


def test_every_verb_is_known() -> None:
    assert VERBS.keys() <= VERB_NAMES


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("match", "./match"),
        ("-x", "./-x"),
        ("images", "images"),
        ("my images", "'my images'"),
        ("/a/match", "/a/match"),
    ],
)
def test_a_path_is_no_verb_and_no_option(path: str, word: str) -> None:
    assert path_word(Path(path)) == word


def test_commands_that_are_proposed_for_folders_with_the_names_of_verbs() -> None:
    lines = next_commands(Path("demo"), Path("train"), "loftr")
    assert any(line.startswith("  loftr-sfm ./demo train-sift --matcher sift") for line in lines)
    assert any(line.startswith("  loftr-sfm view ./train ") for line in lines)
    assert command(Path("demo"), Path("-o"), Options()) == "loftr-sfm ./demo ./-o"
