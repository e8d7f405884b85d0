from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sfm.match_graph import REASONS, reason_number
from sfm.pairs.candidates import anchors, between_parts, by_likeness, row_pairs, with_pairs


def blocks(sizes: list[int]) -> NDArray[np.float32]:
    """Groups of images that are alike within, the more so the nearer they are, and hardly between."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(group))
    within = 0.9 - 0.001 * np.abs(place[:, None] - place)
    found = np.where(group[:, None] == group, within, 0.05).astype(np.float32)
    np.fill_diagonal(found, 1)
    return found


def test_the_first_pairs_are_the_nearest_and_some_further_on() -> None:
    first, candidates = by_likeness(blocks([300]), 20)
    gaps = [j - i for i, j in first]
    assert {(i, i + 1) for i in range(299)} <= set(first)
    assert max(gaps) > 15
    assert 3 * 300 < len(first) < 6 * 300
    assert candidates.budget == 3000
    held = {tuple(pair) for pair in candidates.rows.tolist()}
    assert set(first) <= held
    assert {(i, i + gap) for gap in range(1, 20) for i in range(300 - gap)} <= held
    assert len(held) < 60 * 300


def test_anchors_are_in_every_part() -> None:
    chosen = anchors(blocks([40, 5, 5]))
    assert len(chosen) == 4
    assert {0 if i < 40 else 1 if i < 45 else 2 for i in chosen} == {0, 1, 2}
    first, candidates = by_likeness(blocks([40, 5, 5]), 5)
    assert {(min(i, j), max(i, j)) for i in chosen for j in chosen if i != j} <= set(first)
    assert reason_number("anchor") in candidates.reason


def test_candidates_connect_all_images() -> None:
    _, candidates = by_likeness(blocks([12] * 20), 5)  # more parts than anchors
    count, _ = connected_components(coo_array((np.ones(len(candidates)), candidates.rows.T), shape=(240, 240)))
    assert count == 1


def test_added_pairs_have_their_reason_and_likeness() -> None:
    similarity = blocks([30])
    _, candidates = by_likeness(similarity, 3)
    more = with_pairs(candidates, row_pairs([(5, 4), (0, 29)], "row"), similarity, 99)
    reasons = {(i, j): list(REASONS)[n] for (i, j), n in zip(more.rows.tolist(), more.reason.tolist(), strict=True)}
    assert reasons[4, 5] == reasons[0, 29] == "row"
    assert reasons[10, 11] == "alike"
    assert more.budget == 99
    likeness = dict(zip(map(tuple, more.rows.tolist()), more.likeness.tolist(), strict=True))
    assert likeness[0, 29] == similarity[0, 29]
    unknown = with_pairs(candidates, row_pairs([(4, 5), (0, 29)], "row"), None, 99)
    usual = np.median([similarity[4, 5], similarity[0, 29]])  # both are anchors or neighbours
    of = dict(zip(map(tuple, unknown.rows.tolist()), unknown.likeness.tolist(), strict=True))
    assert of[4, 5] == similarity[4, 5]
    assert of[0, 29] in (similarity[0, 29], np.float32(usual))
    far = with_pairs(candidates, row_pairs([(4, 5), (2, 27)], "row"), None, 99)
    assert dict(zip(map(tuple, far.rows.tolist()), far.likeness.tolist(), strict=True))[2, 27] == similarity[4, 5]


def test_parts_have_their_most_alike_pairs_with_others() -> None:
    similarity = blocks([60, 60])
    similarity[20, 80] = similarity[80, 20] = 0.2
    _, candidates = by_likeness(similarity, 12)
    reasons = {(i, j): list(REASONS)[n] for (i, j), n in zip(candidates.rows.tolist(), candidates.reason, strict=True)}
    assert reasons[20, 80] == "tie"
    assert between_parts(blocks([60]), 6) == set()
    assert between_parts(np.eye(1, dtype=np.float32), 6) == set()
