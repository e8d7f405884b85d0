from __future__ import annotations

from typing import Any

import pytest

from sfm.report.verdict import run_verdict

RECORD: dict[str, Any] = {
    "images": 9,
    "registered": 9,
    "models": [{"path": "sparse/0", "images": 9}],
    "stages": [{"stage": "refinement", "seconds": 1.0}],
    "warnings": [],
}
PARALLAX = "the camera hardly moved: depths are not determined (move sideways between images, do not only rotate)"


def test_nothing_against_it():
    found = run_verdict(RECORD, {}, 0)
    assert (found.level, found.problems) == ("good", ())
    assert found.sentence == "All 9 images are in one model, and no check found a fault in it."
    assert found.part()["label"] == "Good"


def test_missing_images_are_counted_by_reason():
    reasons = {"a": "matched nothing", "b": "matched nothing", "c": "skipped: too small"}
    found = run_verdict(RECORD | {"registered": 6}, reasons, 0)
    assert found.level == "gaps"
    assert found.sentence.startswith("6 of 9 images are in the model")
    assert [problem.text for problem in found.problems] == [
        "3 of 9 images are not in the model: 2 × matched nothing; 1 × skipped: too small."
    ]
    assert found.problems[0].show == "out"


def test_a_warning_is_said_once_with_one_remedy():
    """Above the figures, as the verdict; a remedy of its own only where the warning names none."""
    record = RECORD | {
        "warnings": [{"sign": "no parallax", "text": PARALLAX}, {"sign": "few images", "text": "only 4 of 9 images"}]
    }
    found = run_verdict(record, {}, 0)
    assert found.level == "bad"
    assert "probably bad" in found.sentence
    assert [problem.text for problem in found.problems] == [f"T{PARALLAX[1:]}.", "Only 4 of 9 images."]
    assert found.problems[0].remedy == ""
    assert found.problems[1].remedy.startswith("Add images")
    listed = RECORD | {"warnings": [{"sign": "contradicted", "text": "2 images are misregistered (a.jpg, b.jpg)"}]}
    assert run_verdict(listed, {}, 0).problems[0].remedy.startswith("Look whether two places")
    assert str(found).count("hardly moved") == 1


def test_warnings_of_version_0_1_0_have_no_sign():
    record = {name: value for name, value in RECORD.items() if name != "warnings"} | {"doubts": [{"text": "odd"}]}
    assert [(problem.text, problem.remedy) for problem in run_verdict(record, {}, 0).problems] == [("Odd.", "")]


def test_why_there_is_no_model_and_what_to_do():
    record = RECORD | {"models": [], "registered": 0, "error": "no model: no two images overlap; add images that do"}
    found = run_verdict(record, {"a": "matched nothing"}, 0)
    assert (found.level, found.sentence) == ("none", "No two images overlap.")
    assert [problem.text for problem in found.problems] == ["Add images that do.", "Image by image: matched nothing."]
    stopped = run_verdict(RECORD | {"models": [], "error": None}, {}, 0)
    assert stopped.sentence == "The run stopped after refinement; there is no model yet."


@pytest.mark.parametrize(
    ("reasons", "level", "text"),
    [
        ({"a": "in another model"}, "gaps", "The images split into 2 models; this page shows the largest."),
        ({}, "good", "Of some of the images there are other models, too, which are not needed: sparse/1 (3 images)."),
    ],
)
def test_other_models_matter_where_images_are_missing(reasons: dict[str, str], level: str, text: str):
    record = RECORD | {"models": [*RECORD["models"], {"path": "sparse/1", "images": 3}]}
    found = run_verdict(record, reasons, 0)
    assert found.level == level
    assert found.problems[0].text.startswith(text)


def test_models_of_places_that_look_alike_are_no_pieces_to_be_joined():
    record = RECORD | {"models": [*RECORD["models"], {"path": "sparse/1", "images": 3}], "refused_pairs": [["a", "b"]]}
    found = run_verdict(record, {"a": "in another model"}, 0)
    assert found.level == "gaps"
    assert found.problems[0].text == (
        "The images are in 2 models; this page shows the largest. The others: sparse/1 (3 images). "
        "1 pair between places that look alike is refused (dashed in the match graph)."
    )
    assert found.problems[0].remedy == "Where they are one place after all, trust its pairs: --trust-pairs FILE."


def test_outliers_are_shown():
    found = run_verdict(RECORD, {}, 2)
    assert (found.level, found.problems[0].show) == ("odd", "odd")
    assert found.sentence == "All 9 images are in one model; 2 of them stand out."
