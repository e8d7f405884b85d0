from __future__ import annotations

from pathlib import Path
from typing import get_type_hints

import pytest

from sfm.errors import BadOption
from sfm.options import ImageOptions, MappingOptions, MatchingOptions, Options, PairOptions, RunKeywords


def test_keywords_are_the_options_of_the_command_line():
    names = [item.name for _, item in Options.each()]
    assert len(set(names)) == len(names)
    assert list(get_type_hints(RunKeywords)) == names
    hints = {name: hint for kind in get_type_hints(Options).values() for name, hint in get_type_hints(kind).items()}
    paths = ("masks", "known_poses")
    assert {n: h for n, h in get_type_hints(RunKeywords).items() if n not in paths} == {
        n: h for n, h in hints.items() if n not in paths
    }


def test_options_of_keywords():
    options = Options.of(matcher="sift", pairs=Path("pairs.txt"), masks="m", seed=3)
    assert options == Options(
        images=ImageOptions(masks=Path("m")),
        pairs=PairOptions("pairs.txt"),
        matching=MatchingOptions(matcher="sift"),
        mapping=MappingOptions(seed=3),
    )
    assert Options.of() == Options()


def test_unknown_and_bad_keywords():
    with pytest.raises(BadOption, match="mather: no option of this name; did you mean matcher"):
        Options.of(mather="sift")
    with pytest.raises(BadOption, match="--resize 3"):
        Options.of(resize=3)
