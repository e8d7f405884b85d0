"""The feature database: everything that stages pass to each other, in one HDF5 file (docs/database.md).

Pixels are COLMAP's, as in sfm.types. A stage writes its groups and commits; until then nothing of
it is on disk. `write_matches` is the exception: it is durable when it returns, so that hours of
matching survive a kill. A kill at any moment leaves the last commit (sfm.storage.journal).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import h5py
import numpy as np

from sfm.errors import BadFile, MissingStage
from sfm.finders import Finder
from sfm.storage import copied, schema, verified_parts
from sfm.storage.database_file import LIBVER, REMEDY, check_schema, committed_size, create, new_path
from sfm.storage.hdf5_columns import (
    Array,
    check_below,
    check_no_links,
    read_columns,
    reading,
    subgroup,
    write_columns,
    writing,
)
from sfm.storage.journal import JournaledFile, replace_durably
from sfm.storage.match_table import MatchTable
from sfm.storage.pair_groups import PairGroups
from sfm.storage.schema import GRIDS, SCHEMA, STAGE_OF
from sfm.storage.stage_records import StageRecords
from sfm.system.file_lock import FileLock
from sfm.system.untrusted_files import refuse_holes
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

COMPACT_FROM = 16 << 20  # bytes of dead space


class FeatureDatabase(StageRecords, PairGroups):
    """One open database; a context manager. One writer or many readers at a time, one thread each."""

    def __init__(self, path: Path, mode: Literal["r", "a"], lock: FileLock) -> None:
        self.path, self.mode, self._lock = path, mode, lock
        self._load()

    @classmethod
    def open(cls, path: Path, mode: Literal["r", "a"] = "a") -> FeatureDatabase:
        """Open a database; "a" creates it where absent. BadFile where it is absent ("r"), in use or not ours."""
        path = Path(path)
        if mode == "r" and not path.is_file():
            raise BadFile(f"{path}: no such database; run the reconstruction first")
        try:
            lock = FileLock(path, exclusive=mode == "a")
        except OSError as error:
            raise BadFile(f"{path}: cannot be written ({error.strerror}); choose another folder") from None
        try:
            if mode == "a":
                new_path(path).unlink(missing_ok=True)
                if not path.exists():
                    create(path)
            refuse_holes(path)
            return cls(path, mode, lock)
        except BaseException:
            lock.release()
            raise

    def __enter__(self) -> FeatureDatabase:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. What was not committed is forgotten."""
        self._unload()
        self._lock.release()

    def _load(self) -> None:
        self._failed = False
        try:
            size_of = partial(committed_size, self.path)
            self._disk = JournaledFile(self.path, committed_size=size_of, writable=self.mode == "a")
        except OSError as error:
            raise BadFile(f"{self.path}: cannot be opened ({error.strerror}); check its permissions") from None
        try:
            with reading(self.path, REMEDY):
                self._h5 = h5py.File(self._disk, "r+" if self.mode == "a" else "r", libver=LIBVER)
                check_schema(self.path, self._h5)
                check_no_links(self._h5)
                self._load_images()
                self._matches = MatchTable(self._h5, self._digests)
        except BaseException:
            self._unload()
            raise

    def _unload(self) -> None:
        try:
            if hasattr(self, "_h5") and self._h5:
                self._h5.close()
        except (OSError, RuntimeError):
            pass  # a full disk: what HDF5 could not flush was not committed
        finally:
            self._disk.close()

    def _load_images(self) -> None:
        groups = {name: subgroup(self._h5, name) for name in schema.IMAGE_GROUPS}
        found = {name: read_columns(group, SCHEMA[name]) for name, group in groups.items() if group is not None}
        self._set_images(schema.image_records(found))

    def _set_images(self, records: tuple[ImageRecord, ...]) -> None:
        self._images = records
        self._names = [record.name for record in records]
        self._rows = {record.name: i for i, record in enumerate(self._images)}
        self._digests = {record.name: record.digest for record in self._images}

    # stages

    def commit(self, stage: str, *, fingerprint: str, provenance: Mapping[str, Any], summary: StageSummary) -> None:
        """Make the stage's data durable together with what they were made with (JSON values)."""
        text = json.dumps({"fingerprint": fingerprint, "provenance": dict(provenance), "summary": asdict(summary)})
        with self._writing():
            self._h5.require_group("stages").attrs[stage] = text
        self._sync()
        self._compact()

    def invalidate(self, stage: str) -> None:
        """Forget that the stage was committed. Its data stay until they are written again."""
        if stage in self.stages():
            with self._writing():
                del self._h5["stages"].attrs[stage]
            self._sync()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A write that fails or is interrupted half way is never committed afterwards."""
        if self._failed:
            raise BadFile(f"{self.path}: an earlier write failed; open the database again")
        self._failed = True
        with writing(self.path):
            yield
        self._failed = False

    def _sync(self) -> None:
        with self._writing():
            self._h5.flush()
            self._disk.commit()

    # groups

    def _write(self, name: str, values: Mapping[str, Any], attributes: Mapping[str, Any] | None = None) -> None:
        """Replace a group; the commit of its stage no longer holds."""
        with self._writing():
            if name in self._h5:
                del self._h5[name]
            group = self._h5.create_group(name)
            write_columns(group, SCHEMA[name], values)
            group.attrs.update(attributes or {})
            if STAGE_OF[name] in self.stages():
                del self._h5["stages"].attrs[STAGE_OF[name]]

    def _read(self, name: str) -> dict[str, Array]:
        """A group's columns, with row numbers of images checked; MissingStage where nobody wrote it."""
        group = subgroup(self._h5, name)
        if group is None:
            raise MissingStage(f"{self.path}: holds no {name} yet; run the stage '{STAGE_OF[name]}' first")
        columns = read_columns(group, SCHEMA[name])
        if "image_idx" in columns:
            check_below(columns["image_idx"], len(self._images), f"{name}/image_idx")
        return columns

    def _has(self, name: str) -> bool:
        return name in self._h5

    def _attributes(self, name: str) -> Mapping[str, Any]:
        attributes: Mapping[str, Any] = self._h5[name].attrs
        return attributes

    def write_images(self, records: Sequence[ImageRecord]) -> None:
        """Write the images, sorted by name. Other images than before: groups that number them are dropped."""
        records = sorted(records, key=lambda r: r.name)
        if len({r.name for r in records}) < len(records):
            raise ValueError("two images of one name")
        if [(r.name, r.digest) for r in records] != list(self._digests.items()):
            with self._writing():
                for name in self._h5.keys() & (SCHEMA.keys() - {"images"}):
                    del self._h5[name]
        for name, columns in schema.image_groups(records, self._h5.keys()).items():
            self._write(name, columns)
        self._set_images(tuple(records))
        self._matches.use_images(self._digests)

    def read_images(self) -> tuple[ImageRecord, ...]:
        """The images, sorted by name."""
        if "images" not in self._h5:
            raise MissingStage(f"{self.path}: holds no images yet; run the stage 'images' first")
        return self._images

    def write_copies(self, copies: Mapping[str, str]) -> None:
        """Write which files are copies of images: the images' names by those of the copies."""
        self._write("copies", copied.copies_columns(copies, self._rows))

    def read_copies(self) -> dict[str, str]:
        """The names of images, by those of the files that are copies of them; empty in older databases."""
        with reading(self.path, REMEDY):
            return copied.copies(self._read("copies"), self._names) if "copies" in self._h5 else {}

    def write_matches(self, batch: Sequence[tuple[ImagePair, Matches]], *, matcher_key: str) -> None:
        """Add or replace the matches of some pairs; durable when it returns. Others are not touched.

        matcher_key: digest of all that the matches depend on besides the images. It becomes the key
        that `read_matches` reads. ValueError for a pair of unknown images.
        """
        schema.pair_rows([pair for pair, _ in batch], self._rows)
        with self._writing():
            self._matches.append(batch, matcher_key)
        self._sync()

    def matched_pairs(self, matcher_key: str) -> frozenset[ImagePair]:
        """Pairs whose matches by this matcher are held and fit the images as they are now."""
        return self._matches.pairs(matcher_key)

    def use_matcher(self, matcher_key: str, *others: str) -> None:
        """Make a matcher the current one, whose matches the later stages read, with those of others beside it; durable
        with the next commit. Nothing changes where no matches by the first are held.
        """
        with self._writing():
            self._matches.select(matcher_key, *others)

    def read_matches(self, pair: ImagePair, *, matcher_key: str | None = None) -> Matches:
        """Matches of a pair by a matcher, None for the current ones; MissingStage where they are not held."""
        with reading(self.path, REMEDY):
            matches = self._matches.read(pair, matcher_key)
        if matches is None:
            raise MissingStage(f"{self.path}: holds no matches of {pair.name0} and {pair.name1}; run 'matching' first")
        return matches

    def match_counts(self) -> dict[ImagePair, int]:
        """Number of matches of each pair, of those that `read_matches` reads."""
        return self._matches.counts()

    def held_matches(self) -> tuple[tuple[str, int, int, bool], ...]:
        """For each matcher key: (key, pairs that fit the images as they are now, their rows, is it the current)."""
        return tuple(self._matches.describe())

    def write_grids(
        self, grids: Mapping[str, Grid | None], *, traits: MatcherTraits | None = None, others: Sequence[Finder] = ()
    ) -> None:
        """Write Matcher.grid of each image, by name, None for none, and the traits; others: of matchers beside it."""
        for name, own in zip(GRIDS, ((grids, traits), *((each.grids, each.traits) for each in others)), strict=False):
            self._write(name, schema.grids_columns(own[0], self._rows), schema.grids_attributes(*own))
        with self._writing():
            for name in set(GRIDS[1 + len(others) :]).intersection(self._h5.keys()):
                del self._h5[name]

    def read_grids(self) -> dict[str, Grid | None]:
        """Matcher.grid by image name, of the first matcher."""
        return dict(self.read_finders()[0].grids)

    def read_traits(self) -> MatcherTraits:
        """Matcher.traits of the first matcher that the matches are of; of a file without them, what its grids say."""
        return self.read_finders()[0].traits

    def read_finders(self) -> tuple[Finder, ...]:
        """The matchers that the matches are of, as their rows number them."""
        present = [name for name in GRIDS[1:] if name in self._h5]
        with reading(self.path, REMEDY):
            if present != list(GRIDS[1 : 1 + len(present)]):
                raise ValueError(f"{present[0]} without those before it")
            read = [(self._read(name), self._h5[name].attrs) for name in (GRIDS[0], *present)]
            return tuple(Finder(schema.grids(c, self._names, own), schema.traits(c, own)) for c, own in read)

    def write_two_view(self, geometries: Sequence[TwoViewGeometry], *, lenses: Sequence[CameraPrior] = ()) -> None:
        """Write the verified pairs, in the order given. lenses: cameras that the matches showed."""
        columns = schema.two_view_columns(geometries, self._rows)
        self._write("two_view", columns, schema.lenses_attributes(lenses))
        with self._writing():
            verified_parts.drop(self._h5)

    def keep_verified(self, geometries: Sequence[TwoViewGeometry], *, key: str) -> None:
        """Add pairs to those that an unfinished verification has done; durable when it returns."""
        columns = schema.two_view_columns(geometries, self._rows)
        with self._writing():
            verified_parts.append(self._h5, columns, key)
        self._sync()

    def verified_so_far(self, key: str) -> tuple[TwoViewGeometry, ...]:
        """Pairs that were kept with this key, the digest of what their verification depends on."""
        with reading(self.path, REMEDY):
            parts = verified_parts.read(self._h5, key, len(self._images))
            return tuple(geometry for part in parts for geometry in schema.two_view(part, self._names))

    def read_two_view(self) -> tuple[TwoViewGeometry, ...]:
        """The verified pairs, in the order written."""
        with reading(self.path, REMEDY):
            return schema.two_view(self._read("two_view"), self._names)

    def read_lenses(self) -> dict[str, CameraPrior]:
        """By camera group the cameras that were found with the verified pairs; none in an older file."""
        with reading(self.path, REMEDY):
            self._read("two_view")
            return schema.lenses(self._h5["two_view"].attrs)

    def write_keypoints(self, keypoints: Sequence[Keypoints]) -> None:
        """Write the keypoints of every image, in image order."""
        if len(keypoints) != len(self._images):
            raise ValueError(f"{len(keypoints)} lists of keypoints for {len(self._images)} images")
        self._write("keypoints", schema.keypoints_columns(keypoints))

    def read_keypoints(self) -> tuple[Keypoints, ...]:
        """Keypoints of every image, in image order."""
        with reading(self.path, REMEDY):
            keypoints = schema.keypoints(self._read("keypoints"))
            if len(keypoints) != len(self._images):
                raise ValueError(f"keypoints of {len(keypoints)} images, there are {len(self._images)}")
            return keypoints

    def write_keypoint_matches(self, matches: Sequence[KeypointMatches]) -> None:
        """Write the one-to-one matches between keypoints, in the order given."""
        self._write("keypoint_matches", schema.keypoint_matches_columns(matches, self._rows))

    def read_keypoint_matches(self) -> tuple[KeypointMatches, ...]:
        """The one-to-one matches between keypoints, in the order written."""
        with reading(self.path, REMEDY):
            c = self._read("keypoint_matches")
            matches = schema.keypoint_matches(c, self._names)
            schema.check_matched_keypoints(c["image_idx"], c["offsets"], c["indices"], self._keypoint_counts())
            return matches

    def write_tracks(self, tracks: Tracks) -> None:
        """Write the tracks."""
        self._write("tracks", {name: getattr(tracks, name) for name in SCHEMA["tracks"]})

    def read_tracks(self) -> Tracks:
        """The tracks."""
        with reading(self.path, REMEDY):
            c = self._read("tracks")
            schema.check_keypoint_idx(c["image_idx"], c["keypoint_idx"], self._keypoint_counts())
            return Tracks(**c)

    def _keypoint_counts(self) -> Array:
        """(I,) i64 number of keypoints of every image."""
        return np.array([len(k) for k in self.read_keypoints()], np.int64)

    # space

    def _compact(self) -> None:
        """Copy what is alive into a new file where more than half of the file is dead."""
        size = self.path.stat().st_size
        if size - self._nbytes_alive() < max(COMPACT_FROM, size // 2):
            return
        temporary = new_path(self.path)
        with self._writing():
            with h5py.File(temporary, "w", libver=LIBVER) as new:
                new.attrs.update(self._h5.attrs)
                for name in self._h5.keys() - {"matches"}:
                    self._h5.copy(name, new)
                self._matches.copy_alive(new)
            self._unload()
            replace_durably(temporary, self.path)
        self._load()

    def _nbytes_alive(self) -> int:
        with reading(self.path, REMEDY):
            groups = [self._h5[name] for name in self._h5.keys() - {"matches"}]
            sizes = [int(g[name].id.get_storage_size()) for g in groups for name in g]
        return self._matches.nbytes_alive() + sum(sizes)
