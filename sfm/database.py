"""The feature database: everything that stages pass to each other, in one HDF5 file (docs/database.md).

Pixels are COLMAP's, as in sfm.types. A stage writes its groups and commits; until then nothing of
it is on disk. `write_matches` is the exception: it is durable when it returns, so that hours of
matching survive a kill. A kill at any moment leaves the last commit (sfm.journal).
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import h5py
import numpy as np

from sfm.columns import (
    Array,
    Columns,
    check_below,
    check_offsets,
    offsets_of,
    read_columns,
    reading,
    subgroup,
    write_columns,
)
from sfm.errors import BadFile, MissingStage
from sfm.journal import FileLock, JournaledFile, replace_durably
from sfm.match_table import MatchTable
from sfm.types import (
    CameraPrior,
    ImagePair,
    ImageRecord,
    KeypointMatches,
    Keypoints,
    Matches,
    StageSummary,
    Tracks,
    TwoViewGeometry,
)

SCHEMA_VERSION = 1
_FORMAT = "loftr-sfm"
_LIBVER = ("v108", "v108")  # superblock 2: no "open for writing" flag that a killed process would leave behind
_REMEDY = "restore it from a copy, or delete it to start afresh"
_COMPACT_FROM = 16 << 20  # bytes of dead space

# I images, P pairs, N keypoints of all images, K rows of all pairs, T tracks, O observations, G grids
SCHEMA: dict[str, Columns] = {
    "images": {
        "name": ("str", ("I",)),
        "digest": ("str", ("I",)),
        "size": ("i4", ("I", 2)),  # width, height, px
        "camera_model": ("str", ("I",)),
        "camera_group": ("str", ("I",)),
        "has_focal_prior": ("u1", ("I",)),
        "params_offsets": ("i8", ("I+1",)),
        "params": ("f8", ("p",)),  # px, COLMAP's order
    },
    "pairs": {"image_idx": ("u4", ("P", 2))},
    "grids": {"image_idx": ("u4", ("G",)), "grid": ("f8", ("G", 3))},  # cell width, height px, columns; NaN: none
    "two_view": {
        "image_idx": ("u4", ("P", 2)),
        "kind": ("str", ("P",)),
        "inlier_offsets": ("i8", ("P+1",)),
        "inliers": ("u4", ("K",)),
        "cam1_from_cam0": ("f8", ("P", 3, 4)),  # NaN: none
        "F": ("f8", ("P", 3, 3)),  # NaN: none
    },
    "keypoints": {"offsets": ("i8", ("I+1",)), "xy": ("f4", ("N", 2)), "score": ("f4", ("N",))},
    "keypoint_matches": {
        "image_idx": ("u4", ("P", 2)),
        "offsets": ("i8", ("P+1",)),
        "indices": ("u4", ("K", 2)),
        "score": ("f4", ("K",)),
    },
    "tracks": {"offsets": ("i8", ("T+1",)), "image_idx": ("u4", ("O",)), "keypoint_idx": ("u4", ("O",))},
}
# the stage that makes each group
STAGE_OF = {
    "images": "images",
    "pairs": "pairs",
    "grids": "matching",
    "matches": "matching",
    "two_view": "verification",
    "keypoints": "tracks",
    "keypoint_matches": "tracks",
    "tracks": "tracks",
}


class FeatureDatabase:
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
            if mode == "a" and not path.exists():
                _create(path)
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
        try:
            self._disk = JournaledFile(self.path, committed_size=self._committed_size, writable=self.mode == "a")
        except OSError as error:
            raise BadFile(f"{self.path}: cannot be opened ({error.strerror}); check its permissions") from None
        try:
            with reading(self.path, _REMEDY):
                self._h5 = h5py.File(self._disk, "r+" if self.mode == "a" else "r", libver=_LIBVER)
                self._check_schema()
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

    def _committed_size(self, head: bytes, size: int) -> int:
        """End of the file by HDF5's superblock (version 2, 8-byte addresses)."""
        if head[:8] != b"\x89HDF\r\n\x1a\n" or head[8] != 2 or head[9] != 8:
            raise BadFile(f"{self.path}: not a feature database of this program; {_REMEDY}")
        end: int = struct.unpack_from("<Q", head, 28)[0]
        if end > size:
            raise BadFile(f"{self.path}: truncated ({size} of {end} bytes); {_REMEDY}")
        return end

    def _check_schema(self) -> None:
        found = self._h5.attrs.get("format"), int(self._h5.attrs.get("schema", 0))
        if found != (_FORMAT, SCHEMA_VERSION):
            raise BadFile(
                f"{self.path}: {found[0]} schema {found[1]}, this program reads {_FORMAT} schema {SCHEMA_VERSION}; "
                "use the version that wrote it, or delete it to start afresh"
            )

    def _load_images(self) -> None:
        self._images: tuple[ImageRecord, ...] = ()
        if (group := subgroup(self._h5, "images")) is not None:
            self._images = _images_from(read_columns(group, SCHEMA["images"]))
        self._rows = {record.name: i for i, record in enumerate(self._images)}
        self._digests = {record.name: record.digest for record in self._images}

    # stages

    def fingerprint(self, stage: str) -> str | None:
        """Fingerprint that the stage was committed with; None where it is not committed."""
        value = self._stage_json(stage).get("fingerprint")
        return None if value is None else str(value)

    def summary(self, stage: str) -> StageSummary | None:
        """Summary that the stage was committed with; None where it is not committed."""
        value = self._stage_json(stage).get("summary")
        with reading(self.path, _REMEDY):
            return value and StageSummary(**{**value, "skipped": tuple((str(n), str(r)) for n, r in value["skipped"])})

    def provenance(self, stage: str) -> dict[str, Any]:
        """What the stage's data were made with, as it was given to `commit`; empty where not committed."""
        return dict(self._stage_json(stage).get("provenance", {}))

    def stages(self) -> tuple[str, ...]:
        """Names of the committed stages, sorted."""
        with reading(self.path, _REMEDY):
            group = subgroup(self._h5, "stages")
            return tuple(sorted(group.attrs)) if group is not None else ()

    def _stage_json(self, stage: str) -> dict[str, Any]:
        with reading(self.path, _REMEDY):
            group = subgroup(self._h5, "stages")
            text = group.attrs.get(stage) if group is not None else None
            value = json.loads(text) if text is not None else {}
            if not isinstance(value, dict):
                raise ValueError(f"stage {stage}: not an object")
            return value

    def commit(self, stage: str, *, fingerprint: str, provenance: Mapping[str, Any], summary: StageSummary) -> None:
        """Make the stage's data durable together with what they were made with (JSON values)."""
        value = {"fingerprint": fingerprint, "provenance": dict(provenance), "summary": asdict(summary)}
        self._h5.require_group("stages").attrs[stage] = json.dumps(value)
        self._sync()
        self._compact()

    def invalidate(self, stage: str) -> None:
        """Forget that the stage was committed. Its data stay until they are written again."""
        if stage in self.stages():
            del self._h5["stages"].attrs[stage]
            self._sync()

    def _sync(self) -> None:
        self._h5.flush()
        self._disk.commit()

    # groups

    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        """Replace a group; the commit of its stage no longer holds."""
        if name in self._h5:
            del self._h5[name]
        write_columns(self._h5.create_group(name), SCHEMA[name], values)
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

    def _pair(self, row: Sequence[int]) -> ImagePair:
        return ImagePair(self._images[row[0]].name, self._images[row[1]].name)

    def _pair_rows(self, pairs: Sequence[ImagePair]) -> Array:
        """(P, 2) u32 row numbers; ValueError for an image that the database does not hold."""
        unknown = {n for p in pairs for n in (p.name0, p.name1)} - self._rows.keys()
        if unknown:
            raise ValueError(f"{self.path}: no image named {min(unknown)!r}")
        return np.array([(self._rows[p.name0], self._rows[p.name1]) for p in pairs], np.uint32).reshape(-1, 2)

    def write_images(self, records: Sequence[ImageRecord]) -> None:
        """Write the photos, sorted by name. Other photos than before: groups that number them are dropped."""
        records = sorted(records, key=lambda r: r.name)
        names = [r.name for r in records]
        if len(set(names)) < len(names):
            raise ValueError(f"{self.path}: two images of one name")
        if [(r.name, r.digest) for r in records] != list(self._digests.items()):
            for name in self._h5.keys() & (SCHEMA.keys() - {"images"}):
                del self._h5[name]
        self._write("images", _images_columns(records))
        self._load_images()
        self._matches.use_images(self._digests)

    def read_images(self) -> tuple[ImageRecord, ...]:
        """The photos, sorted by name."""
        if "images" not in self._h5:
            raise MissingStage(f"{self.path}: holds no images yet; run the stage 'images' first")
        return self._images

    def write_pairs(self, pairs: Sequence[ImagePair]) -> None:
        """Write which photos are to be matched, in the order given."""
        self._write("pairs", {"image_idx": self._pair_rows(pairs)})

    def read_pairs(self) -> tuple[ImagePair, ...]:
        """The pairs, in the order written."""
        with reading(self.path, _REMEDY):
            return tuple(self._pair(row) for row in self._read("pairs")["image_idx"].tolist())

    def write_matches(self, batch: Sequence[tuple[ImagePair, Matches]], *, matcher_key: str) -> None:
        """Add or replace the matches of some pairs; durable when it returns. Others are not touched.

        matcher_key: digest of all that the matches depend on besides the photos. It becomes the key
        that `read_matches` reads.
        """
        self._pair_rows([pair for pair, _ in batch])
        self._matches.append(batch, matcher_key)
        self._sync()

    def matched_pairs(self, matcher_key: str) -> frozenset[ImagePair]:
        """Pairs whose matches by this matcher are held and fit the photos as they are now.

        In mode "a" the key becomes the one that `read_matches` reads (kept with the next commit).
        """
        if self.mode == "a":
            self._matches.select(matcher_key)
        return self._matches.pairs(matcher_key)

    def read_matches(self, pair: ImagePair) -> Matches:
        """Matches of a pair by the current matcher; MissingStage where they are not held."""
        with reading(self.path, _REMEDY):
            matches = self._matches.read(pair)
        if matches is None:
            raise MissingStage(f"{self.path}: holds no matches of {pair.name0} and {pair.name1}; run 'matching' first")
        return matches

    def write_grids(self, grids: Mapping[str, tuple[float, float, int] | None]) -> None:
        """Write Matcher.grid of each image, by name: (cell width px, cell height px, columns), None for none."""
        values = [(np.nan,) * 3 if grid is None else grid for grid in grids.values()]
        self._write(
            "grids", {"image_idx": [self._rows[n] for n in grids], "grid": np.array(values, np.float64).reshape(-1, 3)}
        )

    def read_grids(self) -> dict[str, tuple[float, float, int] | None]:
        """Matcher.grid by image name."""
        with reading(self.path, _REMEDY):
            columns = self._read("grids")
            rows = zip(columns["image_idx"].tolist(), columns["grid"].tolist(), strict=True)
            return {self._images[i].name: None if w != w else (w, h, int(c)) for i, (w, h, c) in rows}

    def write_two_view(self, geometries: Sequence[TwoViewGeometry]) -> None:
        """Write the verified pairs, in the order given."""
        self._write(
            "two_view",
            {
                "image_idx": self._pair_rows([g.pair for g in geometries]),
                "kind": [g.kind for g in geometries],
                "inlier_offsets": offsets_of([len(g.inliers) for g in geometries]),
                "inliers": _stack([g.inliers for g in geometries], ()),
                "cam1_from_cam0": _optional([g.cam1_from_cam0 for g in geometries], (3, 4)),
                "F": _optional([g.F for g in geometries], (3, 3)),
            },
        )

    def read_two_view(self) -> tuple[TwoViewGeometry, ...]:
        """The verified pairs, in the order written."""
        with reading(self.path, _REMEDY):
            c = self._read("two_view")
            inliers = _split(c["inliers"], c["inlier_offsets"], "two_view")
            poses, fundamentals = c["cam1_from_cam0"], c["F"]
            return tuple(
                TwoViewGeometry(
                    pair=self._pair(row),
                    inliers=inliers[i],
                    kind=str(c["kind"][i]),
                    cam1_from_cam0=None if np.isnan(poses[i]).any() else poses[i],
                    F=None if np.isnan(fundamentals[i]).any() else fundamentals[i],
                )
                for i, row in enumerate(c["image_idx"].tolist())
            )

    def write_keypoints(self, keypoints: Sequence[Keypoints]) -> None:
        """Write the keypoints of every image, in image order."""
        if len(keypoints) != len(self._images):
            raise ValueError(f"{self.path}: {len(keypoints)} keypoint lists for {len(self._images)} images")
        self._write(
            "keypoints",
            {
                "offsets": offsets_of([len(k) for k in keypoints]),
                "xy": _stack([k.xy for k in keypoints], (2,)),
                "score": _stack([k.score for k in keypoints], ()),
            },
        )

    def read_keypoints(self) -> tuple[Keypoints, ...]:
        """Keypoints of every image, in image order."""
        with reading(self.path, _REMEDY):
            c = self._read("keypoints")
            xy, score = (_split(c[name], c["offsets"], "keypoints") for name in ("xy", "score"))
            if len(xy) != len(self._images):
                raise ValueError(f"keypoints of {len(xy)} images, there are {len(self._images)}")
            return tuple(Keypoints(*both) for both in zip(xy, score, strict=True))

    def write_keypoint_matches(self, matches: Sequence[KeypointMatches]) -> None:
        """Write the one-to-one matches between keypoints, in the order given."""
        self._write(
            "keypoint_matches",
            {
                "image_idx": self._pair_rows([m.pair for m in matches]),
                "offsets": offsets_of([len(m.indices) for m in matches]),
                "indices": _stack([m.indices for m in matches], (2,)),
                "score": _stack([m.score for m in matches], ()),
            },
        )

    def read_keypoint_matches(self) -> tuple[KeypointMatches, ...]:
        """The one-to-one matches between keypoints, in the order written."""
        with reading(self.path, _REMEDY):
            c = self._read("keypoint_matches")
            image_idx = c["image_idx"]
            lengths = np.repeat(image_idx, np.diff(c["offsets"]), axis=0)
            indices, score = (_split(c[name], c["offsets"], "keypoint_matches") for name in ("indices", "score"))
            self._check_keypoint_idx(lengths, c["indices"])
            rows = zip(image_idx.tolist(), indices, score, strict=True)
            return tuple(KeypointMatches(self._pair(row), idx, s) for row, idx, s in rows)

    def write_tracks(self, tracks: Tracks) -> None:
        """Write the tracks."""
        self._write("tracks", {name: getattr(tracks, name) for name in SCHEMA["tracks"]})

    def read_tracks(self) -> Tracks:
        """The tracks."""
        with reading(self.path, _REMEDY):
            c = self._read("tracks")
            self._check_keypoint_idx(c["image_idx"], c["keypoint_idx"])
            return Tracks(c["offsets"], c["image_idx"], c["keypoint_idx"])

    def _check_keypoint_idx(self, image_idx: Array, keypoint_idx: Array) -> None:
        """ValueError unless every index is a keypoint of its image (both of one shape)."""
        counts = np.diff(self._read("keypoints")["offsets"])
        if len(counts) != len(self._images) or (keypoint_idx >= counts[image_idx]).any():
            raise ValueError("keypoint index beyond the keypoints of its image")

    # space

    def _compact(self) -> None:
        """Copy what is alive into a new file where more than half of the file is dead."""
        size = self.path.stat().st_size
        alive = self._matches.nbytes_alive() + sum(_nbytes(self._h5[n]) for n in self._h5.keys() - {"matches"})
        if size - alive < max(_COMPACT_FROM, size // 2):
            return
        temporary = self.path.with_name(self.path.name + ".new")
        with h5py.File(temporary, "w", libver=_LIBVER) as new:
            new.attrs.update(self._h5.attrs)
            for name in self._h5.keys() - {"matches"}:
                self._h5.copy(name, new)
            self._matches.copy_alive(new)
        self._unload()
        replace_durably(temporary, self.path)
        self._load()


def _create(path: Path) -> None:
    temporary = path.with_name(path.name + ".new")
    try:
        with h5py.File(temporary, "w", libver=_LIBVER) as file:
            file.attrs.update({"format": _FORMAT, "schema": SCHEMA_VERSION})
        replace_durably(temporary, path)
    except OSError as error:
        raise BadFile(f"{path}: cannot be written ({os.strerror(error.errno or 0)}); choose another folder") from None


def _nbytes(group: h5py.Group) -> int:
    return sum(int(d.id.get_storage_size()) for d in group.values())


def _stack(arrays: Sequence[Array], trailing: tuple[int, ...]) -> Array:
    return np.concatenate([np.zeros((0, *trailing), arrays[0].dtype), *arrays]) if arrays else np.zeros((0, *trailing))


def _split(values: Array, offsets: Array, what: str) -> list[Array]:
    check_offsets(offsets, len(values), what)
    return [values[a:b] for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]


def _optional(matrices: Sequence[Array | None], shape: tuple[int, int]) -> Array:
    filled = [np.full(shape, np.nan) if m is None else m for m in matrices]
    return np.stack(filled) if filled else np.zeros((0, *shape))


def _images_columns(records: Sequence[ImageRecord]) -> dict[str, Any]:
    return {
        "name": [r.name for r in records],
        "digest": [r.digest for r in records],
        "size": np.array([(r.width, r.height) for r in records], np.int32).reshape(-1, 2),
        "camera_model": [r.camera.model for r in records],
        "camera_group": [r.camera.group for r in records],
        "has_focal_prior": [r.camera.has_focal_prior for r in records],
        "params_offsets": offsets_of([len(r.camera.params) for r in records]),
        "params": _stack([r.camera.params for r in records], ()),
    }


def _images_from(c: Mapping[str, Array]) -> tuple[ImageRecord, ...]:
    params = _split(c["params"], c["params_offsets"], "images")
    names = c["name"].tolist()
    if names != sorted(set(names)):
        raise ValueError("images: names are not sorted and unique")
    return tuple(
        ImageRecord(
            name=str(c["name"][i]),
            width=int(c["size"][i, 0]),
            height=int(c["size"][i, 1]),
            camera=CameraPrior(
                str(c["camera_model"][i]), params[i], bool(c["has_focal_prior"][i]), str(c["camera_group"][i])
            ),
            digest=str(c["digest"][i]),
        )
        for i in range(len(params))
    )
