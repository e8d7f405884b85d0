from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from sfm.cli.parsing import Parser, add_options, options_from
from sfm.errors import BadOption
from sfm.options import option
from sfm.registry import Entry, Registry

PLANES: Registry[int] = Registry(
    "--plane", "loftr_sfm.tests", {"flat": Entry("100 % flat", 1), "bent": Entry("of radius R", 2, "R")}
)


@dataclass(frozen=True)
class PlaneOptions:
    """Planes."""

    plane: str = option("flat", "which plane", registry="plane", metavar="NAME")
    lines: str = option("flat", "which lines", registry="plane", other="FILE (a line per line)", metavar="HOW")
    corner: str = option("left", "left or right", choices=("left", "right"), metavar="SIDE")


@dataclass(frozen=True)
class Root:
    """All."""

    planes: PlaneOptions = field(default_factory=PlaneOptions)


@pytest.fixture
def parser():
    parser = Parser()
    add_options(parser, Root, registries={"plane": lambda: PLANES})
    return parser


def test_help_and_choices_come_from_the_registry(parser):
    text = " ".join(parser.format_help().split())
    assert "--plane NAME which plane: flat (100 % flat), bent[:R] (of radius R) (default: flat)" in text
    assert (
        "--lines HOW which lines: flat (100 % flat), bent[:R] (of radius R), FILE (a line per line) (default: flat)"
        in text
    )


def test_words_are_those_of_the_registry(parser):
    args = parser.parse_args(["--plane", "bent:3", "--lines", "a file.txt", "--corner", "right"])
    assert options_from(args, Root) == Root(PlaneOptions("bent:3", "a file.txt", "right"))
    assert options_from(parser.parse_args([]), Root) == Root()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("benz", "--plane benz: choose one of flat, bent; did you mean bent"),
        ("flat:2", "--plane flat:2: flat takes no argument"),
        ("round", "choose one of flat, bent$"),
    ],
)
def test_other_words_are_refused(parser, word, message):
    with pytest.raises(BadOption, match=message):
        parser.parse_args(["--plane", word])


def test_an_option_without_a_registry_has_its_own_choices(parser, capsys):
    with pytest.raises(SystemExit):
        parser.parse_args(["--corner", "lft"])
    assert "choose one of left, right; did you mean left?" in capsys.readouterr().err
