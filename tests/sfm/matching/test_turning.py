"""Pairs of a camera that turns by and by, and of strips that nothing connects as they are."""

from __future__ import annotations

from itertools import combinations

import pytest

from sfm.matching.growth import JUDGED
from sfm.matching.rotations import ROTATIONS, RotatedPair
from sfm.matching.turning import PAIRS_AT_ONCE, Found, Turning
from sfm.types import ImagePair

WITHIN = 50.0  # degrees at which images match as they are


class World:
    """Images that are turned so, in degrees, and show one place where `overlap` says so."""

    def __init__(self, turns: list[float], overlap=lambda a, b: True) -> None:
        self.names = [f"{number:03d}" for number in range(len(turns))]
        self.turn = dict(zip(self.names, turns, strict=True))
        self.overlap = overlap
        self.asked: list[RotatedPair] = []

    def pairs(self, reach: int) -> list[ImagePair]:
        return [ImagePair(a, b) for a, b in combinations(self.names, 2) if int(b) - int(a) <= reach]

    def shows(self, pair: ImagePair) -> bool:
        return self.overlap(int(pair.name0), int(pair.name1))

    def match(self, tasks, *, desc):
        self.asked += tasks
        return {task: self.answer(task) for task in tasks}

    def answer(self, task: RotatedPair) -> Found:
        turn = (self.turn[task.pair.name1] - self.turn[task.pair.name0] + 180) % 360 - 180
        off = abs((turn - 90 * task.rotation + 180) % 360 - 180)
        return Found(100, 0.1, turn) if self.shows(task.pair) and off <= WITHIN else Found(5, 0.0)

    def turning(self, **options) -> Turning:
        def tied(answers):
            return {task for task, found in answers.items() if found.strength > 0.05}

        return Turning(self.names, self.match, tied, **{"rotating": True, **options})


def test_the_turn_is_carried_along_a_strip_in_which_the_camera_turns_by_and_by():
    world = World([12.0 * number for number in range(31)])  # round once
    turning = world.turning()
    assert turning.match(world.pairs(3), desc="") == set(world.pairs(3))
    far = [pair for pair in world.pairs(30) if pair not in set(world.pairs(3))]
    world.asked.clear()
    assert turning.match(far, desc="") == set(far)
    assert len(world.asked) == len(far)  # each once, at the rotation that is foretold
    assert {task.rotation for task in world.asked} == {0, 1, 2, 3}


def test_strips_that_nothing_connects_are_found_by_a_few_pairs_which_foretell_the_others():
    world = World([0.0] * 20 + [183.0] * 20 + [268.0] * 20)
    turning = world.turning()
    assert turning.match(world.pairs(25), desc="") == set(world.pairs(25))
    assert len(turning.groups) == 1
    apart = [pair for pair in world.pairs(25) if world.turn[pair.name0] != world.turn[pair.name1]]
    tried = len(world.asked) - len(world.pairs(25))
    assert tried < 1.1 * len(apart) + 2 * PAIRS_AT_ONCE * len(ROTATIONS)
    kept = turning.answers
    assert {task.pair for task in kept} == set(world.pairs(25))
    assert all(found.strength > 0 for found in kept.values())


def test_pairs_of_earlier_rounds_are_matched_again_once_their_rotation_is_known():
    world = World([0.0] * 5 + [90.0] * 5, overlap=lambda a, b: (a, b) != (0, 9))
    turning = world.turning()
    assert turning.match([ImagePair("000", "001"), ImagePair("008", "009")], desc="")
    assert ImagePair("001", "008") in turning.match([ImagePair("001", "008"), ImagePair("000", "009")], desc="")
    assert turning.match([ImagePair("000", "008")], desc="") == {ImagePair("000", "008")}
    assert turning.answers[RotatedPair(ImagePair("000", "009"), 0)].num_rows == 5  # as it is, since nothing helped


def test_of_places_that_have_nothing_to_do_with_each_other_few_pairs_are_tried():
    world = World([0.0] * 60, overlap=lambda a, b: a % 2 == b % 2)
    turning = world.turning()
    found = turning.match(world.pairs(30), desc="")
    assert found == {pair for pair in world.pairs(30) if world.shows(pair)}
    again = len(world.asked) - len(world.pairs(30))
    assert again <= (JUDGED + PAIRS_AT_ONCE) * len(ROTATIONS)
    turning.match([ImagePair("000", "031"), ImagePair("000", "033")], desc="")
    assert len(world.asked) == len(world.pairs(30)) + again + 2


def test_nothing_is_rotated_where_it_may_not():
    world = World([0.0] * 6 + [180.0] * 6)
    turning = world.turning(rotating=False)
    turning.match(world.pairs(11), desc="")
    assert {task.rotation for task in world.asked} == {0}
    assert len(world.asked) == len(world.pairs(11))


@pytest.mark.parametrize("lost", [0, 7, 39])
def test_images_that_cannot_be_read_cost_their_pairs_only(lost):
    world = World([0.0] * 20 + [183.0] * 20)
    whole = world.match

    def match(tasks, *, desc):
        return {t: f for t, f in whole(tasks, desc=desc).items() if f"{lost:03d}" not in (t.pair.name0, t.pair.name1)}

    turning = Turning(world.names, match, lambda a: {t for t, f in a.items() if f.strength > 0.05}, rotating=True)
    readable = {pair for pair in world.pairs(25) if f"{lost:03d}" not in (pair.name0, pair.name1)}
    assert turning.match(world.pairs(25), desc="") == readable
    assert {task.pair for task in turning.answers} == readable


def test_an_image_that_is_gone_on_the_way_ends_nothing():
    world = World([0.0] * 20 + [183.0] * 20)
    whole = world.match

    def match(tasks, *, desc):
        gone = any(task.rotation for task in tasks)
        return {
            t: f for t, f in whole(tasks, desc=desc).items() if not gone or "007" not in (t.pair.name0, t.pair.name1)
        }

    turning = Turning(world.names, match, lambda a: {t for t, f in a.items() if f.strength > 0.05}, rotating=True)
    found = turning.match(world.pairs(25), desc="")
    missing = {pair for pair in world.pairs(25) if pair not in found}
    assert missing
    assert all(pair.name0 == "007" and int(pair.name1) >= 20 for pair in missing)
    assert len(world.asked) == len(set(world.asked))


class Orbit(World):
    """Round an object that is seen from above: neighbours are turned, and round once it adds up to half a turn."""

    def answer(self, task: RotatedPair) -> Found:
        step = int(task.pair.name1) - int(task.pair.name0)
        step = min(step, step - len(self.names), key=abs)
        good = abs(step) <= 2 and task.rotation == 0
        return Found(100, 0.1, 180.0 * step / len(self.names)) if good else Found(5, 0.0)


def test_what_is_foretold_wrongly_round_an_object_is_matched_as_it_is():
    world = Orbit([0.0] * 36)
    turning = world.turning()
    turning.match([ImagePair(world.names[i], world.names[i + 1]) for i in range(35)], desc="")
    closing = [ImagePair("000", "035"), ImagePair("000", "034"), ImagePair("001", "035")]
    assert turning.match(closing, desc="") == set(closing)
    assert RotatedPair(closing[0], 2) in world.asked
    assert all(turning.answers[RotatedPair(pair, 0)].num_rows == 100 for pair in closing)


def test_of_a_small_set_few_pairs_are_turned_in_vain():
    world = Orbit([0.0] * 36)
    turning = world.turning(probing=False)
    every = [ImagePair(a, b) for a, b in combinations(world.names, 2)]
    turning.match(every, desc="")
    assert len(world.asked) - len(every) <= JUDGED + PAIRS_AT_ONCE
    small = Orbit([0.0] * 12)
    every = [ImagePair(a, b) for a, b in combinations(small.names, 2)]
    small.turning(probing=False).match(every, desc="")
    assert len(small.asked) - len(every) <= len(every) // 4


def test_groups_are_left_apart_where_no_pair_is_probed():
    world = World([0.0] * 6 + [180.0] * 6)
    turning = world.turning(probing=False)
    turning.match(world.pairs(11), desc="")
    assert len(world.asked) == len(world.pairs(11))
    assert len(turning.groups) == 2
