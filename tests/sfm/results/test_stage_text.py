from __future__ import annotations

import pytest

from sfm.results.stage_text import counts_text, stage_sentence
from sfm.types import StageSummary

MODEL = {"models": 1, "registered": 12, "points3D": 2153, "observations": 7502, "track_length": 3.5}
MAPPED = {
    **MODEL,
    "reprojection_error": 1.07,
    "attempt": 1,
    "pairs_removed": 0,
    "focals_estimated": 0,
    "focal_px": 518.9,
}
REFINED = {
    **MODEL,
    "reprojection_error": 0.21,
    "rounds": 3,
    "moved_network_px": 0.6,
    "rejected": 8,
    "newly_registered": 0,
}


@pytest.mark.parametrize(
    ("stage", "counts", "sentence"),
    [
        (
            "images",
            {"images": 12, "skipped": 0, "cameras": 1, "focal_priors": 12},
            "12 images of 1 camera, focal length known of all",
        ),
        (
            "images",
            {"images": 1200, "skipped": 1, "cameras": 2, "focal_priors": 7},
            "1,200 images of 2 cameras, focal length known of 7; 1 file skipped",
        ),
        ("pairs", {"images": 2, "pairs": 1, "dropped": 0}, "1 pair of images to match"),
        ("pairs", {"images": 9, "pairs": 30, "dropped": 6}, "30 pairs of images to match, 6 pairs left out"),
        (
            "pairs",
            {"images": 910, "pairs": 4563, "dropped": 0, "candidates": 47_229},
            "4,563 pairs of images to match first, of 47,229 that may follow",
        ),
        (
            "matching",
            {"pairs": 560, "matches": 5_000, "encoded": 1, "reused": 0, "rounds": 2}
            | {"round_1": 1351, "round_1_fit": 1329, "round_2": 209, "round_2_fit": 197},
            "5,000 matches in 560 pairs; 2 rounds of pairs, of which 1,329 of 1,351, 197 of 209 show one place",
        ),
        ("matching", {"pairs": 1, "matches": 1, "encoded": 2, "reused": 0}, "1 match in 1 pair"),
        (
            "matching",
            {"pairs": 66, "matches": 42_864, "encoded": 1, "reused": 55, "turned": 1},
            "42,864 matches in 66 pairs, 55 pairs of them kept from before, 1 pair matched rotated",
        ),
        (
            "verification",
            {"pairs": 66, "verified": 53, "inliers": 30_533},
            "53 of 66 pairs show the same surfaces, by 30,533 matches that fit together",
        ),
        (
            "tracks",
            {"tracks": 2243, "observations": 9955, "track_length": 4.44},
            "2,243 points followed through 4.4 images on average",
        ),
        ("mapping", {"models": 0}, "no model"),
        ("mapping", MAPPED, "12 images placed, 2,153 3D points, 1.07 px error"),
        (
            "mapping",
            {**MAPPED, "models": 2, "attempt": 3, "pairs_removed": 1},
            "2 models, in the largest 12 images placed, 2,153 3D points, 1.07 px error, at attempt 3, 1 pair removed "
            "that contradicted the others",
        ),
        ("refinement", REFINED, "12 images placed, 2,153 3D points, 0.21 px error, after 3 rounds"),
        (
            "refinement",
            {**REFINED, "rounds": 1, "newly_registered": 1},
            "12 images placed, 2,153 3D points, 0.21 px error, 1 image added, after 1 round",
        ),
        ("refinement", {**REFINED, "rounds": 0}, "12 images placed, 2,153 3D points, 0.21 px error, not refined"),
    ],
)
def test_what_a_stage_did_in_words(stage: str, counts: dict[str, float], sentence: str) -> None:
    assert stage_sentence(StageSummary(stage, counts, 1.0)) == sentence


def test_counts_that_are_not_known_are_named() -> None:
    counts = {"images": 1, "skipped": 0, "cameras": 1, "focal_priors": 0, "gps_positions": 167}
    assert stage_sentence(StageSummary("images", counts, 1.0)) == "1 image of 1 camera, 167 gps positions"
    assert stage_sentence(StageSummary("tracks", {"of_old": 1.5}, 1.0)) == "1.50 of old"
    assert counts_text(StageSummary("tracks", {"of_old": 1.5, "points": 12_345}, 1.0)) == "1.50 of old, 12,345 points"
    assert (
        counts_text(StageSummary("mapping", {"models": 1, "focals_estimated": 1}, 1.0)) == "1 model, 1 focal estimated"
    )
