from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from sfm.errors import BadOption
from sfm.pairs import retrieval
from sfm.pairs.exhaustive import all_pairs
from sfm.pairs.registry import choose
from tests.support.image_sets import image_set

SHARED = Path(__file__).parents[4] / "shared" / "datasets" / "room_1000" / "images"
NAMES = [f"{i:03}.jpg" for i in range(90)]


def test_few_images_are_all_pairs() -> None:
    chosen = choose("retrieval", image_set(NAMES[:21]))
    assert set(chosen.pairs) == set(all_pairs(NAMES[:21]))
    assert chosen.candidates is None


def test_the_number_is_the_pairs_of_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    place = np.arange(90)
    similarity = np.exp(-np.abs(place[:, None] - place) / 9).astype(np.float32)
    monkeypatch.setattr(retrieval, "similarity_of", lambda images: (NAMES, similarity))
    for number in (6, 20):
        chosen = choose(f"retrieval:{number}", image_set(NAMES))
        assert chosen.candidates is not None
        assert chosen.candidates.budget == 90 * number // 2
        assert len(chosen.pairs) < chosen.candidates.budget


@pytest.mark.parametrize("spec", ["retrieval:0", "retrieval:", "retrieval:x"])
def test_a_bad_number_is_refused(spec: str) -> None:
    with pytest.raises(BadOption, match="whole number"):
        choose(spec, image_set(["a.jpg", "b.jpg"]))


@pytest.mark.slow
def test_frames_of_a_room_find_those_that_see_the_same() -> None:
    """Every 25th of a thousand frames; a frame's place is where it is in the video, and its neighbour looks like it."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not here")
    from sfm.images.decoding import opened

    names = sorted(path.name for path in SHARED.iterdir())[::25]
    with opened(SHARED / names[0]) as image:
        width, height = image.size
    images = image_set(names)
    records = tuple(
        replace(record, width=width, height=height, digest=f"{i:064x}") for i, record in enumerate(images.records)
    )
    pairs = choose("retrieval:10", replace(images, records=records, folder=SHARED)).pairs
    assert len(pairs) < 250  # of 780
    next_ones = {(a, b) for a, b in pairwise(names)}
    assert sum((pair.name0, pair.name1) in next_ones for pair in pairs) >= 25
