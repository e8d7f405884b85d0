"""presets: what they set, that what is given wins, and that a run can be made again from what it says of itself."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from sfm.cli.parsing import Parser, add_options, options_from
from sfm.errors import BadOption
from sfm.options import Options
from sfm.presets import PRESETS, preset_values
from sfm.results.run_json import command


def parsed(*words: str) -> Options:
    parser = Parser()
    add_options(parser)
    return options_from(parser.parse_args(words), Options)


def test_presets_set_options_that_there_are():
    names = {item.name for _, item in Options.each()}
    assert list(PRESETS) == ["fast", "balanced", "best"]
    assert all(preset.values.keys() <= names for preset in PRESETS.values())
    assert preset_values("fast").keys() >= {"resize", "pairs", "max_observations", "rounds"}


def test_balanced_are_the_defaults():
    assert parsed("--preset", "balanced") == parsed() == Options() == Options.of(preset="balanced")


@pytest.mark.parametrize("name", ["fast", "best"])
def test_a_preset_is_the_same_from_python_and_from_the_command_line(name):
    options = Options.of(preset=name)
    assert parsed("--preset", name) == options
    assert options.refinement.rounds == PRESETS[name].values["rounds"] != Options().refinement.rounds
    assert options.matching.resize == PRESETS[name].values["resize"]
    assert options.as_dict()["preset"] == {"preset": name}
    json.dumps(options.as_dict())


def test_what_is_given_wins_over_the_preset_even_where_it_is_the_default():
    default = Options().refinement.rounds
    options = parsed("--rounds", str(default), "--preset", "fast", "--resize", "700")
    assert options.refinement.rounds == default
    assert options.matching.resize == 700
    assert options.pairs.pairs == PRESETS["fast"].values["pairs"]
    assert options == Options.of(preset="fast", rounds=default, resize=700)


def test_the_command_of_a_run_makes_it_again():
    options = Options.of(preset="fast", rounds=Options().refinement.rounds)
    words = shlex.split(command(Path("images"), Path("out"), options))
    assert words[:3] == ["loftr-sfm", "images", "out"]
    assert "--resize" not in words
    assert parsed(*words[3:]) == options


def test_a_name_that_is_none_is_refused_with_the_nearest(capsys):
    with pytest.raises(BadOption, match=r"--preset fst: .*did you mean fast\?"):
        Options.of(preset="fst")
    with pytest.raises(SystemExit):
        parsed("--preset", "fst")
    assert "did you mean fast?" in capsys.readouterr().err


def test_help_has_a_line_for_each_preset():
    parser = Parser()
    add_options(parser)
    text = " ".join(parser.format_help().split())
    assert all(f"{name}: {preset.help}" in text for name, preset in PRESETS.items())
