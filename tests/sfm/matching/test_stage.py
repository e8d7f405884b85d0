from __future__ import annotations

import hashlib
import weakref
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfm.errors import SfMError
from sfm.match_graph import TriedPair
from sfm.matching.feature_cache import count_encodings, order_pairs
from sfm.matching.pair_matching import matcher_key
from sfm.matching.rotations import GLANCE_PX
from sfm.matching.stage import OneOfSeveral, fits_one_place, run, run_several
from sfm.options import MatchingOptions
from sfm.pairs.candidates import by_likeness
from sfm.types import CameraPrior, Grid, ImagePair, ImageRecord, MatcherTraits, Matches
from tests.support.pair_scene import two_views

FEATURE_BYTES = 1_000_000


class FakeFeatures:
    nbytes = FEATURE_BYTES

    def __init__(self, value: int) -> None:
        self.value = value


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


class FakeMatcher:
    """One match a pair, which tells the two images' grey values; keeps count of what it was asked."""

    name = "fake"
    rotation_invariant = True
    anchor = 0.5
    traits = MatcherTraits(dense=True)

    def __init__(self, batch_size: int = 1, limit: int | None = None) -> None:
        self.batch_size = batch_size
        self.limit = limit
        self.encoded: list[int] = []
        self.batches: list[int] = []

    @property
    def provenance(self):
        return {"matcher": "fake"}

    def grid(self, width, height):
        return Grid(8.0, 8.0, width // 8)

    def encode(self, images, masks=None):
        self.encoded += [int(image[0, 0]) for image in images]
        return [FakeFeatures(int(image[0, 0])) for image in images]

    def match(self, pairs):
        if self.limit is not None and len(pairs) > self.limit:
            raise OutOfMemoryError("CUDA out of memory")
        self.batches.append(len(pairs))
        return [
            Matches([[f0.value, 0.0]], [[f1.value, 0.0]], [0.5], [f0.value], [f1.value])  # type: ignore[list-item]
            for f0, f1 in pairs
        ]


class Store:
    """The feature database's part that matching uses, in memory."""

    def __init__(self, records, pairs) -> None:
        self.records, self.pairs = tuple(records), tuple(pairs)
        self.candidates = None
        self.tried: tuple[TriedPair, ...] = ()
        self.matches: dict[str, dict[ImagePair, Matches]] = {}
        self.current = ""
        self.grids = {}
        self.writes: list[int] = []

    def read_images(self):
        return self.records

    def read_pairs(self):
        return self.pairs

    def read_candidates(self):
        return self.candidates

    def write_tried(self, tried):
        self.tried = tuple(tried)

    def write_grids(self, grids, *, traits=None, others=()):
        self.grids, self.traits, self.others = dict(grids), traits, tuple(others)

    def use_matcher(self, key, *others):
        self.beside = others
        if key in self.matches:
            self.current = key

    def matched_pairs(self, key):
        return frozenset(self.matches.get(key, {}))

    def read_matches(self, pair, *, matcher_key=None):
        return self.matches[self.current if matcher_key is None else matcher_key][pair]

    def write_matches(self, batch, *, matcher_key):
        self.matches.setdefault(matcher_key, {}).update(batch)
        self.current = matcher_key
        self.writes.append(len(batch))


def name_of(i: int) -> str:
    return f"{i:03d}.png"


@pytest.fixture
def images(tmp_path: Path):
    """images(N): folder of N tiny images, image i of grey value i, and a store of all their pairs."""

    def make(num: int) -> tuple[Path, Store]:
        for i in range(num):
            Image.fromarray(np.full((32, 40), i, np.uint8)).save(tmp_path / name_of(i))
        camera = CameraPrior("SIMPLE_PINHOLE", np.ones(3), False, "a")
        records = [ImageRecord(name_of(i), 40, 32, camera, digest_of(tmp_path / name_of(i))) for i in range(num)]
        return tmp_path, Store(records, exhaustive(num))

    return make


def digest_of(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def exhaustive(num: int) -> list[ImagePair]:
    return [ImagePair(name_of(a), name_of(b)) for a, b in combinations(range(num), 2)]


def test_matches_belong_to_their_pairs(images):
    folder, store = images(9)
    matcher = FakeMatcher(batch_size=4)
    summary = run(store, matcher, folder, MatchingOptions())
    found = store.matches[matcher_key(matcher.provenance)]
    assert {(int(m.points0[0, 0]), int(m.points1[0, 0])) for m in found.values()} == set(combinations(range(9), 2))
    for pair, matches in found.items():
        assert (name_of(matches.cells0[0]), name_of(matches.cells1[0])) == (pair.name0, pair.name1)
    assert summary.counts == {"pairs": 36, "matches": 36, "encoded": 9, "reused": 0}
    assert sorted(matcher.encoded) == list(range(9))
    assert max(matcher.batches) == 4
    assert store.grids[name_of(0)] == Grid(8.0, 8.0, 5)


@pytest.mark.parametrize("batch", [1, 3])
def test_small_memory_costs_encodings_not_pairs(images, batch):
    folder, store = images(20)
    matcher = FakeMatcher()
    budget = 6 * FEATURE_BYTES / 1e9
    summary = run(store, matcher, folder, MatchingOptions(memory=budget, batch=batch))
    assert summary.counts["matches"] == 190
    expected = count_encodings(order_pairs(exhaustive(20), 6), 6)
    assert 20 < summary.counts["encoded"] == len(matcher.encoded) <= expected + 20
    with_less_than_a_pair = run(Store(store.records, store.pairs), matcher, folder, MatchingOptions(memory=1e-9))
    assert with_less_than_a_pair.counts["matches"] == 190


@pytest.mark.parametrize("num_held", [5, 16])
def test_features_and_batches_stay_within_the_memory(images, num_held):
    """As many features are alive at once as fit, however many images there are and however large the batch."""
    alive: weakref.WeakSet[FakeFeatures] = weakref.WeakSet()
    most = []

    class Counting(FakeMatcher):
        def encode(self, images, masks=None):
            made = super().encode(images, masks)
            alive.update(made)
            most.append(len(alive))
            return made

    for num in (20, 40):
        folder, store = images(num)
        matcher = Counting(batch_size=64)
        summary = run(store, matcher, folder, MatchingOptions(memory=num_held * FEATURE_BYTES / 1e9))
        assert summary.counts["matches"] == num * (num - 1) // 2
        assert max(matcher.batches) == num_held // 2
        assert num_held - 2 <= max(most) <= num_held


def test_resumes_where_it_stopped(images):
    folder, store = images(8)

    class Stopping(FakeMatcher):
        def match(self, pairs):
            if len(self.batches) == 10:
                raise KeyboardInterrupt
            return super().match(pairs)

    with pytest.raises(KeyboardInterrupt):
        run(store, Stopping(), folder, MatchingOptions())
    assert store.writes == [10]
    second = FakeMatcher()
    summary = run(store, second, folder, MatchingOptions())
    assert summary.counts == {"pairs": 28, "matches": 28, "encoded": len(second.encoded), "reused": 10}
    assert sum(second.batches) == 18
    third = FakeMatcher()
    assert run(store, third, folder, MatchingOptions()).counts["reused"] == 28
    assert third.encoded == []


def test_another_matcher_shares_nothing(images):
    folder, store = images(3)
    run(store, FakeMatcher(), folder, MatchingOptions())

    class Other(FakeMatcher):
        provenance = {"matcher": "fake", "threshold": "0.3"}  # noqa: RUF012

    assert run(store, Other(), folder, MatchingOptions()).counts["reused"] == 0
    assert matcher_key({"a": "1", "b": "2"}) == matcher_key({"b": "2", "a": "1"}) != matcher_key({"a": "1"})


def test_unreadable_image_costs_its_pairs_only(images):
    folder, store = images(6)
    (folder / name_of(0)).write_bytes(b"not an image")
    (folder / name_of(4)).unlink()
    summary = run(store, FakeMatcher(batch_size=3), folder, MatchingOptions())
    assert summary.counts["matches"] == 6  # of images 1, 2, 3, 5
    assert sorted(name for name, _ in summary.skipped) == [name_of(0), name_of(4)]
    assert all("5 pairs skipped" in reason for _, reason in summary.skipped)
    tried = [each.pair for each in store.tried]
    assert len(tried) == 6
    assert not {name_of(0), name_of(4)} & {name for pair in tried for name in (pair.name0, pair.name1)}
    assert len(store.pairs) == 15  # the next run tries all of them
    for i in range(6):
        (folder / name_of(i)).unlink(missing_ok=True)
    assert len(run(Store(store.records, exhaustive(6)), FakeMatcher(), folder, MatchingOptions()).skipped) == 6


def test_out_of_memory_halves_the_batch(images, caplog):
    folder, store = images(8)
    matcher = FakeMatcher(batch_size=8, limit=3)
    assert run(store, matcher, folder, MatchingOptions()).counts["matches"] == 28
    assert max(matcher.batches) == 2
    assert "from here on 4 pair(s)" in caplog.text
    assert "from here on 2 pair(s)" in caplog.text


def test_out_of_memory_on_one_pair_says_what_to_do(images):
    folder, store = images(3)
    with pytest.raises(SfMError, match="lower --resize"):
        run(store, FakeMatcher(batch_size=2, limit=0), folder, MatchingOptions())


def test_other_errors_are_not_swallowed(images):
    folder, store = images(3)

    class Broken(FakeMatcher):
        def match(self, pairs):
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run(store, Broken(), folder, MatchingOptions())


def test_matches_are_written_as_they_come(images):
    folder, store = images(40)  # 780 pairs
    run(store, FakeMatcher(), folder, MatchingOptions())
    assert store.writes == [200, 200, 200, 180]


def test_masks_reach_the_matcher(images, tmp_path_factory):
    folder, store = images(2)
    masks = tmp_path_factory.mktemp("masks")
    black = np.full((32, 40), 255, np.uint8)
    black[:, :20] = 0
    Image.fromarray(black).save(masks / f"{name_of(1)}.png")
    masked = replace(store.records[1], digest=digest_of(folder / name_of(1), masks / f"{name_of(1)}.png"))
    store.records = (store.records[0], masked)
    seen = []

    class Masked(FakeMatcher):
        def encode(self, images, masks=None):
            seen.extend(masks)
            return super().encode(images)

    run(store, Masked(), folder, MatchingOptions(), masks=masks)
    assert seen[0] is None
    assert seen[1].tolist() == (black > 0).tolist()


class CornerFeatures:
    nbytes = FEATURE_BYTES

    def __init__(self, image) -> None:
        corners = (
            image[0, 0],
            image[-1, 0],
            image[-1, -1],
            image[0, -1],
        )  # of a bright upper left corner, rotated by ...
        self.rotation = int(np.argmax(corners))
        self.value = int(max(corners))


class UprightMatcher(FakeMatcher):
    """Sees an image's turn by its bright corner; only images of one turn match, in every cell."""

    name = "upright"
    rotation_invariant = False

    def __init__(self) -> None:
        super().__init__(batch_size=4)
        self.stop_after = float("inf")

    def encode(self, images, masks=None):
        self.encoded += [int(image.max()) for image in images]
        return [CornerFeatures(image) for image in images]

    def match(self, pairs):
        if sum(self.batches) >= self.stop_after:
            raise KeyboardInterrupt
        self.batches.append(len(pairs))
        return [self.of_rotation(f0.rotation == f1.rotation) for f0, f1 in pairs]

    @staticmethod
    def of_rotation(good):
        cells = np.arange(20 if good else 1)
        points = np.stack([cells % 5, cells // 5], axis=1) * 8.0 + 4
        return Matches(points, points, np.full(len(cells), 0.9 if good else 0.2), cells, cells)


@pytest.fixture
def rotated_images(images):
    """rotated_images(turns): images with a bright corner that were taken with the camera rotated."""

    def make(turns):
        folder, store = images(len(turns))
        for i, rotation in enumerate(turns):
            image = np.zeros((32, 40), np.uint8)
            image[0, 0] = 100 + i
            Image.fromarray(np.rot90(image, rotation)).save(folder / name_of(i))
        store.records = tuple(
            replace(r, width=w, height=h, digest=digest_of(folder / r.name))
            for r, (w, h) in zip(store.records, _sizes(turns), strict=True)
        )
        return folder, store

    return make


def _sizes(turns):
    return [(32, 40) if rotation % 2 else (40, 32) for rotation in turns]


def test_images_that_match_as_they_are_cost_nothing_extra(rotated_images):
    folder, store = rotated_images([0] * 6)
    matcher = UprightMatcher()
    summary = run(store, matcher, folder, MatchingOptions())
    assert sum(matcher.batches) == 15
    assert len(matcher.encoded) == 6
    assert "turned" not in summary.counts
    assert len(store.matches) == 1


@pytest.mark.parametrize("rotation", [1, 2, 3])
def test_rotated_images_are_matched_rotated(rotated_images, rotation):
    folder, store = rotated_images([0, 0, 0, rotation, rotation])
    summary = run(store, UprightMatcher(), folder, MatchingOptions())
    assert summary.counts["turned"] == 6
    assert summary.counts["matches"] == 10 * 20
    first, rotated = (
        store.read_matches(ImagePair(name_of(0), name_of(1))),
        store.read_matches(ImagePair(name_of(0), name_of(3))),
    )
    np.testing.assert_array_equal(first.points1, rotated.points0)
    # The cell in the bright corner of image 0 is the one in the bright corner of image 3:
    columns, rows = (4, 5) if rotation % 2 else (5, 4)
    corner = {1: (rows - 1) * columns, 2: rows * columns - 1, 3: columns - 1}[rotation]
    assert rotated.cells1[0] == corner
    np.testing.assert_array_equal(rotated.points1[0], (corner % columns * 8 + 4, corner // columns * 8 + 4))
    off = run(store, UprightMatcher(), folder, MatchingOptions(turns="off"))
    assert off.counts["matches"] == 4 * 20 + 6
    assert "turned" not in off.counts


@pytest.mark.parametrize("stop_after", [3, 10, 14, 20, 30, 36])
def test_a_stopped_search_for_turns_ends_as_one_that_was_not(rotated_images, stop_after):
    folder, store = rotated_images([0, 2, 0, 2, 0, 2])
    expected = Store(store.records, store.pairs)
    whole = UprightMatcher()
    counts = run(expected, whole, folder, MatchingOptions()).counts
    stopping, second = UprightMatcher(), UprightMatcher()
    stopping.stop_after = stop_after
    if stop_after < sum(whole.batches):
        with pytest.raises(KeyboardInterrupt):
            run(store, stopping, folder, MatchingOptions())
    again = run(store, second, folder, MatchingOptions()).counts
    assert sum(stopping.batches) + sum(second.batches) == sum(whole.batches)  # nothing twice
    assert {**again, "encoded": 0, "reused": 0} == {**counts, "encoded": 0, "reused": 0}
    assert again["turned"] == 9
    for pair in store.pairs:
        np.testing.assert_array_equal(store.read_matches(pair).points1, expected.read_matches(pair).points1)


class ResizableMatcher(UprightMatcher):
    """One that can be had for small images too."""

    def __init__(self) -> None:
        super().__init__()
        self.small = SmallMatcher()
        self.sizes = []

    size = 640

    def at_size(self, longer_side):
        self.sizes.append(longer_side)
        return self.small


class SmallMatcher(UprightMatcher):
    @property
    def provenance(self):
        return {"matcher": "fake", "resize": "small"}


class BlindMatcher(SmallMatcher):
    def match(self, pairs):
        self.batches.append(len(pairs))
        return [self.of_rotation(False) for _ in pairs]


def test_what_small_images_do_not_show_is_found_at_full_size(rotated_images):
    folder, store = rotated_images([0, 0, 0, 2, 2])
    matcher = ResizableMatcher()
    matcher.small = BlindMatcher()
    counts = run(store, matcher, folder, MatchingOptions()).counts
    assert sum(matcher.small.batches) == 6 * 3
    assert 10 + 6 <= sum(matcher.batches) <= 10 + 6 * 3
    assert (counts["turned"], counts["matches"]) == (6, 10 * 20)
    again = ResizableMatcher()
    again.small = BlindMatcher()
    assert run(store, again, folder, MatchingOptions()).counts["turned"] == 6
    assert (again.batches, again.small.batches) == ([], [])


def test_rotations_are_told_at_small_images(rotated_images):
    folder, store = rotated_images([0, 0, 0, 2, 2])
    matcher = ResizableMatcher()
    counts = run(store, matcher, folder, MatchingOptions()).counts
    assert matcher.sizes == [GLANCE_PX]
    assert sum(matcher.small.batches) == 6 * 3  # the pairs between the two groups, each with three rotations
    assert sum(matcher.batches) == 10 + 6  # at full size all as they are, and those between the groups rotated by 180
    assert (counts["turned"], counts["matches"]) == (6, 10 * 20)
    again = ResizableMatcher()
    assert run(store, again, folder, MatchingOptions()).counts["turned"] == 6
    assert again.batches == again.small.batches == []


def test_rotated_matches_half_replaced(rotated_images):
    """Stopped while rotated matches take the place of upright ones, and run again when all is done."""
    folder, store = rotated_images([0, 2, 0, 2, 0, 2])
    run(store, UprightMatcher(), folder, MatchingOptions())
    main = store.matches[store.current]
    upright = UprightMatcher.of_rotation(False)
    for pair in exhaustive(6)[:3]:
        if main[pair].cells1[0] != 0:
            main[pair] = upright
    writes = len(store.writes)
    again = UprightMatcher()
    counts = run(store, again, folder, MatchingOptions()).counts
    assert (counts["turned"], counts["matches"], again.batches) == (9, 300, [])
    assert len(store.writes) == writes + 1
    run(store, again, folder, MatchingOptions())
    assert (len(store.writes), again.encoded) == (writes + 1, [])


def test_images_are_not_rotated_for_a_matcher_without_a_grid(images):
    class Detector(FakeMatcher):
        rotation_invariant = False

        def grid(self, width, height):
            return None

    folder, store = images(3)
    matcher = Detector()
    summary = run(store, matcher, folder, MatchingOptions())
    assert summary.counts == {"pairs": 3, "matches": 3, "encoded": 3, "reused": 0}
    assert store.grids == dict.fromkeys(name_of(i) for i in range(3))


class NearMatcher(FakeMatcher):
    """Images up to `reach` apart by number show one place."""

    def __init__(self, reach: int = 6, stop_after: int | None = None) -> None:
        super().__init__(batch_size=7)
        self.reach, self.stop_after = reach, stop_after

    def match(self, pairs):
        if self.stop_after is not None and sum(self.batches) >= self.stop_after:
            raise KeyboardInterrupt
        found = super().match(pairs)
        return [m if abs(int(m.points0[0, 0]) - int(m.points1[0, 0])) <= self.reach else Matches.empty() for m in found]


def growing(store: Store, num: int) -> Store:
    place = np.arange(num)
    first, store.candidates = by_likeness(np.exp(-np.abs(place[:, None] - place) / 9).astype(np.float32), 10)
    store.pairs = tuple(ImagePair(name_of(i), name_of(j)) for i, j in first)
    return store


def test_pairs_grow_by_what_was_matched(images):
    folder, store = images(60)
    growing(store, 60)
    matcher = NearMatcher()
    summary = run(store, matcher, folder, MatchingOptions())
    assert {each.pair for each in store.tried} == set(store.matches[matcher_key(matcher.provenance)])
    assert {each.pair for each in store.tried if each.round == 1} == set(store.pairs)
    later = [each for each in store.tried if each.round > 1]
    assert len(later) > 60
    assert np.mean([each.fits for each in later]) > 0.6  # of all candidates a third
    for each in store.tried:
        assert each.fits == (int(each.pair.name1[:3]) - int(each.pair.name0[:3]) <= 6)
    assert summary.counts["pairs"] == len(store.tried) <= 60 * 5 + 60 * 8
    assert summary.counts["rounds"] == max(each.round for each in store.tried)
    assert summary.counts["round_1"] == len(store.pairs)
    assert summary.counts["round_2_fit"] == sum(bool(each.fits) for each in store.tried if each.round == 2)


@pytest.mark.parametrize("stop_after", [20, 170, 230, 290])
def test_growth_that_was_stopped_comes_to_the_same_pairs(images, stop_after):
    folder, store = images(60)
    growing(store, 60)
    run(store, NearMatcher(), folder, MatchingOptions())
    again = growing(Store(store.records, ()), 60)
    with pytest.raises(KeyboardInterrupt):
        run(again, NearMatcher(stop_after=stop_after), folder, MatchingOptions())
    assert 0 < len(again.matches[matcher_key(NearMatcher().provenance)]) < len(store.tried)
    summary = run(again, NearMatcher(), folder, MatchingOptions())
    assert again.tried == store.tried
    assert summary.counts["reused"] > 0


def test_growth_goes_on_without_images_that_cannot_be_read(images):
    folder, store = images(60)
    growing(store, 60)
    (folder / name_of(30)).write_bytes(b"not an image")
    summary = run(store, NearMatcher(), folder, MatchingOptions())
    assert [name for name, _ in summary.skipped] == [name_of(30)]
    assert not any(name_of(30) in (each.pair.name0, each.pair.name1) for each in store.tried)
    assert len(store.tried) > len(store.pairs)


def test_one_place_is_told_from_two_with_and_without_grids():
    pair, grid = ImagePair("a", "b"), Grid(8.0, 8.0, 80)
    for grids, traits in (
        ({"a": grid, "b": grid}, MatcherTraits(dense=True)),
        ({"a": None, "b": None}, MatcherTraits()),  # a detector's matches are not asked how many cells they fill
    ):
        assert fits_one_place(pair, two_views(share_false=0.5)[0], grids=grids, traits=traits)
        assert not fits_one_place(pair, two_views(share_false=1.0)[0], grids=grids, traits=traits)
        assert not fits_one_place(pair, Matches.empty(), grids=grids, traits=traits)


class SecondMatcher(FakeMatcher):
    """A detector that is slower to find anything: matches are at (0, 0) and of keypoint 7."""

    name = "second"
    traits = MatcherTraits(pixel_sigma=0.5)

    @property
    def provenance(self):
        return {**super().provenance, "matcher": "second"}

    def grid(self, width, height):
        return None

    def match(self, pairs):
        self.batches.append(len(pairs))
        return [Matches([[1.0, 1.0]], [[2.0, 2.0]], [0.5], [7], [7]) for _ in pairs]  # type: ignore[list-item]


def several(*matchers, options=None):
    return [OneOfSeveral(matcher, options or MatchingOptions()) for matcher in matchers]


def test_others_match_the_same_pairs_under_keys_of_their_own(images):
    folder, store = images(5)
    first, second = FakeMatcher(), SecondMatcher()
    summary = run_several(store, several(first, second), folder)
    keys = [matcher_key(first.provenance), matcher_key(second.provenance)]
    assert store.current == keys[0]
    assert store.beside == (keys[1],)
    assert store.matches[keys[0]].keys() == store.matches[keys[1]].keys() == set(exhaustive(5))
    assert summary.counts == {"pairs": 10, "matches": 20, "encoded": 10, "reused": 0}
    assert [finder.traits for finder in store.others] == [second.traits]
    assert store.others[0].grids == dict.fromkeys(map(name_of, range(5)))
    alone = Store(store.records, store.pairs)
    run(alone, FakeMatcher(), folder, MatchingOptions())
    assert {p: m.points0.tolist() for p, m in alone.matches[keys[0]].items()} == {
        p: m.points0.tolist() for p, m in store.matches[keys[0]].items()
    }


def test_a_matcher_that_is_added_leaves_what_the_first_one_did(images):
    folder, store = images(5)
    run(store, FakeMatcher(), folder, MatchingOptions())
    first, second = FakeMatcher(), SecondMatcher()
    summary = run_several(store, several(first, second), folder)
    assert first.encoded == []
    assert sorted(second.encoded) == list(range(5))
    assert summary.counts["reused"] == 10
    again = SecondMatcher()
    run_several(store, several(FakeMatcher(), again), folder)
    assert again.encoded == []
    run(store, FakeMatcher(), folder, MatchingOptions())
    assert (store.beside, store.others) == ((), ())  # and is taken away again


def test_the_first_matcher_decides_how_the_graph_of_pairs_grows(images):
    folder, store = images(6)
    store.pairs = tuple(exhaustive(6)[:3])
    second = SecondMatcher()
    summary = run_several(store, several(FakeMatcher(), second), folder)
    tried = {each.pair for each in store.tried}
    assert store.matches[matcher_key(second.provenance)].keys() == tried == set(exhaustive(6)[:3])
    assert summary.counts["pairs"] == 3


def test_an_image_that_cannot_be_read_is_named_once(images):
    folder, store = images(4)
    (folder / name_of(2)).write_bytes(b"damaged")
    summary = run_several(store, several(FakeMatcher(), SecondMatcher()), folder)
    assert [name for name, _ in summary.skipped] == [name_of(2)]
    assert len(store.tried) == 3
