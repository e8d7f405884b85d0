from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sfm.errors import BadOption
from sfm.pairs.registry import choose
from sfm.pairs.retrieval import anchors, near_pairs
from tests.support.image_sets import image_set

SHARED = Path(__file__).parents[4] / "shared" / "datasets" / "room_1000" / "images"


def blocks(sizes: list[int]) -> NDArray[np.float32]:
    """Groups of images that are alike within, the more so the nearer they are, and hardly between."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(group))
    within = 0.9 - 0.01 * np.abs(place[:, None] - place)
    found = np.where(group[:, None] == group, within, 0.05).astype(np.float32)
    np.fill_diagonal(found, 1)
    return found


def test_each_image_has_its_nearest_ones() -> None:
    pairs = near_pairs(blocks([30]), 4)
    assert {(i, i + 1) for i in range(29)} <= pairs
    assert {(i, i + 2) for i in range(28)} <= pairs
    far = {(i, j) for i, j in pairs if j - i > 4}
    chosen = anchors(blocks([30]))
    assert far <= {(i, j) for i in chosen for j in chosen}


def test_anchors_are_in_every_part() -> None:
    chosen = anchors(blocks([40, 5, 5]))
    assert len(chosen) == 4
    assert {0 if i < 40 else 1 if i < 45 else 2 for i in chosen} == {0, 1, 2}


def test_all_images_are_in_one_piece() -> None:
    similarity = blocks([12] * 20)  # more parts than anchors
    rows = np.array(sorted(near_pairs(similarity, 3)))
    count, _ = connected_components(coo_array((np.ones(len(rows)), rows.T), shape=(240, 240)))
    assert count == 1
    assert len(rows) < 240 * 3 + 66 + 20 * 5


def test_few_images_are_all_pairs() -> None:
    assert near_pairs(blocks([4]), 20) == {(i, j) for j in range(4) for i in range(j)}
    assert near_pairs(np.eye(1, dtype=np.float32), 20) == set()


@pytest.mark.parametrize("spec", ["retrieval:0", "retrieval:", "retrieval:x"])
def test_a_bad_number_is_refused(spec: str) -> None:
    with pytest.raises(BadOption, match="whole number"):
        choose(spec, image_set(["a.jpg", "b.jpg"]))


@pytest.mark.slow
def test_frames_of_a_room_find_those_that_see_the_same() -> None:
    """Every 50th of a thousand frames; a frame's place is where it is in the video, and its neighbour looks like it."""
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
    pairs = choose("retrieval:5", replace(images, records=records, folder=SHARED)).pairs
    assert len(pairs) < 250  # of 780
    next_ones = {(a, b) for a, b in pairwise(names)}
    assert sum((pair.name0, pair.name1) in next_ones for pair in pairs) >= 25
