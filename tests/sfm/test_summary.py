from __future__ import annotations

import shlex
from pathlib import Path

from sfm.options import ImageOptions, MappingOptions, MatchingOptions, Options, ReportOptions
from sfm.parsing import Parser, add_options, options_from
from sfm.summary import command


def test_command_makes_the_same_options_again():
    options = Options(
        images=ImageOptions(intrinsics="-1,2 3", masks=Path("a folder/masks")),
        matching=MatchingOptions(matcher="sift", confidence=0.3, offline=True),
        mapping=MappingOptions(threads=-2, seed=5),
        report=ReportOptions(no_report=True),
    )
    words = shlex.split(command(Path("my photos"), Path("out"), options))
    assert words[:3] == ["loftr-sfm", "my photos", "out"]
    parser = Parser()
    add_options(parser)
    assert options_from(parser.parse_args(words[3:])) == options


def test_command_of_defaults_and_of_an_import():
    assert command(Path("photos"), Path("out"), Options()) == "loftr-sfm photos out"
    assert command(Path("photos"), Path("out"), Options(), [Path("f.h5"), Path("m 1.h5")]) == (
        "loftr-sfm import photos out --features f.h5 --matches 'm 1.h5'"
    )
