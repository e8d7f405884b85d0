"""Growth of the graph of pairs, on sets of images whose truth is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sfm.match_graph import REASONS, Candidates, reason_number
from sfm.matching.growth import FEW_TRIES, JUDGED, OF_AN_IMAGE, TIE_TRIES, PairGrowth, Proposal, Tried, probability
from sfm.pairs.candidates import by_likeness

Pair = tuple[int, int]
Answer = Callable[[Pair], bool]


def likeness_of(places: NDArray[np.float64], *, noise: float = 0.3, seed: int = 0) -> NDArray[np.float32]:
    """(N, N) likeness of images at these places, the less the farther apart."""
    distance = np.abs(places[:, None] - places)
    rng = np.random.default_rng(seed)
    factor = np.exp(rng.normal(0, noise, distance.shape))
    found = np.clip(np.exp(-distance / 6.0) * np.minimum(factor, factor.T), 0, 1)
    found = np.minimum(found, found.T).astype(np.float32)
    np.fill_diagonal(found, 1)
    return found


def grown(
    num: int, first: list[Pair], candidates: Candidates, answer: Answer
) -> tuple[list[list[Proposal]], dict[Pair, bool]]:
    """The rounds and all answers."""
    growth, answers = PairGrowth(num, candidates), dict[Pair, bool]()
    rounds = [[Proposal(pair, "alike") for pair in first]]
    while rounds[-1]:
        found = [Tried(each.pair, answer(each.pair)) for each in rounds[-1]]
        answers |= dict(found)
        growth.learn(found)
        rounds.append(growth.propose())
        assert len(rounds) < 60
    return rounds[:-1], answers


def parts_of(num: int, answers: dict[Pair, bool]) -> list[int]:
    rows = np.array([pair for pair, fits in answers.items() if fits], np.int64).reshape(-1, 2)
    _, labels = connected_components(coo_array((np.ones(len(rows)), rows.T), shape=(num, num)), directed=False)
    return list(labels.tolist())


def line(num: int, reach: float) -> tuple[NDArray[np.float32], Answer]:
    """Images along a line, of which those within reach show one place."""
    return likeness_of(np.arange(num, dtype=np.float64)), lambda pair: abs(pair[0] - pair[1]) <= reach


def test_a_row_is_grown_within_its_budget_and_as_far_as_it_reaches() -> None:
    similarity, answer = line(200, 12)
    first, candidates = by_likeness(similarity, 20)
    rounds, answers = grown(200, first, candidates, answer)
    assert len(set(parts_of(200, answers))) == 1
    assert len(first) < len(answers) <= candidates.budget == 2000
    share = np.mean([answers[each.pair] for own in rounds[1:] for each in own])
    assert share > 0.85  # of pairs drawn from the candidates at random a third would
    assert np.mean([answer(tuple(pair)) for pair in candidates.rows.tolist()]) < 0.35
    far = [j - i for (i, j), fits in answers.items() if fits]
    assert max(far) == 12


def test_nothing_is_matched_twice_and_all_is_a_candidate() -> None:
    similarity, answer = line(120, 5)
    first, candidates = by_likeness(similarity, 12)
    rounds, _ = grown(120, first, candidates, answer)
    every = [each.pair for own in rounds for each in own]
    assert len(every) == len(set(every))
    assert set(every) <= {tuple(pair) for pair in candidates.rows.tolist()}
    assert {each.reason for own in rounds for each in own} <= REASONS.keys()


def test_equal_answers_give_equal_rounds() -> None:
    similarity, answer = line(150, 9)
    first, candidates = by_likeness(similarity, 20)
    assert grown(150, first, candidates, answer) == grown(150, first, candidates, answer)


def test_images_that_show_nothing_in_common_cost_little() -> None:
    similarity = likeness_of(np.arange(100) * 1.0)
    first, candidates = by_likeness(similarity, 20)
    rounds, answers = grown(100, first, candidates, lambda pair: False)
    assert len(answers) <= len(first) + 2 * 100 + FEW_TRIES[0] * 100
    assert Counter(each.reason for own in rounds[1:] for each in own)["tie"] == 0


def test_where_all_show_one_place_it_stops_when_each_image_has_enough() -> None:
    similarity = likeness_of(np.zeros(150))
    first, candidates = by_likeness(similarity, 20)
    _, answers = grown(150, first, candidates, lambda pair: True)
    degree = Counter(image for pair in answers for image in pair)
    assert max(degree.values()) <= max(Counter(i for pair in first for i in pair).values()) + 3 * OF_AN_IMAGE
    assert len(answers) <= candidates.budget


def test_two_parts_are_tied_by_the_one_pair_that_can() -> None:
    """Two rows that look unlike; only two of their images show one place, and they do not look it."""
    places = np.concatenate([np.arange(60), 1000 + np.arange(60)]) * 1.0
    similarity = likeness_of(places)
    similarity[20, 80] = similarity[80, 20] = 0.001
    first, candidates = by_likeness(similarity, 12)

    def answer(pair: Pair) -> bool:
        return pair == (20, 80) or abs(places[pair[0]] - places[pair[1]]) <= 8

    rounds, answers = grown(120, first, candidates, answer)
    assert answers.get((20, 80)), "tried"
    assert next(each.reason for own in rounds for each in own if each.pair == (20, 80)) == "tie"
    assert len(set(parts_of(120, answers))) == 1


def test_a_thread_between_two_parts_is_made_a_rope() -> None:
    """Two rows that look unlike, of which a few images in the middle show one place."""
    places = np.concatenate([np.arange(60), 1000 + np.arange(60)]) * 1.0
    similarity = likeness_of(places)
    for i in range(20, 26):
        for j in range(80, 86):
            similarity[i, j] = similarity[j, i] = 0.001
    first, candidates = by_likeness(similarity, 12)

    def answer(pair: Pair) -> bool:
        across = pair[0] in range(20, 26) and pair[1] in range(80, 86)
        return across or abs(places[pair[0]] - places[pair[1]]) <= 8

    _, answers = grown(120, first, candidates, answer)
    ties = [pair for pair, fits in answers.items() if fits and pair[0] < 60 <= pair[1]]
    assert len(ties) >= 6
    assert len({i for i, _ in ties}) >= 3


def test_parts_that_show_different_places_are_not_tried_for_ever() -> None:
    num, of_each = 6, 30
    places = np.concatenate([1000 * k + np.arange(of_each) for k in range(num)]) * 1.0
    similarity = np.maximum(likeness_of(places), 0.001 * likeness_of(np.zeros(num * of_each)))
    first, candidates = by_likeness(similarity, 10)

    def answer(pair: Pair) -> bool:
        return abs(places[pair[0]] - places[pair[1]]) <= 6

    _, answers = grown(num * of_each, first, candidates, answer)
    across = sum(pair[0] // of_each != pair[1] // of_each for pair in answers if pair not in set(first))
    assert 0 < across <= num * TIE_TRIES[1] + 64
    assert len(set(parts_of(num * of_each, answers))) == num


def test_in_a_set_of_many_places_ties_are_given_up_soon() -> None:
    num, of_each = 20, 12
    places = np.concatenate([1000 * k + np.arange(of_each) for k in range(num)]) * 1.0
    similarity = np.maximum(likeness_of(places), 0.001 * likeness_of(np.zeros(num * of_each)))
    first, candidates = by_likeness(similarity, 20)
    rounds, answers = grown(num * of_each, first, candidates, lambda pair: abs(places[pair[0]] - places[pair[1]]) <= 6)
    reasons = Counter(each.reason for own in rounds[1:] for each in own)
    assert JUDGED <= reasons["tie"] <= num * TIE_TRIES[0]  # one round of them
    assert len(set(parts_of(num * of_each, answers))) == num


def test_an_image_that_few_show_gets_more_of_its_candidates() -> None:
    """Image 50 shows the same as three others that do not look like it."""
    similarity, near = line(100, 10)
    first, candidates = by_likeness(similarity, 12)
    others = [j for j in range(60, 100) if (50, j) in {tuple(p) for p in candidates.rows.tolist()}][:3]

    def answer(pair: Pair) -> bool:
        return near(pair) if 50 not in pair else pair[1] in others

    rounds, _ = grown(100, first, candidates, answer)
    tried = {each.pair: each.reason for own in rounds[1:] for each in own if 50 in each.pair}
    assert "few" in tried.values()
    assert sum(reason == "few" for reason in tried.values()) <= FEW_TRIES[1]


def test_what_was_learned_is_in_the_probabilities() -> None:
    bins, kinds = np.repeat([15, 8, 0], 40), np.zeros(120, np.int64)
    tried = np.tile([True] * 30 + [False] * 10, 3)
    tried[80:] = False
    fits = tried & (bins == 15)
    found = probability(bins, kinds, tried, fits)
    assert found[39] > 0.9
    assert found[79] < 0.1
    assert found[119] < 0.01  # of which nothing was tried
    assert found[0] == found[39]


@pytest.mark.parametrize("num", [0, 1, 2])
def test_few_images(num: int) -> None:
    rows = np.array([(0, 1)] if num > 1 else [], np.int64).reshape(-1, 2)
    candidates = Candidates(rows, np.ones(len(rows), np.float32), np.full(len(rows), reason_number("alike")), 5)
    growth = PairGrowth(num, candidates)
    growth.learn([])
    assert [each.pair for each in growth.propose()] == [(0, 1)][: len(rows)]


def test_neighbours_of_neighbours_come_before_pairs_of_the_same_likeness() -> None:
    """All candidates look equally alike: what the pairs before said decides."""
    num = 60
    rows = np.array([(i, j) for i in range(num) for j in range(i + 1, num)], np.int64)
    candidates = Candidates(rows, np.full(len(rows), 0.5, np.float32), np.zeros(len(rows), np.int64), 600)
    group = np.arange(num) % 4
    growth = PairGrowth(num, candidates)
    first = [(i, j) for i in range(num) for j in (i + 1, i + 2, i + 3, i + 4, i + 8) if j < num]
    growth.learn([Tried(pair, bool(group[pair[0]] == group[pair[1]])) for pair in first])
    found = growth.propose()
    right = {
        reason: [bool(group[each.pair[0]] == group[each.pair[1]]) for each in found if each.reason == reason]
        for reason in ("shared", "likely")
    }
    assert len(right["shared"]) > 20
    assert np.mean(right["shared"]) > 0.9  # a quarter of all pairs is
    assert all(a != b for a, b in pairwise(each.pair for each in found))
