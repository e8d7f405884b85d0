from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from sfm.cli.parsing import Parser, add_options, options_from
from sfm.options import MatchingOptions, Options, PairOptions
from sfm.report.next_steps import comparison_steps, run_steps
from sfm.results.run_json import command


def record_of(options: Options, *, registered: int, images: Path, out: Path) -> dict[str, Any]:
    return {
        "images": 9,
        "registered": registered,
        "models": [{"path": "sparse/0", "images": registered}] if registered else [],
        "error": None if registered else "no model",
        "options": options.as_dict(),
        "command": command(images, out, options),
    }


def options_of(words: list[str]) -> Options:
    """Options as a run takes them; a word that is refused ends the test."""
    parser = Parser()
    parser.add_argument("folder")
    parser.add_argument("out")
    add_options(parser)
    return options_from(parser.parse_args(words), Options)


def test_after_a_good_run(tmp_path: Path):
    out, images = tmp_path / "out dir", tmp_path / "images"
    found = run_steps(record_of(Options(), registered=9, images=images, out=out), "good", out, images)
    words = [shlex.split(step["command"]) for step in found]
    assert words[0] == ["loftr-sfm", "view", str(out)]
    assert ["loftr-sfm", "export", str(out), "nerfstudio"] in words
    assert all(step["what"][0].isupper() for step in found)


@pytest.mark.parametrize("registered", [0, 5])
def test_missing_images_are_tried_again_with_the_runs_own_options(tmp_path: Path, registered: int):
    images, out, masks = tmp_path / "images", tmp_path / "out", tmp_path / "masks"
    masks.mkdir()
    options = Options(pairs=PairOptions("sequential"), matching=MatchingOptions(resize=320, confidence=0.3))
    record = record_of(options, registered=registered, images=images, out=out)
    found = run_steps(record, "gaps" if registered else "none", out, images)
    first = shlex.split(found[0]["command"])
    assert first[:3] == ["loftr-sfm", str(images), str(tmp_path / "out-finer")]
    again = options_of(first[1:])
    assert again.matching.resize == 512
    assert (again.matching.confidence, again.pairs.pairs) == (0.3, "sequential")
    if not registered:
        all_pairs, sift = (options_of(shlex.split(step["command"])[1:]) for step in found[1:])
        assert (all_pairs.pairs.pairs, all_pairs.matching.resize) == ("exhaustive", 320)
        assert (sift.matching.matcher, sift.pairs.pairs) == ("sift", "sequential")


def test_nothing_is_written_among_the_images(tmp_path: Path):
    images = tmp_path / "trip"
    record = record_of(Options(), registered=0, images=images, out=images / "out")
    target = Path(shlex.split(run_steps(record, "none", images / "out", images)[0]["command"])[2])
    assert target == tmp_path / "trip-out-finer"


def test_relative_paths_of_options_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "masks").mkdir()
    monkeypatch.chdir(tmp_path)
    record = record_of(Options(), registered=0, images=Path("images"), out=Path("out"))
    record["command"] = "loftr-sfm images out --masks masks --offline"
    words = shlex.split(run_steps(record, "none", Path("out"), Path("images"))[0]["command"])
    assert words[1:] == [
        str(tmp_path / "images"),
        str(tmp_path / "out-finer"),
        "--masks",
        str(tmp_path / "masks"),
        "--offline",
        "--resize",
        "1024",
    ]


def test_a_hostile_record_runs_nothing_of_its_own(tmp_path: Path):
    """What is copied is arguments of this program, quoted; a command that is none is left out."""
    out = tmp_path / "$(touch x) 'y'"
    record = record_of(Options(), registered=0, images=tmp_path / "i", out=out)
    for said in ("rm -rf / ; loftr-sfm a b --resize 1", "loftr-sfm a b '; rm -rf /'", "loftr-sfm 'a"):
        for step in run_steps(record | {"command": said}, "none", out, tmp_path / "i"):
            words = shlex.split(step["command"])
            assert words[:2] == ["loftr-sfm", str(tmp_path / "i")]
            assert shlex.join(words) == step["command"]


def test_a_bad_model_is_not_exported(tmp_path: Path):
    out, images = tmp_path / "out", tmp_path / "images"
    record = record_of(Options(), registered=9, images=images, out=out)
    verbs = [shlex.split(step["command"])[1] for step in run_steps(record, "bad", out, images)]
    assert "view" in verbs
    assert "export" not in verbs


def test_without_the_images_only_what_needs_none(tmp_path: Path):
    out = tmp_path / "out"
    record = record_of(Options(), registered=5, images=tmp_path / "gone", out=out)
    assert {shlex.split(step["command"])[1] for step in run_steps(record, "gaps", out, None)} == {
        "view",
        "export",
        "inspect",
    }


def test_after_a_comparison(tmp_path: Path):
    models = [tmp_path / "a", tmp_path / "b c"]
    steps = comparison_steps(models, ("LoFTR", "SIFT"), None, ground_truth=False)
    assert [step["what"] for step in steps[1:]] == ["LoFTR in a window", "SIFT in a window"]
    found = [step["command"] for step in steps]
    assert found[0] == f"loftr-sfm compare {models[0]} '{models[1]}' --ground-truth MODEL"
    assert [shlex.split(line)[1:] for line in found[1:]] == [["view", str(model)] for model in models]
