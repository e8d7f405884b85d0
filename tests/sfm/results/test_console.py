from __future__ import annotations

from pathlib import Path

from sfm.results.console import reasons_lines, stage_text, summary_text
from sfm.types import ReconstructionSummary, StageSummary

RAW = "RAW images need pip install 'loftr-sfm[raw]'"


def test_many_images_with_one_reason_share_a_line() -> None:
    raw = [(f"{i:04}.dng", RAW) for i in range(5000)]
    assert reasons_lines([("a.jpg", "the file is empty"), *raw]) == [
        "  a.jpg: the file is empty",
        f"  5,000 images (0000.dng, 0001.dng, 0002.dng and 4,997 more): {RAW}",
    ]
    assert reasons_lines(raw[:2]) == [f"  0000.dng: {RAW}", f"  0001.dng: {RAW}"]


def test_what_is_left_out_of_a_folder_is_said_at_once_and_at_the_end() -> None:
    counts = {"images": 2, "skipped": 1, "cameras": 1, "focal_priors": 0}
    note = "documents (scan.pdf) are left out: export their pages as images"
    images = StageSummary("images", counts, 0.04, (("x.dng", RAW),), notes=(note,))
    assert stage_text(images) == (
        f"images           0.0 s  2 images of 1 camera; 1 file skipped\n  x.dng: {RAW}\n  {note}"
    )
    calibration = "camera 1 (2 images): f 518.11 ± 0.26, k1 0.00116 ± 0.00062; principal point held"
    refinement = StageSummary("refinement", {}, 1.0, notes=(calibration, "two models overlap"))
    summary = ReconstructionSummary(
        3, 2, 5, 9, 2.0, 0.5, (), (images, refinement), ((Path("o/sparse/0"), 2),), Path("o/sparse/0")
    )
    lines = summary_text(summary, Path("x"), Path("o")).splitlines()
    assert note in lines
    assert "two models overlap" in lines
    assert calibration not in lines  # in run.json and the report


def test_a_stage_that_says_nothing_has_one_line() -> None:
    assert stage_text(StageSummary("pairs", {"images": 2, "pairs": 1, "dropped": 0}, 0.0, reused=True)) == (
        "pairs           reused  1 pair of images to match"
    )
