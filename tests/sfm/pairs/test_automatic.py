from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sfm.match_graph import REASONS
from sfm.pairs import automatic
from sfm.pairs.base import ChosenPairs, ImageSet
from sfm.pairs.exhaustive import all_pairs
from sfm.pairs.registry import choose
from sfm.pairs.sequential import neighbours
from sfm.types import ImagePair
from tests.support.drone_scene import records_of, strips, tags_of
from tests.support.image_sets import image_set

NAMES = [f"{i:04}.jpg" for i in range(101)]


def looks(monkeypatch: pytest.MonkeyPatch, similarity: NDArray[np.float64]) -> None:
    found = similarity.astype(np.float32)
    monkeypatch.setattr(automatic.retrieval, "similarity_of", lambda images: (images.names, found))


def alike(places: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-np.linalg.norm(places[:, None] - places, axis=2) / 8)


IN_NO_ORDER = alike(np.random.default_rng(1).permutation(101)[:, None].astype(float))
IN_ORDER = alike(np.arange(101)[:, None].astype(float))


def reasons(chosen: ChosenPairs, names: list[str]) -> dict[ImagePair, str]:
    found = chosen.candidates
    assert found is not None
    each = zip(found.rows.tolist(), found.reason.tolist(), strict=True)
    return {ImagePair(names[i], names[j]): list(REASONS)[number] for (i, j), number in each}


def test_up_to_a_hundred_images_are_matched_all_with_all_without_a_word() -> None:
    chosen = choose("auto", image_set(NAMES[:100]))
    assert set(chosen.pairs) == set(all_pairs(NAMES[:100]))
    assert chosen.note == ""
    assert chosen.candidates is None


def test_more_images_are_matched_with_those_that_look_like_them(monkeypatch: pytest.MonkeyPatch) -> None:
    looks(monkeypatch, IN_NO_ORDER)
    chosen = choose("auto", image_set(NAMES))
    assert chosen.note == (
        f"pairs: 101 images, by what they look like: {len(chosen.pairs)} of 5,050 pairs first, then what these show, "
        "about 1,010 in all (--pairs exhaustive: 17 min at 0.2 s a pair)"
    )
    assert len(chosen.pairs) < 700
    assert set(reasons(chosen, NAMES).values()) == {"alike", "anchor"}
    assert chosen.candidates is not None
    assert chosen.candidates.budget == 1010


def test_images_in_a_row_are_matched_with_the_next_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    looks(monkeypatch, IN_ORDER)
    chosen = choose("auto", image_set(NAMES))
    assert chosen.note.startswith(
        "pairs: 101 images, in 1 row by name (the next one is among the most alike of 100%) and by what they look like:"
    )
    own = reasons(chosen, NAMES)
    for pair in (ImagePair(a, b) for gap in (1, 2) for a, b in zip(NAMES[:-gap], NAMES[gap:], strict=True)):
        assert pair in chosen.pairs
        assert own[pair] == "row"
    assert own[ImagePair(NAMES[0], NAMES[16])] == "row"


def test_frames_of_a_long_video_are_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"clip/{name}" for name in NAMES]
    looks(monkeypatch, IN_NO_ORDER)
    chosen = choose("auto", replace(image_set(names), clips=frozenset({"clip"})))
    assert {ImagePair(a, b) for a, b in pairwise(names)} <= set(chosen.pairs)
    assert chosen.note.startswith("pairs: 101 images, in 1 row (frames of videos) and by what they look like")


def test_frames_of_a_video_of_few_frames_are_matched_with_the_next_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"clip/{name}" for name in NAMES[:100]]
    row = neighbours(names, 10)
    monkeypatch.setattr(automatic.sequential, "select", lambda images: ChosenPairs(row))
    chosen = choose("auto", replace(image_set(names), clips=frozenset({"clip"})))
    assert chosen.pairs == row
    assert chosen.note.startswith("pairs: 100 frames of a video, each with the next 10, some further ahead and those")
    assert chosen.candidates is None


def test_a_short_video_is_matched_all_with_all() -> None:
    names = [f"clip/{name}" for name in NAMES[:20]]
    chosen = choose("auto", replace(image_set(names), clips=frozenset({"clip"})))
    assert set(chosen.pairs) == set(all_pairs(names))
    assert chosen.note == ""


def test_images_beside_a_video_are_found_by_what_they_look_like(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [*(f"clip/{name}" for name in NAMES[:90]), "photo.jpg"]
    row, near = neighbours(names[:-1], 10), all_pairs(["clip/0000.jpg", "photo.jpg"])
    monkeypatch.setattr(automatic.sequential, "select", lambda images: ChosenPairs(row, reason="row"))
    monkeypatch.setattr(automatic.retrieval, "select", lambda images: ChosenPairs(near))
    chosen = choose("auto", replace(image_set(names), clips=frozenset({"clip"})))
    assert chosen.pairs == (*row, *near)
    assert "frames of videos and other images" in chosen.note


def test_positions_are_used_where_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    enu = np.concatenate([strips() * [1, 1, 0], strips() * [1, 1, 0] + [0, 200, 0], strips() * [1, 1, 0] + [0, 400, 0]])
    looks(monkeypatch, alike(enu / 3))
    images = ImageSet(records_of(tags_of(enu)), Path())
    chosen = choose("auto", images)
    assert "near each other by GPS (120 have positions, and those that look alike are near)" in chosen.note
    assert "near" in reasons(chosen, images.names).values()
    far = enu[np.random.default_rng(0).permutation(len(enu))]
    assert "GPS" not in choose("auto", ImageSet(records_of(tags_of(far)), Path())).note
