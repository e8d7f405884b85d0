"""The feature database: round trips, resume, invalidation, kills at any moment, broken files."""

import contextlib
import os
import random
import shutil
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sfm.errors import BadFile, MissingStage
from sfm.finders import Finder
from sfm.match_graph import Candidates, RefusedPair, TriedPair
from sfm.storage import database, journal
from sfm.storage.database import FeatureDatabase
from sfm.types import (
    CameraPrior,
    Grid,
    ImagePair,
    ImageRecord,
    KeypointMatches,
    Keypoints,
    MatcherTraits,
    Matches,
    StageSummary,
    Tracks,
    TwoViewGeometry,
)


def record(name, digest="d", num_params=4):
    model = {3: "SIMPLE_PINHOLE", 4: "SIMPLE_RADIAL", 5: "RADIAL"}[num_params]
    camera = CameraPrior(model, np.arange(num_params) + 0.25, num_params % 2 == 0, f"group of {name}")
    return ImageRecord(name, 640, 480, camera, digest)


def some_matches(num, seed=0):
    rng = np.random.default_rng(seed)
    cells = rng.integers(-1, 2**31 - 1, (2, num))
    return Matches(rng.random((num, 2)) * 640, rng.random((num, 2)) * 640, rng.random(num), cells[0], cells[1])


def assert_same(a, b):
    """Equal field by field, arrays bit by bit."""
    assert type(a) is type(b)
    for name in a.__dataclass_fields__:
        x, y = getattr(a, name), getattr(b, name)
        if isinstance(x, np.ndarray):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)
        elif hasattr(x, "__dataclass_fields__"):
            assert_same(x, y)
        else:
            assert x == y


def commit(db, stage, fingerprint="f"):
    db.commit(stage, fingerprint=fingerprint, provenance={"of": stage}, summary=StageSummary(stage, {"n": 1}, 0.5))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "features.h5"


NAMES = ["a.jpg", "b/ü – 1.jpg", "b/c.jpg"]
A, B, C = NAMES
PAIRS = [ImagePair(A, C), ImagePair(A, B), ImagePair.of(B, C)]


@pytest.fixture
def db(path):
    with FeatureDatabase.open(path) as db:
        db.write_images([record(name, num_params=3 + i) for i, name in enumerate(NAMES)])
        commit(db, "images")
        yield db


# round trips

lengths = st.integers(0, 40)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(lengths, min_size=3, max_size=3), st.lists(lengths, min_size=3, max_size=3), st.integers(0, 2**32))
def test_every_group_comes_back_as_it_was_written(tmp_path_factory, rows, counts, seed):
    path = tmp_path_factory.mktemp("db") / "features.h5"
    rng = np.random.default_rng(seed)
    records = tuple(record(name, num_params=3 + i) for i, name in enumerate(sorted(NAMES)))
    matches = [some_matches(num, seed) for num in rows]
    keypoints = [Keypoints(rng.random((n, 2)), rng.random(n)) for n in counts]
    index = {name: len(k) for name, k in zip(sorted(NAMES), keypoints, strict=True)}
    indices = [
        rng.integers(0, min(index[p.name0], index[p.name1]) or 1, (n, 2)) for p, n in zip(PAIRS, rows, strict=True)
    ]
    keypoint_matches = [
        KeypointMatches(
            p,
            i if index[p.name0] and index[p.name1] else i[:0],
            np.ones(len(i) if index[p.name0] and index[p.name1] else 0),
        )
        for p, i in zip(PAIRS, indices, strict=True)
    ]
    poses = [None, rng.random((3, 4)), rng.random((3, 4))]
    two_view = [
        TwoViewGeometry(p, np.arange(n), "calibrated", pose, None if pose is None else rng.random((3, 3)))
        for p, n, pose in zip(PAIRS, rows, poses, strict=True)
    ]
    candidates = Candidates(np.array([[0, 1], [1, 2]]), np.array([0.5, 0.25], np.float32), np.array([1, 2]), 7)
    tried = [TriedPair(PAIRS[1], 1, "alike", True), TriedPair(PAIRS[0], 300, "tie", False), TriedPair(PAIRS[2])]
    num_tracks = min(counts)
    tracks = Tracks(
        np.arange(num_tracks + 1) * 3, np.tile(np.arange(3), num_tracks), np.repeat(np.arange(num_tracks), 3)
    )
    grids, traits = {A: Grid(14.0, 14.125, 80, 14), C: None}, MatcherTraits(0.5, refinable=False, dense=True)

    with FeatureDatabase.open(path) as db:
        db.write_images(records[::-1])
        commit(db, "images")
        db.write_pairs(PAIRS)
        assert db.read_candidates() is None
        db.write_candidates(candidates)
        commit(db, "pairs")
        assert [each.pair for each in db.read_tried()] == PAIRS  # as of an older file
        db.write_grids(grids, traits=traits)
        db.write_matches(list(zip(PAIRS, matches, strict=True)), matcher_key="loftr")
        db.write_tried(tried)
        commit(db, "matching")
        db.write_two_view(two_view)
        commit(db, "verification")
        db.write_keypoints(keypoints)
        db.write_keypoint_matches(keypoint_matches)
        db.write_tracks(tracks)
        commit(db, "tracks")
    with FeatureDatabase.open(path, "r") as db:
        assert db.read_pairs() == tuple(PAIRS)
        found = db.read_candidates()
        assert found is not None
        assert (found.budget, found.rows.tolist()) == (7, candidates.rows.tolist())
        assert (found.likeness.tolist(), found.reason.tolist()) == ([0.5, 0.25], [1, 2])
        assert db.read_tried() == tuple(tried)
        assert db.read_grids() == grids
        assert db.read_traits() == traits
        assert db.matched_pairs("loftr") == frozenset(PAIRS)
        assert_same(db.read_tracks(), tracks)
        for pair, written in zip(PAIRS, matches, strict=True):
            assert_same(db.read_matches(pair), written)
        for read, written in (
            (db.read_images(), records),
            (db.read_two_view(), two_view),
            (db.read_keypoints(), keypoints),
            (db.read_keypoint_matches(), keypoint_matches),
        ):
            assert len(read) == len(written)
            for one, other in zip(read, written, strict=True):
                assert_same(one, other)


def test_commit_keeps_fingerprint_provenance_and_summary(db, path):
    skipped = tuple((f"{i}.jpg", "not an image " * 10) for i in range(1000))  # over HDF5's 64 KB for small attributes
    summary = StageSummary("pairs", {"pairs": 3, "share": 0.5}, 1.25, skipped)
    db.write_pairs(PAIRS)
    db.commit("pairs", fingerprint="abc", provenance={"options": {"how": "exhaustive"}}, summary=summary)
    db.close()
    with FeatureDatabase.open(path, "r") as db:
        assert db.fingerprint("pairs") == "abc"
        assert db.provenance("pairs") == {"options": {"how": "exhaustive"}}
        assert db.summary("pairs") == summary
        assert db.stages() == ("images", "pairs")
        assert (db.fingerprint("tracks"), db.summary("tracks"), db.provenance("tracks")) == (None, None, {})


def test_uncommitted_data_are_gone_and_the_old_ones_still_there(db, path):
    db.write_pairs(PAIRS)
    commit(db, "pairs")
    db.write_pairs(PAIRS[:1])
    assert db.read_pairs() == tuple(PAIRS[:1])
    assert db.fingerprint("pairs") is None  # new data under the old commit would be a lie
    db.close()
    with FeatureDatabase.open(path) as db:
        assert db.read_pairs() == tuple(PAIRS)
        assert db.fingerprint("pairs") == "f"
        db.invalidate("pairs")
    with FeatureDatabase.open(path) as db:
        assert db.fingerprint("pairs") is None


def test_reading_what_nobody_wrote_names_the_stage(db):
    for read, stage in (
        (db.read_pairs, "pairs"),
        (db.read_grids, "matching"),
        (lambda: db.read_matches(PAIRS[0]), "matching"),
        (db.read_two_view, "verification"),
        (db.read_keypoints, "tracks"),
        (db.read_keypoint_matches, "tracks"),
        (db.read_tracks, "tracks"),
    ):
        with pytest.raises(MissingStage, match=rf"features\.h5: holds no .*run .*'{stage}'"):
            read()


def test_unknown_images_are_refused(db):
    with pytest.raises(ValueError, match="no image named 'x'"):
        db.write_pairs([ImagePair(A, "x")])
    with pytest.raises(ValueError, match="no image named 'x'"):
        db.write_matches([(ImagePair(A, "x"), Matches.empty())], matcher_key="k")


# matches and digests


def test_a_changed_image_loses_its_matches_only(db, path):
    db.write_matches([(p, some_matches(5, i)) for i, p in enumerate(PAIRS)], matcher_key="k")
    db.write_images([record(A), record(B, "changed"), record(C), record("new.jpg")])
    assert db.matched_pairs("k") == {ImagePair(A, C)}
    with pytest.raises(MissingStage):
        db.read_matches(ImagePair(A, B))
    db.write_images([record(name) for name in NAMES])  # the image comes back, and so do its matches
    assert db.matched_pairs("k") == frozenset(PAIRS)
    assert_same(db.read_matches(PAIRS[2]), some_matches(5, 2))


def test_other_images_drop_what_numbers_them(db):
    db.write_pairs(PAIRS)
    db.write_grids({A: None})
    db.write_images(db.read_images())  # the same images: nothing happens
    assert db.read_pairs() == tuple(PAIRS)
    db.write_images([record("0.jpg"), *db.read_images()])
    with pytest.raises(MissingStage):
        db.read_pairs()
    with pytest.raises(MissingStage):
        db.read_grids()


@pytest.mark.parametrize("grid", [Grid(8.0, 8.0, 80), None])
def test_traits_of_a_file_without_them(db, grid):
    db.write_grids({A: grid, B: grid})
    assert db.read_traits() == MatcherTraits(pixel_sigma=1.0, refinable=True, dense=grid is not None)


@pytest.mark.parametrize(
    "text", ['{"pixel_sigma": 0, "refinable": true, "dense": true}', '{"pixel_sigma": 1}', "[]", "{", '"x"']
)
def test_traits_that_are_none_are_refused(db, path, text):
    db.write_grids({A: None}, traits=MatcherTraits())
    commit(db, "matching")
    db.close()
    with h5py.File(path, "r+") as file:
        file["grids"].attrs["traits"] = text
    with FeatureDatabase.open(path, "r") as db, pytest.raises(BadFile, match="damaged"):
        db.read_traits()


def test_lenses_come_back_with_the_verified_pairs(db):
    db.write_two_view([])
    assert db.read_lenses() == {}
    lens = CameraPrior("OPENCV_FISHEYE", np.arange(8.0), True, "group of a")
    db.write_two_view([], lenses=[lens])
    (found,) = db.read_lenses().values()
    assert_same(found, lens)
    db.write_two_view([])
    assert db.read_lenses() == {}


@pytest.mark.parametrize("text", ["{", "{}", '[{"group": "a"}]', '[{"group": "a", "model": "RADIAL", "params": [1]}]'])
def test_damaged_lenses_are_refused(db, path, text):
    db.write_two_view([])
    commit(db, "verification")
    db.close()
    with h5py.File(path, "r+") as file:
        file["two_view"].attrs["lenses"] = text
    with FeatureDatabase.open(path, "r") as db, pytest.raises(BadFile, match="damaged"):
        db.read_lenses()


def test_grids_have_one_stride(db):
    with pytest.raises(ValueError, match=r"different strides: \[8.0, 16\]"):
        db.write_grids({A: Grid(8.0, 8.0, 80), B: Grid(8.0, 8.0, 80, 16)})


def test_matchers_do_not_mix(db, path):
    pair = PAIRS[0]
    db.write_matches([(pair, some_matches(5, 1))], matcher_key="loftr")
    db.write_matches([(pair, some_matches(7, 2))], matcher_key="sift")
    assert len(db.read_matches(pair)) == 7
    assert db.matched_pairs("other") == frozenset()
    assert db.matched_pairs("loftr") == {pair}
    assert len(db.read_matches(pair)) == 7  # asking changes nothing
    assert len(db.read_matches(pair, matcher_key="loftr")) == 5
    with pytest.raises(MissingStage):
        db.read_matches(pair, matcher_key="other")
    db.use_matcher("other")  # nothing is held of it
    assert len(db.read_matches(pair)) == 7
    db.use_matcher("loftr")
    assert len(db.read_matches(pair)) == 5
    commit(db, "matching")
    db.close()
    with FeatureDatabase.open(path, "r") as db:
        assert_same(db.read_matches(pair), some_matches(5, 1))
        assert db.held_matches() == (("loftr", 1, 5, True), ("sift", 1, 7, False))


def test_matches_written_again_replace_the_old(db, path):
    db.write_matches([(p, some_matches(3, 1)) for p in PAIRS], matcher_key="k")
    db.write_matches([(PAIRS[1], some_matches(4, 2)), (PAIRS[0], Matches.empty())], matcher_key="k")
    db.close()
    with FeatureDatabase.open(path) as db:
        assert [len(db.read_matches(p)) for p in PAIRS] == [0, 4, 3]
        assert_same(db.read_matches(PAIRS[1]), some_matches(4, 2))


def test_dead_rows_are_dropped_when_they_are_most_of_the_file(db, path, monkeypatch):
    monkeypatch.setattr(database, "COMPACT_FROM", 1 << 16)
    for _ in range(4):
        db.write_matches([(p, some_matches(2000, i)) for i, p in enumerate(PAIRS)], matcher_key="k")
    db.write_matches([(PAIRS[0], some_matches(3, 7))], matcher_key="other")
    db.use_matcher("k")
    before = path.stat().st_size
    commit(db, "matching")
    assert path.stat().st_size < before / 2
    assert db.held_matches() == (("k", 3, 6000, True), ("other", 1, 3, False))
    for i, pair in enumerate(PAIRS):
        assert_same(db.read_matches(pair), some_matches(2000, i))
    db.write_pairs(PAIRS)
    commit(db, "pairs")  # the new file is written to as the old one was
    db.close()
    with FeatureDatabase.open(path, "r") as db:
        assert db.stages() == ("images", "matching", "pairs")
        assert_same(db.read_matches(PAIRS[2]), some_matches(2000, 2))


def test_match_counts_are_of_the_current_matcher_and_images(db):
    db.write_matches([(PAIRS[0], some_matches(5)), (PAIRS[1], some_matches(0))], matcher_key="loftr-1")
    db.write_matches([(PAIRS[0], some_matches(7))], matcher_key="loftr-2")
    assert db.match_counts() == {PAIRS[0]: 7}
    db.use_matcher("loftr-1")
    assert db.match_counts() == {PAIRS[0]: 5, PAIRS[1]: 0}


def test_only_one_writer(db, path):
    with pytest.raises(BadFile, match=f"features.h5: in use by process {os.getpid()}, since"):
        FeatureDatabase.open(path)


# kills

KILL_NAMES = [f"{i:03d}" for i in range(80)]
KILL_PAIRS = [ImagePair(a, b) for i, a in enumerate(KILL_NAMES) for b in KILL_NAMES[i + 1 :]]


def write_until_killed(path: Path, pipe: int) -> None:
    """Match what is still to be matched, three pairs a batch; say which once write_matches has returned."""
    with FeatureDatabase.open(path) as db:
        db.write_images([record(name) for name in KILL_NAMES])
        done = db.matched_pairs("k")
        todo = [i for i, p in enumerate(KILL_PAIRS) if p not in done]
        for batch in (todo[i : i + 3] for i in range(0, len(todo), 3)):
            rows = [(KILL_PAIRS[i], np.full(i % 700, i)) for i in batch]
            matches = [(p, Matches(np.stack([v, v], 1), np.stack([v, v], 1), v * 0, v, v)) for p, v in rows]
            db.write_matches(matches, matcher_key="k")
            os.write(pipe, " ".join(map(str, batch)).encode() + b"\n")


def run_and_kill(path: Path, num_batches: int, seconds: float) -> list[int]:
    """Numbers of the pairs whose write_matches returned before the kill."""
    end_read, end_write = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            write_until_killed(path, end_write)
        os._exit(1)
    os.close(end_write)
    with os.fdopen(end_read) as pipe:
        lines = [pipe.readline() for _ in range(num_batches)]
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        lines += pipe.readlines()
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    return [int(i) for line in lines if line.endswith("\n") for i in line.split()]


def test_sigkill_loses_no_acknowledged_batch(path):
    rng, acknowledged = random.Random(7), set()
    for i in range(10):
        acknowledged |= set(run_and_kill(path, min(i, rng.randint(1, 3)), rng.uniform(0, 0.03)))
        if not path.exists():
            continue  # killed before the file was there
        with FeatureDatabase.open(path, "r") as db:
            assert {KILL_PAIRS[i] for i in acknowledged} <= db.matched_pairs("k")
            for i in acknowledged:
                matches = db.read_matches(KILL_PAIRS[i])
                assert len(matches) == i % 700
                assert (matches.points1 == i).all()
                assert (matches.cells0 == i).all()
    assert len(acknowledged) >= 9 * 3


def test_a_crash_at_any_write_of_any_commit_leaves_a_whole_commit(tmp_path, monkeypatch):
    """Copies of the files at every step that reaches the disk, each one opened as after a crash."""
    path, snapshots, returned = tmp_path / "features.h5", [], [0]

    def snapshot() -> None:
        folder = tmp_path / f"crash{len(snapshots)}"
        folder.mkdir()
        for name in (path, journal.journal_path(path)):
            if name.exists():
                shutil.copy(name, folder)
        snapshots.append((folder / path.name, returned[0]))

    def torn(file, offset, data, write=journal.write_all):
        write(file, offset, data[: len(data) // 2])
        snapshot()
        write(file, offset, data)

    with FeatureDatabase.open(path) as db:
        db.write_images([record(name) for name in NAMES])
        commit(db, "images")
        monkeypatch.setattr(journal, "write_all", torn)
        for i, pair in enumerate(PAIRS):
            db.write_matches([(pair, some_matches(300, i))], matcher_key="k")
            returned[0] += 1
        db.write_pairs(PAIRS)
        commit(db, "pairs")
        monkeypatch.undo()
    assert len(snapshots) > 30
    for crashed, num_returned in snapshots[:: max(1, len(snapshots) // 25)]:
        for mode in ("r", "a"):
            with FeatureDatabase.open(crashed, mode) as db:
                held = [pair for pair in PAIRS if pair in db.matched_pairs("k")]
                assert len(held) >= num_returned
                assert held == PAIRS[: len(held)]
                for i, pair in enumerate(held):
                    assert_same(db.read_matches(pair), some_matches(300, i))
                assert db.fingerprint("images") == "f"
                if db.fingerprint("pairs"):
                    assert db.read_pairs() == tuple(PAIRS)


def test_a_full_disk_is_one_line_and_loses_nothing_committed(db, path, monkeypatch):
    db.write_matches([(PAIRS[0], some_matches(9))], matcher_key="k")

    def full(file, offset, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "write_all", full)
    with pytest.raises(BadFile, match=r"features\.h5: cannot be written \(.*No space left on device"):
        db.write_matches([(PAIRS[1], some_matches(5000))], matcher_key="k")
    monkeypatch.undo()
    with pytest.raises(BadFile, match="an earlier write failed"):
        commit(db, "matching")
    db.close()
    with FeatureDatabase.open(path) as db:
        assert db.matched_pairs("k") == {PAIRS[0]}
        assert_same(db.read_matches(PAIRS[0]), some_matches(9))


# files that are not what they should be


def test_files_that_are_no_database(tmp_path):
    absent, text, empty, other = (tmp_path / name for name in ("absent.h5", "text.h5", "empty.h5", "other.h5"))
    text.write_text("hello " * 100)
    empty.touch()
    with h5py.File(other, "w", libver=("v108", "v108")) as file:
        file["x"] = np.zeros(10)
    with pytest.raises(BadFile, match=r"absent\.h5: no such database"):
        FeatureDatabase.open(absent, "r")
    assert not absent.exists()
    for path in (text, empty, other):
        content = path.read_bytes()
        for mode in ("r", "a"):
            with pytest.raises(BadFile, match=rf"{path.name}: .*delete it to start afresh"):
                FeatureDatabase.open(path, mode)
        assert path.read_bytes() == content


def test_unwritable_folder(tmp_path):
    with pytest.raises(BadFile, match=r"cannot be written"):
        FeatureDatabase.open(tmp_path / "absent" / "features.h5")


def test_why_a_pair_is_not_verified_is_kept_and_older_files_do_not_say(tmp_path):
    path = tmp_path / "features.h5"
    reasons = ["", "little evidence", "chance"]
    with FeatureDatabase.open(path) as db:
        db.write_images([record(name) for name in NAMES])
        kinds = ["calibrated", "degenerate", "degenerate"]
        db.write_two_view(
            [TwoViewGeometry(p, np.arange(0), k, reason=r) for p, k, r in zip(PAIRS, kinds, reasons, strict=True)]
        )
        assert [g.reason for g in db.read_two_view()] == reasons
        commit(db, "verification")
    with h5py.File(path, "r+", libver=("v108", "latest")) as file:
        file["two_view/reason"][1] = 200
    with FeatureDatabase.open(path, "r") as db, pytest.raises(BadFile, match="reason 200"):
        db.read_two_view()
    with h5py.File(path, "r+", libver=("v108", "latest")) as file:
        del file["two_view/reason"]
    with FeatureDatabase.open(path, "r") as db:
        assert [g.reason for g in db.read_two_view()] == ["", "", ""]


def tampered(db, path, change):
    """Committed database of three images, five tracks; then `change(h5py.File)` on it."""
    keypoints = [Keypoints(np.ones((5, 2)), np.ones(5))] * 3
    db.write_pairs(PAIRS)
    commit(db, "pairs")
    db.write_matches([(p, some_matches(5)) for p in PAIRS], matcher_key="k")
    db.write_two_view([TwoViewGeometry(PAIRS[0], np.arange(5), "calibrated")])
    db.write_keypoints(keypoints)
    db.write_keypoint_matches([KeypointMatches(PAIRS[0], np.zeros((1, 2)), np.ones(1))])
    db.write_tracks(Tracks(np.arange(6) * 2, np.tile([0, 1], 5), np.repeat(np.arange(5), 2)))
    commit(db, "tracks")
    db.close()
    with h5py.File(path, "r+", libver=("v108", "latest")) as file:
        change(file)


def replaced(name, value, **layout):
    def change(file):
        del file[name]
        file.create_dataset(name, data=value, **layout)

    return change


def huge(file):
    del file["tracks/keypoint_idx"]
    file.create_dataset("tracks/keypoint_idx", shape=(1 << 40,), dtype="u4", chunks=(1024,))


def huge_chunks(file):
    del file["tracks/keypoint_idx"]
    file.create_dataset("tracks/keypoint_idx", shape=(10,), maxshape=(None,), dtype="u4", chunks=(1 << 29,))


def linked(link):
    def change(file):
        file.move("tracks/keypoint_idx", "elsewhere")
        file["tracks/keypoint_idx"] = link

    return change


def virtual(file):
    del file["tracks/keypoint_idx"]
    layout = h5py.VirtualLayout((10,), "u4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (10,))
    file["tracks"].create_virtual_dataset("keypoint_idx", layout)


def external(file):
    del file["tracks/keypoint_idx"]
    file["tracks"].create_dataset("keypoint_idx", shape=(10,), dtype="u4", external=[("/etc/passwd", 0, 40)])


def indexed(first_row):
    def change(file):
        file["matches/index"][0] = (0, 0, 1, first_row, 5)

    return change


def read_everything(path):
    with FeatureDatabase.open(path, "r") as db:
        for read in (db.read_images, db.read_pairs, db.read_two_view, db.read_keypoints, db.read_keypoint_matches):
            read()
        db.read_tracks()
        for stage in db.stages():
            db.provenance(stage)
        db.match_counts(), db.held_matches()
        for pair in db.matched_pairs("k"):
            db.read_matches(pair)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: f.attrs.__setitem__("schema", 99), "loftr-sfm schema 99, this program reads loftr-sfm schema 1"),
        (lambda f: f.attrs.__delitem__("format"), "None schema 1"),
        (lambda f: f["stages"].attrs.__setitem__("tracks", "{broken"), "damaged"),
        (lambda f: f["stages"].attrs.__setitem__("tracks", '{"summary": 3, "provenance": 4}'), "damaged"),
        (lambda f: f["tracks"].__delitem__("offsets"), "offsets: missing"),
        (lambda f: f["images"].__delitem__("name"), "name: missing"),
        (replaced("tracks/offsets", np.array([0, 4, 2, 6, 8, 10])), "at least two"),
        (replaced("tracks/image_idx", np.full(10, 9, np.uint32)), "image_idx: beyond 3"),
        (replaced("tracks/keypoint_idx", np.full(10, 9, np.uint32)), "beyond its image's keypoints"),
        (replaced("tracks/keypoint_idx", np.zeros(10, np.float32)), "expected u4"),
        (replaced("tracks/keypoint_idx", np.zeros(9, np.uint32)), "shape"),
        (replaced("keypoint_matches/indices", np.full((1, 2), 5, np.uint32)), "beyond its image's keypoints"),
        (replaced("keypoints/offsets", np.array([0, 9, 3, 15])), "do not rise"),
        (replaced("keypoints/xy", np.full((15, 2), np.nan, np.float32)), "not finite"),
        (replaced("two_view/inlier_offsets", np.array([0, 99])), "do not rise"),
        (replaced("pairs/image_idx", np.array([[1, 0]] * 3, np.uint32)), "must sort before"),
        (replaced("images/name", np.array(["b", "a", "c"], object), dtype=h5py.string_dtype()), "not sorted"),
        (replaced("images/name", np.array([b"a", b"\xff", b"\xfe"], object), dtype=h5py.string_dtype()), "damaged"),
        (indexed(1 << 62), "matches/index: beyond 15 rows"),
        (indexed(-3), "matches/index: beyond 15 rows"),
        (huge, "more than it can hold"),
        (huge_chunks, "damaged"),
        (linked(h5py.SoftLink("/elsewhere")), "a link"),
        (linked(h5py.ExternalLink("/etc/passwd", "/x")), "a link"),
        (virtual, "stored elsewhere"),
        (external, "stored elsewhere"),
    ],
)
def test_broken_contents_are_one_line(db, path, change, reason):
    tampered(db, path, change)
    with pytest.raises(BadFile, match=rf"features\.h5: .*{reason}") as error:
        read_everything(path)
    assert "\n" not in str(error.value)


def test_truncated_file_names_the_remedy(db, path):
    db.write_matches([(PAIRS[0], some_matches(3000))], matcher_key="k")
    db.close()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 2000])
    with pytest.raises(BadFile, match=r"features\.h5: truncated \(\d+ of \d+ bytes\); restore it from a copy"):
        FeatureDatabase.open(path)


def test_flipped_bytes_never_end_in_a_traceback(db, path):
    tampered(db, path, lambda file: None)
    content, rng = path.read_bytes(), random.Random(3)
    for _ in range(60):
        broken = bytearray(content)
        for _ in range(rng.choice((1, 3, 30))):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        path.write_bytes(bytes(broken))
        with contextlib.suppress(BadFile, MissingStage):
            read_everything(path)


def test_matchers_side_by_side_are_read_as_one_table(db, path):
    pair, other = PAIRS[0], PAIRS[1]
    db.write_matches([(pair, some_matches(5, 1)), (other, some_matches(4, 3))], matcher_key="loftr")
    db.write_matches([(pair, some_matches(7, 2))], matcher_key="sift")
    db.use_matcher("loftr", "none of it is held", "sift")
    both = db.read_matches(pair)
    assert both.finder.tolist() == [0] * 5 + [2] * 7
    assert_same(both.rows(np.flatnonzero(both.finder == 0)), some_matches(5, 1))
    np.testing.assert_array_equal(both.points1[5:], some_matches(7, 2).points1)
    assert db.read_matches(other).finder.tolist() == [0] * 4
    assert db.read_matches(pair, matcher_key="sift").finder.tolist() == [0] * 7
    assert db.match_counts() == {pair: 12, other: 4}
    commit(db, "matching")
    db.close()
    with FeatureDatabase.open(path) as db:
        assert db.read_matches(pair).finder.tolist() == [0] * 5 + [2] * 7
        assert [current for *_, current in db.held_matches()] == [True, True]
        db.use_matcher("loftr")
        assert_same(db.read_matches(pair), some_matches(5, 1))
        assert db.match_counts() == {pair: 5, other: 4}


def test_matchers_side_by_side_survive_compaction(db, path, monkeypatch):
    monkeypatch.setattr(database, "COMPACT_FROM", 1 << 16)
    for _ in range(4):
        db.write_matches([(p, some_matches(2000, i)) for i, p in enumerate(PAIRS)], matcher_key="k")
    db.write_matches([(PAIRS[0], some_matches(3, 7))], matcher_key="other")
    db.use_matcher("other", "k")
    before = path.stat().st_size
    commit(db, "matching")
    assert path.stat().st_size < before / 2
    assert db.read_matches(PAIRS[0]).finder.tolist() == [0] * 3 + [1] * 2000


def test_the_grids_and_traits_of_all_matchers(db, path):
    grid, coarse = Grid(8.0, 8.0, 80), Grid(16.0, 16.0, 40, 16.0)
    others = [Finder({"a.jpg": None}, MatcherTraits(0.5)), Finder({"a.jpg": coarse}, MatcherTraits(2.0, dense=True))]
    names = [record.name for record in db.read_images()]
    others = [Finder(dict.fromkeys(names, finder.grids["a.jpg"]), finder.traits) for finder in others]
    db.write_grids(dict.fromkeys(names, grid), traits=MatcherTraits(dense=True), others=others)
    commit(db, "matching")
    db.close()
    with FeatureDatabase.open(path) as db:
        found = db.read_finders()
        assert [finder.grids[names[0]] for finder in found] == [grid, None, coarse]
        assert [finder.traits for finder in found] == [MatcherTraits(dense=True), *(own.traits for own in others)]
        assert db.read_grids()[names[0]] == grid
        db.write_grids(dict.fromkeys(names, grid), traits=MatcherTraits(dense=True))
        assert len(db.read_finders()) == 1


def test_keypoints_know_who_found_them(db, path):
    num = len(db.read_images())
    own = Keypoints(np.zeros((3, 2), np.float32), np.ones(3, np.float32), np.array([0, 1, 1], np.uint8))
    none = Keypoints(np.zeros((0, 2), np.float32), np.zeros(0, np.float32))
    db.write_keypoints([own] + [none] * (num - 1))
    assert db.read_keypoints()[0].finder.tolist() == [0, 1, 1]
    commit(db, "tracks")
    db.close()
    with h5py.File(path, "r+") as file:
        del file["keypoints"]["finder"]  # as older files are
    with FeatureDatabase.open(path, "r") as db:
        assert db.read_keypoints()[0].finder.tolist() == [0, 0, 0]


def test_refused_pairs_are_kept_and_older_files_have_none(tmp_path):
    path = tmp_path / "features.h5"
    refused = (RefusedPair(PAIRS[1], 200, 40), RefusedPair(PAIRS[0], 90, 0))
    with FeatureDatabase.open(path) as db:
        db.write_images([record(name) for name in NAMES])
        db.write_refused(())
        assert db.read_refused() == ()
        db.write_refused(refused)
        commit(db, "tracks")
    with FeatureDatabase.open(path) as db:
        assert db.read_refused() == refused
        db.write_refused(())
        assert db.read_refused() == ()
        db.write_refused(refused)
        commit(db, "tracks")
    with h5py.File(path, "r+", libver=("v108", "latest")) as file:
        file["refused/image_idx"][0] = (0, 99)
    with FeatureDatabase.open(path, "r") as db, pytest.raises(BadFile, match="refused"):
        db.read_refused()
