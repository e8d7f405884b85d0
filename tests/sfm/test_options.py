from __future__ import annotations

from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

from sfm.errors import BadOption
from sfm.options import (
    SMALL_SET,
    ImageOptions,
    MappingOptions,
    MatchingOptions,
    Options,
    PairOptions,
    RunKeywords,
    TrackOptions,
)


def test_keywords_are_the_options_of_the_command_line():
    names = [item.name for _, item in Options.each()]
    assert len(set(names)) == len(names)
    assert list(get_type_hints(RunKeywords)) == names
    hints = {name: hint for kind in get_type_hints(Options).values() for name, hint in get_type_hints(kind).items()}
    paths = ("masks", "known_poses")
    assert {n: h for n, h in get_type_hints(RunKeywords).items() if n not in paths} == {
        n: h for n, h in hints.items() if n in names and n not in paths
    }


def test_pairs_must_be_something():
    with pytest.raises(BadOption, match="--pairs: is empty; give auto, a selector or a file of pairs"):
        Options.of(pairs="")


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
    with pytest.raises(BadOption, match="--min-model-size -1: must be at least 1"):
        Options.of(min_model_size=-1)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (
            {"camera": "per-floder"},
            "--camera per-floder: choose one of auto, single, per-folder, per-image; did you mean",
        ),
        ({"turns": "of"}, "--turns of: choose one of auto, off; did you mean off"),
        ({"device": "gpu"}, "--device gpu: choose one of auto, cpu, cuda"),
        ({"resize": "640"}, "--resize '640': must be int, not str"),
        ({"seed": 1.5}, "--seed 1.5: must be int, not float"),
        ({"seed": True}, "--seed True: must be int, not bool"),
        ({"no_refine": 1}, "--no-refine 1: must be bool, not int"),
        ({"intrinsics": [900, 512, 340, 0]}, r"--intrinsics \[900, 512, 340, 0\]: must be str or None, not list"),
        ({"confidence": "0.5"}, "--confidence '0.5': must be float or None, not str"),
        ({"pairs": 3}, "--pairs 3: must be str, not int"),
    ],
)
def test_values_of_another_kind_and_other_choices_are_refused(keywords, message):
    with pytest.raises(BadOption, match=message):
        Options.of(**keywords)


def test_numbers_are_of_their_fields_type():
    options = Options.of(resize=np.int64(640), confidence=np.float32(0.5), max_error=2)
    values = (options.matching.resize, options.matching.confidence, options.verification.max_error)
    assert values == (640, 0.5, 2.0)
    assert [type(value) for value in values] == [int, float, float]


def test_threads_are_one_for_few_images_and_all_cores_for_many_unless_they_are_given():
    assert MappingOptions().for_images(SMALL_SET).threads == 1
    assert MappingOptions().for_images(SMALL_SET + 1).threads == -1
    assert MappingOptions(threads=1).for_images(5000).threads == 1
    assert MappingOptions(threads=3).for_images(2).threads == 3
    with pytest.raises(BadOption, match="--threads -2"):
        MappingOptions(threads=-2)


def test_fewer_than_no_observations_are_refused():
    with pytest.raises(BadOption, match="--max-observations -1"):
        TrackOptions(max_observations=-1)
