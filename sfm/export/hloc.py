"""Exchange with hloc (github.com/cvg/Hierarchical-Localization): its feature, match and pair files.

hloc puts pixel (0, 0) at the centre of the first pixel, the database (as COLMAP) at its corner:
hloc = ours - 0.5, in both axes. A feature file has a group per image, nested where the name has
'/', with `keypoints` (N, 2), `scores` (N,) and `image_size` (width, height). A match file has a
group `NAME0/NAME1` per pair, '/' in a name written as '-', with `matches0` (N0,), the keypoint of
image 1 that keypoint i of image 0 matches or -1, and `matching_scores0` (N0,). A semi-dense match
file that is not yet aggregated has `keypoints0`, `keypoints1` (M, 2) and `scores` (M,) instead.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path, PurePosixPath

import h5py
import numpy as np

from sfm.errors import BadFile
from sfm.export.source import ExportSource
from sfm.match_graph import TriedPair
from sfm.storage.database import FeatureDatabase
from sfm.storage.hdf5_columns import Array, check_total, checked, child, reading, subgroup, writing
from sfm.storage.heap_check import CheckedFile
from sfm.storage.journal import replace_durably
from sfm.system.hashing import files_digest
from sfm.system.safe_paths import refuse_links
from sfm.system.untrusted_files import refuse_holes
from sfm.types import ImagePair, ImageRecord, KeypointMatches, Matches, StageSummary

_FIRST_CENTRE = np.float32(0.5)  # where COLMAP has the centre of the first pixel, px
_REMEDY = "write it again with hloc"
_BATCH = 64  # pairs


def hloc(source: ExportSource, dest: Path) -> Path:
    """features.h5, matches.h5 and pairs.txt of a run, in the folder that is returned. See write_hloc."""
    refuse_links(dest, ("features.h5", "matches.h5", "pairs.txt"))
    with source.database() as db:
        write_hloc(db, features=dest / "features.h5", matches=dest / "matches.h5", pairs=dest / "pairs.txt")
    return dest


def write_hloc(db: FeatureDatabase, *, features: Path, matches: Path, pairs: Path) -> None:
    """Write keypoints and keypoint matches as hloc's feature, match and pair files.

    MissingStage before the tracks stage. BadFile where a file cannot be written or the images'
    names are ambiguous in hloc's format.
    """
    records, all_keypoints, held = db.read_images(), db.read_keypoints(), db.read_keypoint_matches()
    _by_flat_name(records, matches)
    with writing(features), _replacing(features) as file:
        for record, keypoints in zip(records, all_keypoints, strict=True):
            group = file.create_group(record.name)
            group["keypoints"] = keypoints.xy - _FIRST_CENTRE
            group["scores"] = keypoints.score
            group["image_size"] = np.array([record.width, record.height], np.int64)
    counts = {record.name: len(k) for record, k in zip(records, all_keypoints, strict=True)}
    with writing(matches), _replacing(matches) as file:
        for match in held:
            group = file.create_group(f"{_flat(match.pair.name0)}/{_flat(match.pair.name1)}")
            group["matches0"], group["matching_scores0"] = _matches0(match, counts[match.pair.name0])
    _write_pairs(pairs, [match.pair for match in held])


def matcher_key(features: Path, matches: Path) -> str:
    """The key that imported matches are kept under: a digest of both files."""
    refuse_holes(features, matches)
    try:
        return f"hloc-{files_digest((features, matches))[:16]}"
    except OSError as error:
        raise BadFile(f"{error.filename or features}: cannot be read ({error.strerror}); check the path") from None


def import_hloc(db: FeatureDatabase, *, features: Path, matches: Path) -> StageSummary:
    """Take hloc's matches into the database, as pairs, matches and (absent) grids; the caller commits.

    The images must have been written before. A match's cells are its keypoints' numbers, so that
    tracks keep hloc's keypoints as they are. BadFile, in one line, where the files contradict
    themselves, each other or the images.
    """
    start, key = time.perf_counter(), matcher_key(features, matches)
    records = db.read_images()
    names, num_rows = [], 0
    with _opened(features) as feature_file, _opened(matches) as match_file:
        with reading(features, _REMEDY):
            keypoints = _read_keypoints(feature_file, records)
        found = _read_pairs(match_file, matches, _by_flat_name(records, matches), keypoints)
        while batch := list(islice(found, _BATCH)):
            db.write_matches(batch, matcher_key=key)
            names += [pair for pair, _ in batch]
            num_rows += sum(len(m) for _, m in batch)
    db.write_pairs(sorted(names))
    db.write_tried([TriedPair(pair) for pair in sorted(names)])
    db.write_grids({record.name: None for record in records})
    return StageSummary("matching", {"pairs": len(names), "matches": num_rows}, time.perf_counter() - start)


def _flat(name: str) -> str:
    return name.replace("/", "-")


def _by_flat_name(records: Sequence[ImageRecord], path: Path) -> dict[str, str]:
    """Image name by its name in match files; BadFile where two images would share one."""
    names: dict[str, str] = {}
    for record in records:
        other = names.setdefault(_flat(record.name), record.name)
        if other != record.name:
            raise BadFile(
                f"{path}: hloc's format does not distinguish {other} from {record.name}; rename one of the images"
            )
    return names


@contextmanager
def _replacing(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file that takes the path's place once it is whole."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    try:
        with h5py.File(temporary, "w") as file:
            yield file
        replace_durably(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_pairs(path: Path, pairs: Sequence[ImagePair]) -> None:
    """One pair a line, a space between; BadFile for names that hold white space themselves."""
    for pair in pairs:
        if len(f"{pair.name0} {pair.name1}".split()) != 2:
            raise BadFile(f"{path}: hloc cannot read names with spaces ({pair.name0} {pair.name1}); rename the images")
    with writing(path):
        path.write_text("".join(f"{pair.name0} {pair.name1}\n" for pair in pairs), encoding="utf-8")


def _matches0(match: KeypointMatches, num_keypoints: int) -> tuple[Array, Array]:
    """hloc's matches0 (N0,) i32, -1 for none, and matching_scores0 (N0,) f16."""
    matches0, scores0 = np.full(num_keypoints, -1, np.int32), np.zeros(num_keypoints, np.float16)
    matches0[match.indices[:, 0]] = match.indices[:, 1]
    scores0[match.indices[:, 0]] = match.score
    return matches0, scores0


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        disk = CheckedFile(path)
        file = h5py.File(disk, "r")
    except (OSError, OverflowError, SystemError):
        raise BadFile(f"{path}: not an HDF5 file that can be read; give a feature or match file of hloc") from None
    with disk, file:
        yield file


def _read_keypoints(file: h5py.File, records: Sequence[ImageRecord]) -> dict[str, Array]:
    """(N, 2) f32 px, our convention, of every image in the file; ValueError for what does not fit the images."""
    groups: set[str] = set()
    file.visititems(
        lambda name, _: groups.add(str(PurePosixPath(name).parent)) if name.endswith("/keypoints") else None
    )
    known = {record.name: record for record in records}
    if groups - known.keys():
        raise ValueError(f"no image named {min(groups - known.keys())!r}")
    keypoints = {}
    found = {name: _descend(file, name) for name in groups}
    check_total([checked(group, "keypoints") for group in found.values()])
    for name, group in found.items():
        keypoints[name] = _array(group, "keypoints", "fiu", (None, 2)).astype(np.float32) + _FIRST_CENTRE
        if child(group, "image_size") is not None:
            size = tuple(_array(group, "image_size", "iuf", (2,)).tolist())
            if size != (known[name].width, known[name].height):
                raise ValueError(f"{name}: made for {size} px, the image has {known[name].width, known[name].height}")
    return keypoints


def _descend(file: h5py.File, name: str) -> h5py.Group:
    group = file
    for part in PurePosixPath(name).parts:
        group = _members(group, part)
    return group


def _array(group: h5py.Group, name: str, kinds: str, shape: tuple[int | None, ...]) -> Array:
    """A checked dataset as an array; ValueError unless its kind is one of numpy's letters and its shape fits."""
    dataset = checked(group, name)
    fits = dataset.ndim == len(shape) and all(s in (None, n) for s, n in zip(shape, dataset.shape, strict=True))
    if dataset.dtype.kind not in kinds or not fits:
        raise ValueError(f"{dataset.name}: {dataset.dtype} of shape {dataset.shape}")
    array: Array = dataset[()]
    if dataset.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{dataset.name}: not finite")
    return array


def _read_pairs(
    file: h5py.File, path: Path, names: Mapping[str, str], keypoints: Mapping[str, Array]
) -> Iterator[tuple[ImagePair, Matches]]:
    """Every pair of the match file once; of (A, B) and (B, A) the one in order of names. BadFile for a broken one."""
    with reading(path, _REMEDY):
        directed = {(_name(names, a), _name(names, b)) for a in file for b in _members(file, a)}
    for name0, name1 in sorted(directed):
        if name0 == name1:
            raise BadFile(f"{path}: matches {name0} with itself; {_REMEDY}")
        if name0 > name1 and (name1, name0) in directed:
            continue
        with reading(path, _REMEDY):
            group = _descend(file, f"{_flat(name0)}/{_flat(name1)}")
            matches = _read_matches(group, name0, name1, keypoints)
            item = ImagePair.of(name0, name1), matches if name0 < name1 else _swapped(matches)
        yield item


def _members(file: h5py.Group, name: str) -> h5py.Group:
    group = subgroup(file, name)
    if group is None:
        raise ValueError(f"{name}: missing")
    return group


def _name(names: Mapping[str, str], flat: str) -> str:
    if flat not in names:
        raise ValueError(f"no image named {flat!r}, '/' written as '-'")
    return names[flat]


def _read_matches(group: h5py.Group, name0: str, name1: str, keypoints: Mapping[str, Array]) -> Matches:
    """Matches of one pair; semi-dense ones, with no cells, where keypoints were not aggregated yet."""
    if child(group, "matches0") is None and child(group, "keypoints0") is not None:
        points0, points1 = (_array(group, f"keypoints{i}", "f", (None, 2)) + _FIRST_CENTRE for i in (0, 1))
        none = np.full(len(points0), -1, np.int64)
        scores = _array(group, "scores", "f", (len(points0),))
        return Matches(points0, points1, np.clip(scores, 0, 1), none, none)
    matches0 = _array(group, "matches0", "iu", (None,)).astype(np.int64)
    scores0 = _array(group, "matching_scores0", "f", (len(matches0),))
    cells0 = np.flatnonzero(matches0 != -1)
    cells1 = matches0[cells0]
    missing = {name0, name1} - keypoints.keys()
    if missing and len(cells0):
        raise ValueError(f"{min(missing)}: has matches but no keypoints in the feature file")
    if len(cells0) == 0:
        return Matches.empty()
    xy0, xy1 = keypoints[name0], keypoints[name1]
    if len(matches0) > len(xy0) or cells1.min() < 0 or cells1.max() >= len(xy1):
        raise ValueError(f"{group.name}: keypoints beyond the {len(xy0)} and {len(xy1)} of the feature file")
    return Matches(xy0[cells0], xy1[cells1], np.clip(scores0[cells0], 0, 1), cells0, cells1)


def _swapped(matches: Matches) -> Matches:
    return Matches(matches.points1, matches.points0, matches.confidence, matches.cells1, matches.cells0)
