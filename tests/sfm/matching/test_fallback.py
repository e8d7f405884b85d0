"""A detector helps where a matcher without one hardly ties an image to others: when, at which pairs, and what stays."""

from __future__ import annotations

import hashlib
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfm.match_graph import Candidates, reason_number
from sfm.matching.fallback import help_loose
from sfm.matching.growth import FEW
from sfm.matching.stage import OneOfSeveral, run, run_several
from sfm.options import MatchingOptions
from sfm.types import CameraPrior, Grid, ImagePair, ImageRecord, MatcherTraits, Matches
from tests.sfm.matching.test_stage import FEATURE_BYTES, Store
from tests.support.pair_scene import HEIGHT, WIDTH, two_views

NUM, LOOSE = 9, 6  # images, and which of them is the first of little to see
CELL = 8.0  # px
CAMERA = CameraPrior("SIMPLE_PINHOLE", np.ones(3), False, "a")


class Features:
    nbytes = FEATURE_BYTES

    def __init__(self, value: int) -> None:
        self.value = value


class ShortSighted:
    """Images below number `loose` match each other; the others nothing."""

    name = "short-sighted"
    rotation_invariant = True
    anchor = 0.5
    traits = MatcherTraits(dense=True)
    batch_size = 4

    def __init__(self, loose: int = LOOSE) -> None:
        self.loose, self.log = loose, []

    @property
    def provenance(self):
        return {"matcher": self.name}

    def grid(self, width, height):
        return Grid(CELL, CELL, round(width / CELL))

    def encode(self, images, masks=None):
        return [Features(int(image[0, 0])) for image in images]

    def match(self, pairs):
        self.log += [(f0.value, f1.value) for f0, f1 in pairs]
        return [self._found(max(f0.value, f1.value) < self.loose) for f0, f1 in pairs]

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


class Detector:
    """Ties any two images; or none, where it is blind."""

    name = "detector"
    rotation_invariant = True
    anchor = 0.5
    traits = MatcherTraits(pixel_sigma=1.0)
    batch_size = 4

    def __init__(self, *, blind: bool = False, stop_after: float = np.inf) -> None:
        self.blind, self.stop_after, self.log = blind, stop_after, []

    @property
    def provenance(self):
        return {"matcher": self.name}

    def grid(self, width, height):
        return None

    def encode(self, images, masks=None):
        return [Features(int(image[0, 0])) for image in images]

    def match(self, pairs):
        if len(self.log) >= self.stop_after:
            raise KeyboardInterrupt
        self.log += [tuple(sorted((f0.value, f1.value))) for f0, f1 in pairs]
        return [two_views(num=5 if self.blind else 200, share_false=0.1)[0] for _ in pairs]


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


def matched(store, folder, matcher, detector):
    options = MatchingOptions()
    return run_several(store, [OneOfSeveral(matcher, options)], folder, fallback=OneOfSeveral(detector, options)).counts


def test_a_detector_ties_images_that_the_matcher_does_not(row):
    folder, store = row
    detector = Detector()
    counts = matched(store, folder, ShortSighted(), detector)
    fits = {each.pair for each in store.tried if each.fits}
    degree = {name: sum(name in (pair.name0, pair.name1) for pair in fits) for name in (f"{i}.png" for i in range(NUM))}
    assert min(degree.values()) >= FEW
    loose = {pair for pair in fits if int(pair.name1[0]) >= LOOSE}
    assert counts["helped"] == len(loose) > 0
    helped, other_key = store.matches[store.beside[0]], store.matches[store.current]
    assert len(store.others) == 1
    assert all(grid is None for grid in store.others[0].grids.values())
    for pair in loose:
        np.testing.assert_array_equal(helped[pair].points0, two_views(num=200, share_false=0.1)[0].points0)
        assert pair not in other_key or other_key[pair].confidence.max() < 0.5  # what the matcher had stays


def test_the_pairs_among_the_partners_of_a_loose_image_are_matched_too(row):
    folder, store = row
    detector = Detector()
    matched(store, folder, ShortSighted(), detector)
    tied = {each.pair for each in store.tried if each.fits}
    helped = set(store.matches[store.beside[0]])
    partners: dict[str, set[str]] = {}
    for pair in (pair for pair in helped & tied if int(pair.name1[0]) >= LOOSE):
        partners.setdefault(pair.name1, set()).add(pair.name0)
    among = {
        ImagePair(a, b) for own in partners.values() for a in own for b in own if a < b and int(b[0]) < LOOSE
    } & tied
    assert among
    assert among <= helped
    assert len(detector.log) == len(set(detector.log)) == len(helped)


def test_what_is_tied_well_is_never_shown_to_the_detector(row):
    folder, store = row
    detector = Detector()
    counts = matched(store, folder, ShortSighted(loose=NUM), detector)  # which ties all of them
    assert (detector.log, store.beside, store.others) == ([], (), ())
    assert "helped" not in counts


def test_where_it_finds_nothing_all_is_as_without_it(row):
    folder, store = row
    without = growing(Store(store.records, ()))
    expected = run(without, ShortSighted(), folder, MatchingOptions()).counts
    detector = Detector(blind=True)
    counts = matched(store, folder, ShortSighted(), detector)
    assert detector.log
    assert (store.beside, store.others, store.tried) == ((), (), without.tried)
    assert counts["pairs"] == expected["pairs"]
    assert counts["matches"] == expected["matches"]


@pytest.mark.parametrize("stop_after", [1, 5])
def test_stopped_and_carried_on_it_ends_the_same(row, stop_after):
    folder, store = row
    whole = growing(Store(store.records, ()))
    matched(whole, folder, ShortSighted(), Detector())
    with pytest.raises(KeyboardInterrupt):
        matched(store, folder, ShortSighted(), Detector(stop_after=stop_after))
    for _ in range(2):  # the second time nothing is left to do
        matcher, detector = ShortSighted(), Detector()
        matched(store, folder, matcher, detector)
        assert store.tried == whole.tried
        assert set(store.matches[store.beside[0]]) == set(whole.matches[whole.beside[0]])
    assert (matcher.log, detector.log) == ([], [])


def test_nothing_to_help_is_no_work():
    class Nothing:
        def next(self, ties):
            return []

    class Unasked:
        def match(self, tasks, *, desc):
            assert not tasks
            return {}

    assert help_loose(Unasked(), {}, [], Nothing()) == ({}, frozenset(), [])
