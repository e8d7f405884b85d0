from __future__ import annotations

import shlex
from pathlib import Path

from sfm.cli.parsing import Parser, add_options, options_from
from sfm.options import ImageOptions, MappingOptions, MatchingOptions, Options, ReportOptions
from sfm.results.console import summary_text
from sfm.results.run_json import command, run_title
from sfm.types import ReconstructionSummary, StageSummary


def test_command_makes_the_same_options_again():
    options = Options(
        images=ImageOptions(intrinsics="-1,2 3", masks=Path("a folder/masks")),
        matching=MatchingOptions(matcher="sift", confidence=0.3, offline=True),
        mapping=MappingOptions(threads=-1, seed=5),
        report=ReportOptions(no_report=True),
    )
    words = shlex.split(command(Path("my images"), Path("out"), options))
    assert words[:3] == ["loftr-sfm", "my images", "out"]
    parser = Parser()
    add_options(parser)
    assert options_from(parser.parse_args(words[3:]), Options) == options


def test_command_of_defaults_and_of_an_import():
    assert command(Path("photos"), Path("out"), Options()) == "loftr-sfm photos out"
    assert command(Path("photos"), Path("out"), Options(), [Path("f.h5"), Path("m 1.h5")]) == (
        "loftr-sfm import photos out --features f.h5 --matches 'm 1.h5'"
    )


def test_the_end_of_a_run_says_what_there_is_and_what_to_do_next():
    refinement = StageSummary("refinement", {}, 1.0, notes=("camera 1: f 500",))
    models = ((Path("o ut/sparse/0"), 7), (Path("o ut/sparse/1"), 2))
    summary = ReconstructionSummary(
        10, 7, 12_345, 50_000, 4.05, 0.5, (("bad.jpg", "truncated"),), (refinement,), models, Path("o ut/sparse/0")
    )
    text = summary_text(summary, Path("photos"), Path("o ut"))
    said = ("registered images       7 of 10", "12,345", "4.05", "0.50 px", "sparse/1 (2 images)", "camera 1: f 500")
    for words in (
        *said,
        "  bad.jpg: truncated",
        "loftr-sfm view 'o ut'",
        "loftr-sfm photos 'o ut-sift' --matcher sift",
    ):
        assert words in text
    assert "--matcher sift" not in summary_text(summary, Path("photos"), Path("o ut"), matcher="sift")


def test_a_run_is_titled_by_its_matcher():
    names = ("loftr-compact-wide", "efficient-loftr-outdoor", "sift", "efficient-other", "")
    titles = [run_title({"matcher": {"matcher": name}}) for name in names]
    assert titles == ["LoFTR compact wide", "EfficientLoFTR outdoor", "SIFT", "efficient-other", "model"]
