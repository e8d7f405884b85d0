from __future__ import annotations

from dataclasses import replace

import pytest

from sfm.pairs import automatic
from sfm.pairs.exhaustive import all_pairs
from sfm.pairs.registry import choose
from sfm.pairs.sequential import neighbours
from tests.support.image_sets import image_set

NAMES = [f"{i:04}.jpg" for i in range(101)]


def test_up_to_a_hundred_images_are_matched_all_with_all_without_a_word() -> None:
    chosen = choose("auto", image_set(NAMES[:100]))
    assert set(chosen.pairs) == set(all_pairs(NAMES[:100]))
    assert chosen.note == ""


def test_more_images_are_matched_with_those_that_look_like_them(monkeypatch: pytest.MonkeyPatch) -> None:
    few = neighbours(NAMES, 3)
    monkeypatch.setattr(automatic.retrieval, "select", lambda images: automatic.ChosenPairs(few))
    chosen = choose("auto", image_set(NAMES))
    assert chosen.pairs == few
    assert chosen.note == (
        f"pairs: 101 images, each with the 20 that look most like it, and a few that do not: {len(few):,} of 5,050 "
        "pairs (all of them: --pairs exhaustive, 25 min at 0.3 s each)"
    )


def test_frames_of_a_video_are_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"clip/{name}" for name in NAMES]
    row = neighbours(names, 10)
    monkeypatch.setattr(automatic.sequential, "select", lambda images: automatic.ChosenPairs(row))
    chosen = choose("auto", replace(image_set(names), clips=frozenset({"clip"})))
    assert chosen.pairs == row
    assert chosen.note.startswith("pairs: 101 frames of a video, each with the next 10, some further ahead and those")


def test_a_short_video_is_matched_all_with_all() -> None:
    names = [f"clip/{name}" for name in NAMES[:20]]
    chosen = choose("auto", replace(image_set(names), clips=frozenset({"clip"})))
    assert set(chosen.pairs) == set(all_pairs(names))
    assert chosen.note == ""


def test_images_beside_a_video_are_found_by_what_they_look_like(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [*(f"clip/{name}" for name in NAMES), "photo.jpg"]
    row, alike = neighbours(names[:-1], 10), all_pairs(["clip/0000.jpg", "photo.jpg"])
    monkeypatch.setattr(automatic.sequential, "select", lambda images: automatic.ChosenPairs(row))
    monkeypatch.setattr(automatic.retrieval, "select", lambda images: automatic.ChosenPairs(alike))
    chosen = choose("auto", replace(image_set(names), clips=frozenset({"clip"})))
    assert chosen.pairs == (*row, *alike)
    assert "frames of videos and other images" in chosen.note
