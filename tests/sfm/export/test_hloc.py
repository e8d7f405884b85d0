"""hloc's files: written as hloc reads them, read as hloc writes them, and there and back."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from sfm.errors import BadFile, MissingStage
from sfm.export.hloc import import_hloc, write_hloc
from sfm.storage.database import FeatureDatabase
from sfm.types import CameraPrior, ImagePair, ImageRecord, KeypointMatches, Keypoints

NAMES = ["a/1.jpg", "a/2.jpg", "b.jpg"]


def record(name):
    return ImageRecord(name, 640, 480, CameraPrior("SIMPLE_RADIAL", np.ones(4), False, "g"), f"digest of {name}")


@pytest.fixture
def db(tmp_path):
    with FeatureDatabase.open(tmp_path / "features.h5") as db:
        db.write_images([record(name) for name in NAMES])
        yield db


@pytest.fixture
def files(tmp_path):
    return {"features": tmp_path / "feats.h5", "matches": tmp_path / "matches.h5"}


def hloc_get_matches(path: Path, name0: str, name1: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads a pair in either direction, as hloc's own reader is documented to: (K, 2) rows and their scores."""
    with h5py.File(path, "r") as file:
        key0, key1 = name0.replace("/", "-"), name1.replace("/", "-")
        forward = f"{key0}/{key1}" in file
        group = file[f"{key0}/{key1}" if forward else f"{key1}/{key0}"]
        matches0, scores0 = group["matches0"][()], group["matching_scores0"][()]
    rows = np.flatnonzero(matches0 != -1)
    matches = np.stack([rows, matches0[rows]], axis=1)
    return matches if forward else matches[:, ::-1], scores0[rows]


def hloc_write(files, keypoints, matches):
    """Feature and match files of hloc's sparse pipeline: half floats, 16-bit matches."""
    with h5py.File(files["features"], "w", libver="latest") as file:
        for name, xy in keypoints.items():
            group = file.create_group(name)
            group["keypoints"] = np.asarray(xy, np.float16).reshape(-1, 2)
            group["keypoints"].attrs["uncertainty"] = 1.0
            group["descriptors"] = np.zeros((4, len(xy)), np.float16)
            group["scores"] = np.ones(len(xy), np.float16)
            group["image_size"] = np.array([640, 480])
    with h5py.File(files["matches"], "w", libver="latest") as file:
        for (name0, name1), matches0 in matches.items():
            group = file.create_group(f"{name0.replace('/', '-')}/{name1.replace('/', '-')}")
            group["matches0"] = np.array(matches0, np.int16)
            group["matching_scores0"] = np.linspace(0, 1, len(matches0)).astype(np.float16)


def written_tracks(db, seed=0):
    rng = np.random.default_rng(seed)
    keypoints = [Keypoints(rng.random((n, 2)) * (640, 480), rng.random(n)) for n in (30, 40, 0)]
    rows = np.stack([rng.permutation(30)[:20], rng.permutation(40)[:20]], axis=1)
    pairs = [ImagePair(NAMES[0], NAMES[1]), ImagePair(NAMES[0], NAMES[2])]
    matches = [
        KeypointMatches(pairs[0], rows, rng.random(20)),
        KeypointMatches(pairs[1], np.zeros((0, 2)), np.zeros(0)),
    ]
    db.write_keypoints(keypoints)
    db.write_keypoint_matches(matches)
    return keypoints, matches


def test_export_is_what_hloc_reads(db, files, tmp_path):
    keypoints, matches = written_tracks(db)
    write_hloc(db, **files, pairs=tmp_path / "pairs.txt")
    with h5py.File(files["features"], "r") as file:
        for name, ours in zip(NAMES, keypoints, strict=True):
            assert file[name]["keypoints"].dtype == np.float32
            np.testing.assert_allclose(file[name]["keypoints"][()] + 0.5, ours.xy, atol=1e-4)
            np.testing.assert_array_equal(file[name]["scores"][()], ours.score)
            assert file[name]["image_size"][()].tolist() == [640, 480]
    for match in matches:
        rows, scores = hloc_get_matches(files["matches"], match.pair.name0, match.pair.name1)
        order = np.argsort(match.indices[:, 0])
        np.testing.assert_array_equal(rows, match.indices[order])
        np.testing.assert_allclose(scores, match.score[order], atol=1e-3)
    reversed_rows, _ = hloc_get_matches(files["matches"], NAMES[1], NAMES[0])
    assert {tuple(r) for r in reversed_rows[:, ::-1]} == {tuple(r) for r in matches[0].indices}
    assert (tmp_path / "pairs.txt").read_text() == "a/1.jpg a/2.jpg\na/1.jpg b.jpg\n"
    assert not list(tmp_path.glob("*.new"))


def test_there_and_back(db, files, tmp_path):
    keypoints, matches = written_tracks(db)
    write_hloc(db, **files, pairs=tmp_path / "pairs.txt")
    with FeatureDatabase.open(tmp_path / "other.h5") as other:
        other.write_images(db.read_images())
        summary = import_hloc(other, **files)
        assert summary.counts == {"pairs": 2, "matches": 20}
        assert other.read_pairs() == tuple(m.pair for m in matches)
        assert other.read_grids() == dict.fromkeys(NAMES)
        read, match = other.read_matches(matches[0].pair), matches[0]
        order = np.argsort(match.indices[:, 0])
        np.testing.assert_array_equal(np.stack([read.cells0, read.cells1], 1), match.indices[order])
        np.testing.assert_allclose(read.points0, keypoints[0].xy[read.cells0], atol=1e-4)
        np.testing.assert_allclose(read.points1, keypoints[1].xy[read.cells1], atol=1e-4)
        np.testing.assert_allclose(read.confidence, match.score[order], atol=1e-3)
        assert len(other.read_matches(matches[1].pair)) == 0


def test_import_of_hlocs_own_files(db, files):
    hloc_write(
        files,
        {NAMES[0]: [(10, 20), (30, 40)], NAMES[1]: [(1, 2), (3, 4), (5, 6)]},
        {(NAMES[1], NAMES[0]): [1, -1, 0]},  # against the order of names
    )
    import_hloc(db, **files)
    matches = db.read_matches(ImagePair(NAMES[0], NAMES[1]))
    assert matches.points0.tolist() == [[30.5, 40.5], [10.5, 20.5]]
    assert matches.points1.tolist() == [[1.5, 2.5], [5.5, 6.5]]
    assert (matches.cells0.tolist(), matches.cells1.tolist()) == ([1, 0], [0, 2])
    assert matches.confidence.tolist() == [0.0, 1.0]


def test_a_pair_in_both_directions_counts_once(db, files):
    hloc_write(
        files,
        {NAMES[0]: [(1, 1)], NAMES[1]: [(2, 2)]},
        {(NAMES[1], NAMES[0]): [-1], (NAMES[0], NAMES[1]): [0]},
    )
    assert import_hloc(db, **files).counts == {"pairs": 1, "matches": 1}


def test_import_of_semi_dense_matches(db, files):
    hloc_write(files, {}, {})
    with h5py.File(files["matches"], "w") as file:
        group = file.create_group("a-1.jpg/b.jpg")
        group["keypoints0"], group["keypoints1"] = np.ones((2, 2), np.float32), np.zeros((2, 2), np.float32)
        group["scores"] = np.array([0.25, 1.5], np.float32)
    import_hloc(db, **files)
    matches = db.read_matches(ImagePair(NAMES[0], NAMES[2]))
    assert (matches.points0 == 1.5).all()
    assert (matches.points1 == 0.5).all()
    assert matches.confidence.tolist() == [0.25, 1.0]
    assert (matches.cells0 == -1).all()


def broken(key, name, value):
    def change(files):
        with h5py.File(files[key], "r+") as file:
            if name in file:
                del file[name]
            if value is not None:
                file[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (broken("matches", "a-1.jpg/a-2.jpg/matches0", None), r"matches\.h5: .*matches0: missing"),
        (broken("matches", "a-1.jpg/a-2.jpg/matching_scores0", None), r"matches\.h5: .*matching_scores0: missing"),
        (broken("matches", "a-1.jpg/a-2.jpg/matches0", np.array([0, 3])), r"matches\.h5: .*beyond the 2 and 3"),
        (broken("matches", "a-1.jpg/a-2.jpg/matches0", np.array([0, -2])), r"matches\.h5: .*beyond the 2 and 3"),
        (broken("matches", "a-1.jpg/a-2.jpg/matches0", np.zeros((2, 2), int)), r"matches\.h5: .*shape \(2, 2\)"),
        (broken("matches", "a-1.jpg/a-2.jpg/matches0", np.zeros(2)), r"matches\.h5: .*float64"),
        (broken("matches", "a-1.jpg/a-2.jpg/matching_scores0", np.zeros(3)), r"matches\.h5: .*shape \(3,\)"),
        (broken("matches", "a-1.jpg/a-2.jpg/matching_scores0", np.full(2, np.nan)), r"matches\.h5: .*not finite"),
        (broken("matches", "a-1.jpg/x.jpg/matches0", np.zeros(2, int)), r"matches\.h5: .*no image named 'x\.jpg'"),
        (broken("matches", "a-1.jpg/a-1.jpg/matches0", np.zeros(2, int)), r"matches\.h5: .*with itself"),
        (broken("matches", "a-1.jpg/b.jpg", np.zeros(2)), r"matches\.h5: .*not a group"),
        (broken("matches", "b.jpg", h5py.ExternalLink("/etc/passwd", "/")), r"matches\.h5: .*a link"),
        (broken("features", "a/1.jpg/keypoints", np.zeros((2, 3))), r"feats\.h5: .*shape \(2, 3\)"),
        (broken("features", "a/1.jpg/keypoints", np.full((2, 2), np.inf)), r"feats\.h5: .*not finite"),
        (broken("features", "a/2.jpg", None), r"matches\.h5: .*a/2\.jpg: has matches but no keypoints"),
        (broken("features", "x.jpg/keypoints", np.zeros((2, 2))), r"feats\.h5: .*no image named 'x\.jpg'"),
        (broken("features", "a/1.jpg/image_size", np.array([480, 640])), r"feats\.h5: .*made for \(480, 640\)"),
        (lambda files: files["features"].write_text("x"), r"feats\.h5: not an HDF5 file"),
        (lambda files: files["matches"].unlink(), r"matches\.h5: cannot be read"),
    ],
)
def test_broken_files_are_one_line_and_change_nothing(db, files, change, reason):
    hloc_write(
        files,
        {NAMES[0]: [(1, 1), (2, 2)], NAMES[1]: [(1, 1), (2, 2), (3, 3)]},
        {(NAMES[0], NAMES[1]): [0, 2]},
    )
    change(files)
    with pytest.raises(BadFile, match=reason) as error:
        import_hloc(db, **files)
    assert "\n" not in str(error.value)
    with pytest.raises(MissingStage):
        db.read_pairs()


def test_names_that_hloc_cannot_tell_apart(db, files, tmp_path):
    db.write_images([record("a/b-c.jpg"), record("a-b/c.jpg")])
    db.write_keypoints([Keypoints(np.zeros((0, 2)), np.zeros(0))] * 2)
    db.write_keypoint_matches([])
    with pytest.raises(BadFile, match=r"does not distinguish a-b/c\.jpg from a/b-c\.jpg; rename"):
        write_hloc(db, **files, pairs=tmp_path / "pairs.txt")
