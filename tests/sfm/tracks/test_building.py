"""tracks: the vectorised merging against one-by-one Kruskal, consistent positions, exact small cases."""

import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfm.finders import MOST
from sfm.options import TrackOptions
from sfm.tracks import building as T
from sfm.tracks.links import cell_keys, finder_of
from sfm.tracks.thinning import Room, verified_rows
from sfm.types import Grid, ImagePair, Matches, TwoViewGeometry

GRID = Grid(8.0, 8.0, 80)  # 640 px wide
GRIDS = dict.fromkeys("abcdef", GRID)


def centre(cell):
    cell = np.asarray(cell)
    return np.stack([(cell % 80 + 0.5) * 8, (cell // 80 + 0.5) * 8], -1).astype(float)


def cell_of(xy):
    return (np.floor(xy[:, 1] / 8) * 80 + np.floor(xy[:, 0] / 8)).astype(np.int64)


def rows(name0, name1, p0, p1, confidence=None, cells=None):
    """All rows verified."""
    p0, p1 = np.atleast_2d(p0), np.atleast_2d(p1)
    confidence = np.full(len(p0), 0.5) if confidence is None else np.asarray(confidence)
    c0, c1 = (cell_of(p0), cell_of(p1)) if cells is None else cells
    matches = Matches(p0, p1, confidence, c0, c1)
    return TwoViewGeometry(ImagePair(name0, name1), np.arange(len(p0)), "uncalibrated"), matches


def one_by_one(edges, score, node_image):
    """The plain twin of merge_tracks: Kruskal with a set of images a track."""
    label = list(range(len(node_image)))
    images = [{int(i)} for i in node_image]
    for e in sorted(range(len(edges)), key=lambda e: (-score[e], e)):
        a, b = sorted((label[edges[e][0]], label[edges[e][1]]))
        if a == b or images[a] & images[b]:
            continue
        images[a] |= images[b]
        label = [a if x == b else x for x in label]
    return np.array(label)


@st.composite
def graphs(draw):
    num_nodes = draw(st.integers(2, 14))
    node_image = np.array(draw(st.lists(st.integers(0, 4), min_size=num_nodes, max_size=num_nodes)))
    ends = st.integers(0, num_nodes - 1)
    edges = draw(st.lists(st.tuples(ends, ends), max_size=30))
    edges = [(a, b) for a, b in edges if node_image[a] != node_image[b]]
    score = draw(st.lists(st.sampled_from([0.1, 0.2, 0.5, 0.9]), min_size=len(edges), max_size=len(edges)))
    return np.array(edges, np.int64).reshape(-1, 2), np.array(score, float), node_image


@given(graphs())
@settings(deadline=None, max_examples=300)
def test_merging_in_rounds_equals_one_by_one(graph):
    assert np.array_equal(T.merge_tracks(*graph), one_by_one(*graph))


def test_links_without_conflict_give_connected_components():
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    rng = np.random.default_rng(0)
    node_image = np.arange(300) % 30  # node k of track k // 30 in image k % 30
    ends = rng.integers(0, 30, (400, 2)) + 30 * rng.integers(0, 10, (400, 1))
    ends = ends[ends[:, 0] != ends[:, 1]]
    label = T.merge_tracks(ends, rng.uniform(size=len(ends)), node_image)
    graph = coo_matrix((np.ones(len(ends)), ends.T), shape=(300, 300))
    expected = connected_components(graph, directed=False)[1]
    assert len(np.unique(label)) == expected.max() + 1
    assert all(len(np.unique(label[expected == c])) == 1 for c in range(expected.max() + 1))


def test_weaker_link_that_brings_an_image_twice_is_refused():
    # a0-b0 strong, b0-c0 strong, c0-a1 weak: a1 may not join, for a0 is there already
    pairs = [
        rows("a", "b", centre([100]), centre([200]), [0.9]),
        rows("a", "c", centre([500]), centre([300]), [0.2]),
        rows("b", "c", centre([200]), centre([300]), [0.8]),
    ]
    result = T.build_tracks("abc", pairs, GRIDS, TrackOptions())
    assert len(result.tracks) == 1
    np.testing.assert_array_equal(result.keypoints[0].xy, centre([100]))
    assert [len(m.indices) for m in result.matches] == [1, 0, 1]  # the refused link is no match
    assert result.matches[0].score[0] == np.float32(0.9)


def scene(num_tracks=400, num_images=6, seed=0):
    """Cells 8 px wide; every true point is seen at a cell's centre in image a, at sub-pixel shifts in the others."""
    rng = np.random.default_rng(seed)
    cells = rng.choice(79 * 55, num_tracks, replace=False)
    first = centre(cells // 79 * 80 + cells % 79)
    shift = rng.uniform(-20, 20, (num_images, 1, 2)) + np.arange(num_images)[:, None, None] * [8.0, 0] + 60
    shift[0] = 0
    return first[None] + shift


def test_positions_are_exact_where_rows_start_at_the_reference():
    ground_truth = scene()
    names = "abcdef"
    pairs = [
        rows("a", names[j], ground_truth[0], ground_truth[j], np.full(len(ground_truth[0]), 0.9)) for j in range(1, 6)
    ]
    result = T.build_tracks(names, pairs, GRIDS, TrackOptions())
    assert len(result.tracks) == 400
    assert np.diff(result.tracks.offsets).tolist() == [6] * 400
    reference = np.stack([k.xy for k in result.keypoints])  # same order in each image is not promised: match by track
    for start in result.tracks.offsets[:-1]:
        images, keypoints = (c[start : start + 6] for c in (result.tracks.image_idx, result.tracks.keypoint_idx))
        assert images.tolist() == list(range(6))
        xy = reference[images, keypoints]
        np.testing.assert_allclose(xy - xy[0], ground_truth[:, 0] - ground_truth[0, 0], atol=1e-3)


def test_rows_that_start_elsewhere_in_the_cell_are_shifted_to_the_reference():
    # one cell of a, its centre at (44, 44); the row starts 1 px off it, and so ends 1 px off
    pair = rows("a", "b", [[45.0, 44.0], [44.0, 44.0]], [[201.3, 100.2], [200.1, 100.2]], [0.4, 0.6])
    result = T.build_tracks("ab", [pair], GRIDS, TrackOptions())
    xy_a, xy_b = result.keypoints[0].xy[0], result.keypoints[1].xy[0]
    np.testing.assert_array_equal(xy_a, [44.0, 44.0])
    assert 200.1 < xy_b[0] < 200.2  # the exact row says 200.1, the other 200.3 at a lower weight
    assert xy_b[1] == pytest.approx(100.2)


def test_an_observation_without_a_link_to_the_reference_is_placed_through_a_neighbour():
    p = {"a": [[44.0, 44.0]], "b": [[100.0, 50.0]], "c": [[61.5, 70.25]], "d": [[31.0, 33.0]]}
    pairs = [rows("a", "b", p["a"], p["b"], [0.9]), rows("b", "c", p["b"], p["c"], [0.8])]
    pairs += [rows("c", "d", p["c"], p["d"], [0.7])]
    result = T.build_tracks("abcd", pairs, GRIDS, TrackOptions())
    assert len(result.tracks) == 1
    for i, name in enumerate("abcd"):
        np.testing.assert_allclose(result.keypoints[i].xy, p[name])


def test_observations_beyond_the_rings_are_left_out():
    names = [f"{i:02d}" for i in range(12)]
    pairs = [rows(names[i], names[i + 1], centre([90 + i]), centre([91 + i]), [0.99 - 0.05 * i]) for i in range(11)]
    result = T.build_tracks(names, pairs, dict.fromkeys(names, GRID), TrackOptions())
    assert len(result.tracks.image_idx) == 2 + T.NUM_RINGS  # the strongest node is near the chain's start


def test_detector_keypoints_keep_their_positions():
    rng = np.random.default_rng(1)
    xy = {n: rng.uniform(0, 600, (50, 2)).astype(np.float32) for n in "abc"}
    ids = np.arange(50)
    pairs = [rows(m, n, xy[m], xy[n], cells=(ids, ids)) for m, n in ("ab", "ac", "bc")]
    result = T.build_tracks("abc", pairs, dict.fromkeys("abc"), TrackOptions(cell_size=4))
    assert len(result.tracks) == 50
    for i, n in enumerate("abc"):
        np.testing.assert_array_equal(result.keypoints[i].xy, xy[n])


def test_cell_size_joins_and_splits_cells():
    cells = np.array([0, 1, 80, 81, 2])
    points = centre(cells)
    assert np.array_equal(cell_keys(points, cells, GRID, 1.0), cells)
    joined = cell_keys(points, cells, GRID, 2.0)
    assert len(set(joined[:4])) == 1
    assert joined[4] not in joined[:4]
    moved = points[0] + np.array([[0.0, 0.0], [1.5, -1.5], [3.0, 0.0]])
    split = cell_keys(moved, np.zeros(3, np.int64), GRID, 0.5)
    assert split[0] == split[1]  # around the centre
    assert split[2] != split[0]
    free = cell_keys(np.array([[1.0, 1.0], [3.9, 1.0], [4.1, 1.0]]), np.full(3, -1), None, 4.0)
    assert free[0] == free[1] != free[2]


def test_min_score_and_verification_decide_which_rows_count():
    pair = rows("a", "b", centre([100, 101, 102]), centre([200, 201, 202]), [0.9, 0.1, 0.8])
    unverified = TwoViewGeometry(pair[0].pair, np.array([0, 1]), "uncalibrated")
    result = T.build_tracks("ab", [(unverified, pair[1])], GRIDS, TrackOptions(min_score=0.3))
    np.testing.assert_array_equal(result.keypoints[0].xy, centre([100]))


def test_nothing_in_nothing_out():
    result = T.build_tracks("ab", [], {}, TrackOptions())
    assert (len(result.tracks), len(result.keypoints), result.matches) == (0, 2, ())
    empty = (TwoViewGeometry(ImagePair("a", "b"), np.zeros(0), "degenerate"), Matches.empty())
    assert len(T.build_tracks("ab", [empty], GRIDS, TrackOptions()).tracks) == 0


@given(st.integers(0, 10_000), st.sampled_from([None, 40]))
@settings(deadline=None, max_examples=25)
def test_invariants_on_random_matches(seed, room):
    rng = np.random.default_rng(seed)
    names = "abcd"
    pairs = []
    for i in range(4):
        for j in range(i + 1, 4):
            p0, p1 = rng.uniform(0, 64, (40, 2)), rng.uniform(0, 64, (40, 2))
            pairs.append(rows(names[i], names[j], p0, p1, rng.uniform(size=40)))
    result = T.build_tracks(names, pairs, GRIDS, TrackOptions(), room=Room(observations=room))
    if room is not None:
        whole = T.build_tracks(names, pairs, GRIDS, TrackOptions())
        assert len(result.tracks.image_idx) + result.num_left_out == len(whole.tracks.image_idx)
        assert 30 < len(result.tracks.image_idx) <= 40
    owner = np.repeat(np.arange(len(result.tracks)), np.diff(result.tracks.offsets))
    images, keypoints = result.tracks.image_idx, result.tracks.keypoint_idx
    assert len(set(zip(owner, images, strict=True))) == len(owner)  # an image once a track
    assert len(set(zip(images, keypoints, strict=True))) == len(owner)  # a keypoint in one track
    assert np.bincount(images, minlength=4).tolist() == [len(k) for k in result.keypoints]
    track_of = {(i, k): t for i, k, t in zip(images, keypoints, owner, strict=True)}
    for matches in result.matches:
        i, j = names.index(matches.pair.name0), names.index(matches.pair.name1)
        assert all(track_of[i, a] == track_of[j, b] for a, b in matches.indices)
        assert len(np.unique(matches.indices[:, 0])) == len(matches.indices)


def test_time_grows_gently():
    rng = np.random.default_rng(0)
    num = 50_000
    node_image = np.repeat(np.arange(100), 400)
    edges = rng.integers(0, len(node_image), (num, 2))
    edges = edges[node_image[edges[:, 0]] != node_image[edges[:, 1]]]
    started = time.perf_counter()
    T.merge_tracks(edges, rng.uniform(size=len(edges)), node_image)
    assert time.perf_counter() - started < 5.0  # about 0.1 s on an idle core


def along_a_wall(num_images=40, ahead=6, num=500):
    """Images along a wall, 16 px apart, each matched with the next ones."""
    rng = np.random.default_rng(0)
    names = [f"{i:03d}" for i in range(num_images)]
    pairs = []
    for i in range(num_images):
        for j in range(i + 1, min(i + ahead + 1, num_images)):
            cells = rng.permutation(4800)[:num]
            p0 = centre(cells)
            p1 = p0 - [16.0 * (j - i), 0.0]
            inside = p1[:, 0] > 0
            pairs.append(rows(names[i], names[j], p0[inside], p1[inside], rng.uniform(0.3, 1, int(inside.sum()))))
    return names, pairs, dict.fromkeys(names, GRID)


def test_of_too_many_matches_those_of_the_best_keypoints_are_kept():
    names, pairs, grids = along_a_wall()
    whole = T.build_tracks(names, pairs, grids, TrackOptions())
    num = sum(len(m.indices) for m in whole.matches)
    some = T.build_tracks(names, pairs, grids, TrackOptions(), room=Room(edges=num // 2))
    assert num // 8 < sum(len(m.indices) for m in some.matches) <= num // 2
    assert all(len(own) > 30 for own in some.keypoints[:-1])
    per_pair = sum(len(m.indices) for m in some.matches) // len(pairs)
    surest = [verified_rows(geometry, matches, per_pair) for geometry, matches in pairs]
    other = T.build_tracks(names, surest, grids, TrackOptions())
    lengths = [np.diff(result.tracks.offsets).mean() for result in (whole, some, other)]
    assert lengths[0] > lengths[1] > 1.15 * lengths[2]  # the surest matches of each pair alone break tracks


def test_of_many_matches_most_tracks_are_left_out_before_they_are_placed():
    names, pairs, grids = along_a_wall()
    whole = T.build_tracks(names, pairs, grids, TrackOptions())
    limit = len(whole.tracks.image_idx) // 4
    num = sum(len(m.indices) for m in whole.matches)
    late = T.build_tracks(names, pairs, grids, TrackOptions(), room=Room(observations=limit))
    early = T.build_tracks(names, pairs, grids, TrackOptions(), room=Room(edges=2 * num, observations=limit))
    for result in (late, early):
        assert 0.95 * limit < len(result.tracks.image_idx) <= limit
        assert np.diff(result.tracks.offsets).mean() > 1.2 * np.diff(whole.tracks.offsets).mean()


class Lazy(Sequence):
    """Pairs that are made when they are asked for; counts how often."""

    def __init__(self, pairs):
        self.pairs, self.asked = pairs, 0

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, number):
        self.asked += 1
        return self.pairs[number]


def test_pairs_are_read_twice_and_in_any_order_give_the_same_tracks():
    names, pairs, grids = along_a_wall(12)
    lazy = Lazy(pairs)
    first = T.build_tracks(names, lazy, grids, TrackOptions())
    assert lazy.asked == 2 * len(pairs)
    again = T.build_tracks(names, pairs[::-1], grids, TrackOptions())
    assert np.array_equal(first.tracks.offsets, again.tracks.offsets)
    for a, b in zip(first.keypoints, again.keypoints, strict=True):
        np.testing.assert_allclose(a.xy, b.xy, atol=1e-4)


def test_images_beyond_the_bits_of_a_set_still_join_tracks():
    num = T.MAX_BITS + 50
    edges = np.array([(i, i + 1) for i in range(0, num - 1, 2)])
    label = T.merge_tracks(edges, np.ones(len(edges)), np.arange(num))
    assert (label[0::2] == label[1::2]).all()
    assert len(np.unique(label)) == num // 2


def traced_peak(*args, **kwargs):
    """Bytes that building tracks takes at most, beyond its pairs."""
    tracemalloc.start()
    try:
        T.build_tracks(*args, **kwargs)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_that_of_what_is_kept_and_a_few_bytes_a_match():
    names, pairs, grids = along_a_wall(60, 10, 2000)
    num_rows = sum(len(geometry.inliers) for geometry, _ in pairs)
    room = Room(edges=num_rows // 8, observations=num_rows // 40)
    whole, bounded = (traced_peak(names, pairs, grids, TrackOptions(), room=each) for each in (Room(), room))
    assert bounded < 70 * num_rows
    assert bounded < 0.5 * whole


def of_finder(number, matches):
    return replace(matches, finder=np.full(len(matches), number, np.uint8))


def side_by_side(*each):
    """One pair of rows(...) by several matchers."""
    names = ("points0", "points1", "confidence", "cells0", "cells1", "finder")
    parts = [of_finder(number, matches) for number, (_, matches) in enumerate(each)]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    matches = Matches(**columns)
    return replace(each[0][0], inliers=np.arange(len(matches), dtype=np.uint32)), matches


def test_keypoints_of_two_matchers_never_coincide():
    """Cell 3 of a grid and a detector's keypoint 3 are two things, in a track each, and each knows who found it."""
    points = {name: centre([3]) + shift for name, shift in zip("abc", ([0, 0], [2, 0], [4, 1]), strict=True)}
    detected = {name: xy + 100.25 for name, xy in points.items()}
    ids = np.array([3]), np.array([3])
    pairs = [
        side_by_side(rows(a, b, points[a], points[b], cells=ids), rows(a, b, detected[a], detected[b], cells=ids))
        for a, b in ("ab", "bc", "ac")
    ]
    found = T.build_tracks("abc", pairs, GRIDS, TrackOptions(), other_grids=[dict.fromkeys("abc")])
    assert len(found.tracks) == 2
    assert np.diff(found.tracks.offsets).tolist() == [3, 3]
    for name, own in zip("abc", found.keypoints, strict=True):
        assert own.finder.tolist() == [0, 1]
        np.testing.assert_allclose(own.xy[1], detected[name][0], atol=1e-4)  # a detector's keypoint stays where it is
    for own in range(2):
        members = slice(found.tracks.offsets[own], found.tracks.offsets[own + 1])
        rows_of = zip(found.tracks.image_idx[members], found.tracks.keypoint_idx[members], strict=True)
        assert len({int(found.keypoints[i].finder[k]) for i, k in rows_of}) == 1


def test_the_others_change_nothing_for_a_matchers_own_tracks():
    rng = np.random.default_rng(0)
    cells = rng.choice(4000, 60, replace=False)
    steps = rng.uniform(-3, 3, (4, 60, 2))
    xy = {name: centre(cells) + steps[k] for k, name in enumerate("abcd")}
    free = {name: rng.uniform(0, 640, (30, 2)) for name in "abcd"}
    ids = np.arange(30), np.arange(30)
    alone, both = [], []
    for a, b in ("ab", "bc", "cd", "ac"):
        dense = rows(a, b, xy[a], xy[b], cells=(cells, cells))
        alone.append(dense)
        both.append(side_by_side(dense, rows(a, b, free[a], free[b], cells=ids)))
    one = T.build_tracks("abcd", alone, GRIDS, TrackOptions())
    two = T.build_tracks("abcd", both, GRIDS, TrackOptions(), other_grids=[dict.fromkeys("abcd")])
    for a, b in zip(one.keypoints, two.keypoints, strict=True):
        np.testing.assert_array_equal(a.xy, b.xy[b.finder == 0])
        assert (b.finder == 1).sum() == 30
    assert len(two.tracks) == len(one.tracks) + 30


@pytest.mark.parametrize("cell_size", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("grid", [GRID, None])
def test_a_keypoints_key_says_who_found_it(cell_size, ids, grid):
    """For keypoints anywhere in an image of a million pixels a side, of eight matchers."""
    rng = np.random.default_rng(1)
    xy = np.concatenate([rng.uniform(0, 1e6, (500, 2)), np.zeros((1, 2)), np.full((1, 2), 0.1)]).astype(np.float32)
    cells = np.concatenate([rng.integers(0, 2**31, 500), [0, 2**31 - 1]]) if ids else np.full(502, -1)
    keys = cell_keys(xy, cells, grid, cell_size)
    for number in range(MOST):
        own = keys + (np.int64(number) << 58)
        assert (own >= 0).all()
        assert (finder_of(own) == number).all()
