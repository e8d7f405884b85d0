"""A closer look at images that show one place with few others: when, and that it ends the same after a stop."""

from __future__ import annotations

import hashlib
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sfm.match_graph import Candidates, reason_number
from sfm.matching.closer_look import TRIES, Coarsening, LooseImages, closer_matcher, large_ones
from sfm.matching.growth import FEW, JUDGED
from sfm.matching.stage import run
from sfm.options import MatchingOptions
from sfm.types import CameraPrior, Grid, ImagePair, ImageRecord, MatcherTraits, Matches
from tests.sfm.matching.test_stage import FEATURE_BYTES, Store
from tests.support.pair_scene import HEIGHT, WIDTH, two_views

NUM, LOOSE = 9, 6  # images, and which of them is the first of little to see
BASE = 256  # px, the longer side that the matcher sees
CAMERA = CameraPrior("SIMPLE_PINHOLE", np.ones(3), False, "a")


class Features:
    nbytes = FEATURE_BYTES

    def __init__(self, value: int) -> None:
        self.value = value


class FarSighted:
    """Images below number LOOSE match each other at any size; the others when they are seen larger."""

    name = "far-sighted"
    rotation_invariant = True
    anchor = 0.5
    traits = MatcherTraits(dense=True)
    batch_size = 4

    def __init__(self, size: int = BASE, log: list[tuple[int, int]] | None = None, stop_after: float = np.inf) -> None:
        self.size, self.log, self.stop_after = size, [] if log is None else log, stop_after

    @property
    def provenance(self):
        return {"matcher": self.name, "resize": str(self.size)}

    def at_size(self, longer_side):
        return FarSighted(longer_side, self.log, self.stop_after)

    def grid(self, width, height):
        side = 8.0 * max(width, height) / self.size
        return Grid(side, side, round(width / side))

    def encode(self, images, masks=None):
        return [Features(int(image[0, 0])) for image in images]

    def match(self, pairs):
        if len(self.log) >= self.stop_after:
            raise KeyboardInterrupt
        self.log += [(self.size, f0.value) for f0, _ in pairs]
        return [self._found(max(f0.value, f1.value) < LOOSE or self.size > BASE) for f0, f1 in pairs]

    def _found(self, good):
        found = two_views(num=1500, share_false=0.1 if good else 0.99)[0]
        grid = self.grid(WIDTH, HEIGHT)
        inside = ((found.points1 >= 0) & (found.points1 < (WIDTH, HEIGHT))).all(axis=1)
        inside &= ((found.points0 >= 0) & (found.points0 < (WIDTH, HEIGHT))).all(axis=1)
        points0, points1 = found.points0[inside], found.points1[inside]
        confidence = found.confidence[inside] * (1.0 if good else 0.4)
        return Matches(points0, points1, confidence, cells_of(points0, grid), cells_of(points1, grid))


def cells_of(points, grid):
    column, row = (points // (grid.cell_width, grid.cell_height)).astype(np.int64).T
    return row * grid.columns + column


@pytest.fixture
def row(tmp_path: Path) -> tuple[Path, Store]:
    """Images of which each is of its number as a grey value, and candidates up to three apart."""
    names, records = [f"{i}.png" for i in range(NUM)], []
    for i, name in enumerate(names):
        Image.fromarray(np.full((HEIGHT, WIDTH), i, np.uint8)).save(tmp_path / name)
        digest = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        records.append(ImageRecord(name, WIDTH, HEIGHT, CAMERA, digest))
    store = Store(records, ())
    return tmp_path, growing(store)


def growing(store: Store) -> Store:
    rows = np.array([(i, j) for i, j in combinations(range(NUM), 2) if j - i <= 3])
    likeness = (1.0 / (rows[:, 1] - rows[:, 0])).astype(np.float32)
    store.candidates = Candidates(rows, likeness, np.full(len(rows), reason_number("alike")), budget=120)
    store.pairs = tuple(ImagePair(f"{i}.png", f"{i + 1}.png") for i in range(NUM - 1))
    return store


def test_images_that_are_tied_to_few_others_are_looked_at_closer(row):
    folder, store = row
    matcher = FarSighted()
    counts = run(store, matcher, folder, MatchingOptions()).counts
    larger = [size for size, _ in matcher.log if size > BASE]
    assert set(larger) == {2 * BASE}
    fits = {each.pair for each in store.tried if each.fits}
    degree = {name: sum(name in (pair.name0, pair.name1) for pair in fits) for name in (f"{i}.png" for i in range(NUM))}
    assert min(degree.values()) >= FEW
    seen_larger = [pair for pair in fits if int(pair.name1[0]) >= LOOSE]
    assert counts["closer"] == len(seen_larger) <= len(larger) < 15
    grid = FarSighted().grid(WIDTH, HEIGHT)
    for pair in fits:
        found = store.read_matches(pair)
        np.testing.assert_array_equal(found.cells0, cells_of(found.points0, grid))
        np.testing.assert_array_equal(found.cells1, cells_of(found.points1, grid))
        assert len(found) > 1000


@pytest.mark.parametrize("stop_after", [4, 10, 20, 25])
def test_stopped_and_carried_on_it_ends_the_same(row, stop_after):
    folder, store = row
    whole = growing(Store(store.records, ()))
    matcher = FarSighted()
    expected = run(whole, matcher, folder, MatchingOptions()).counts
    assert len(matcher.log) > stop_after
    with pytest.raises(KeyboardInterrupt):
        run(store, FarSighted(stop_after=stop_after), folder, MatchingOptions())
    for _ in range(2):  # the second time nothing is left to do
        matcher = FarSighted()
        counts = run(store, matcher, folder, MatchingOptions()).counts
        assert {key: counts[key] for key in ("pairs", "closer", "rounds")} == {
            key: expected[key] for key in ("pairs", "closer", "rounds")
        }
        assert store.tried == whole.tried
    assert matcher.log == []
    for pair in (each.pair for each in store.tried):
        np.testing.assert_array_equal(store.read_matches(pair).points1, whole.read_matches(pair).points1)
        np.testing.assert_array_equal(store.read_matches(pair).cells1, whole.read_matches(pair).cells1)


def table(pairs: list[tuple[int, int, float, str]]) -> Candidates:
    rows, likeness, reason = zip(*((p[:2], p[2], reason_number(p[3])) for p in sorted(pairs)), strict=True)
    return Candidates(np.array(rows), np.array(likeness, np.float32), np.array(reason), 1000)


def test_near_ones_come_first_and_an_image_is_tried_a_bounded_number_of_times():
    names = [f"{i:02}" for i in range(20)]
    candidates = table([(0, i, 0.9 - 0.01 * i, "near" if i in (7, 9) else "alike") for i in range(1, 20)])
    loose = LooseImages(names, candidates, {*names})
    ties = frozenset(ImagePair(a, b) for a, b in combinations(names[1:], 2))
    rounds = []
    while pairs := loose.next(ties):
        rounds.append([int(pair.name1) for pair in pairs])
    assert rounds == [[7, 9], [1, 2], [3, 4], [5, 6]]
    assert sum(map(len, rounds)) == TRIES[1]


def test_what_is_not_larger_than_it_was_seen_or_has_enough_ties_is_left():
    names = [f"{i:02}" for i in range(6)]
    candidates = table([(i, j, 0.5, "alike") for i, j in combinations(range(6), 2)])
    every = frozenset(ImagePair(a, b) for a, b in combinations(names, 2))
    assert LooseImages(names, candidates, {*names}).next(every) == []
    assert LooseImages(names, candidates, {names[0]}).next(frozenset()) == []
    assert all(
        names[5] not in (p.name0, p.name1) for p in LooseImages(names, candidates, {*names[:5]}).next(frozenset())
    )


def test_it_is_given_up_where_hardly_anything_is_found():
    names = [f"{i:03}" for i in range(400)]
    candidates = table([(i, j, 0.5, "alike") for i in range(400) for j in range(i + 1, min(i + 9, 400))])
    loose, asked = LooseImages(names, candidates, {*names}), 0
    while pairs := loose.next(frozenset()):
        asked += len(pairs)
    assert asked == JUDGED


def record(name: str, width: int, height: int) -> ImageRecord:
    return ImageRecord(name, width, height, CAMERA, "")


def size_of(matcher: Any) -> int:
    return int(matcher.size)


def test_only_images_larger_than_the_matcher_sees_them_have_more_to_show():
    small = {name: record(name, 300, 200) for name in "ab"}
    assert closer_matcher(FarSighted(), small) is None
    assert closer_matcher(FarSighted(0), small) is None
    one_large = small | {"c": record("c", 2000, 1000)}
    assert closer_matcher(FarSighted(), one_large) is None  # a pair takes two
    pair_of_400 = small | {name: record(name, 400, 300) for name in "cd"}
    assert size_of(closer_matcher(FarSighted(), pair_of_400)) == 400
    larger = one_large | {"d": record("d", 400, 300), "e": record("e", 3000, 2000)}
    assert size_of(closer_matcher(FarSighted(), larger)) == 2 * BASE
    assert large_ones(larger, BASE) == {"c", "d", "e"}


@pytest.mark.parametrize(
    ("width", "height", "size", "larger"), [(1280, 960, 640, 1280), (1001, 747, 320, 640), (500, 771, 256, 500)]
)
def test_a_cell_becomes_the_one_that_its_centre_is_in(width, height, size, larger):
    fine, grid = (FarSighted(longer).grid(width, height) for longer in (larger, size))
    rng = np.random.default_rng(0)
    points = rng.uniform(0, (fine.columns * fine.cell_width, fine.num_rows(height) * fine.cell_height), (500, 2))
    cells = cells_of(points, fine)
    matches = Matches(points, points, np.ones(500), cells, cells[::-1])
    records = {name: record(name, width, height) for name in "ab"}
    own_grid = Coarsening(dict.fromkeys("ab", fine), dict.fromkeys("ab", grid), records)
    found = own_grid(ImagePair("a", "b"), matches)
    centres = np.stack(
        [(cells % fine.columns + 0.5) * fine.cell_width, (cells // fine.columns + 0.5) * fine.cell_height], 1
    )
    limits = (grid.columns * grid.cell_width - 1e-3, grid.num_rows(height) * grid.cell_height - 1e-3)
    expected = cells_of(np.minimum(centres, limits), grid)
    np.testing.assert_array_equal(found.cells0, expected)
    np.testing.assert_array_equal(found.cells1, expected[::-1])
    np.testing.assert_array_equal(found.points0, matches.points0)
    assert found.cells0.max() < grid.columns * grid.num_rows(height)


def test_it_is_the_same_where_all_pairs_were_matched(row):
    folder, store = row
    store.candidates = None
    store.pairs = tuple(ImagePair(f"{i}.png", f"{j}.png") for i, j in combinations(range(NUM), 2))
    matcher = FarSighted()
    counts = run(store, matcher, folder, MatchingOptions()).counts
    larger = [size for size, _ in matcher.log if size > BASE]
    assert counts["closer"] == len(larger) == len(store.pairs) // 2 // 8  # two of 36 pairs: it stays cheap
    assert all(each.fits is None for each in store.tried)
    again = FarSighted()
    assert run(store, again, folder, MatchingOptions()).counts["closer"] == counts["closer"]
    assert again.log == []
