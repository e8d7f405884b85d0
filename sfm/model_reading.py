"""COLMAP models from anywhere, as pycolmap reads them, after a look at what the files declare.

COLMAP's reader trusts its files: of a count that is not true it allocates and reads on until memory or patience end,
and of a number that refers to nothing it may end the process. So a binary model is walked through first, in the
layout of COLMAP's documentation (colmap.github.io/format.html#binary-file-format, and src/colmap/scene/
reconstruction_io_binary.cc for rigs and frames), and a text model's numbers are looked at, at the cost of a part of
the time that pycolmap takes itself.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from sfm.colmap_log import quiet
from sfm.errors import BadFile

STEMS = ("cameras", "images", "points3D")
RIG_STEMS = ("rigs", "frames")  # since COLMAP 3.12
_NO_POINT = np.uint64(2**64 - 1)
_COUNT, _ID = struct.Struct("<Q"), struct.Struct("<I")
_CAMERA = struct.Struct("<IiQQ")  # id, model, width, height
_IMAGE_BYTES, _POSE_BYTES = 64, 56  # id, pose, camera id; pose alone
_POINT_BYTES = 43  # id, xyz, colour, error
_MAX_NAME = 4096  # bytes
_MAX_SIDE = 1 << 24  # px
_MAX_SENSORS = 1 << 16


def read_reconstruction(folder: Path, remedy: str = "write it again") -> pycolmap.Reconstruction:
    """The model in a folder, binary where it has both kinds. BadFile in one line where there is none that is whole."""
    check_model(folder, remedy)
    try:
        with quiet():
            model = pycolmap.Reconstruction(str(folder))
        _check_finite(model)
    except Exception as error:  # pycolmap raises many unrelated types
        raise BadFile(f"{folder}: not a readable COLMAP model ({_one_line(error)}); {remedy}") from None
    return model


def check_model(folder: Path, remedy: str = "write it again") -> None:
    """BadFile unless a folder holds a model whose files are as long as they say and refer to what is there."""
    for suffix, check in ((".bin", _check_binary), (".txt", _check_text)):
        if all((folder / f"{stem}{suffix}").is_file() for stem in STEMS):
            try:
                return check(folder)
            except OSError as error:
                raise BadFile(f"{folder}: cannot be read ({error.strerror}); check its files") from None
            except (ValueError, OverflowError, struct.error) as error:
                raise BadFile(f"{folder}: not a readable COLMAP model ({_one_line(error)}); {remedy}") from None
    raise BadFile(f"{folder}: is no COLMAP model; give a folder with cameras, images and points3D (.bin or .txt)")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _check_finite(model: pycolmap.Reconstruction) -> None:
    for image_id in model.reg_image_ids():
        image = model.image(image_id)
        if not np.isfinite(image.cam_from_world().matrix()).all():
            raise ValueError(f"image {image.name} has no finite pose")


# --- what the numbers of a model refer to ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Images:
    """num_points: keypoints by image id. point_ids: (N,) u64, the points that keypoints belong to."""

    num_points: dict[int, int]
    cameras: set[int]
    point_ids: NDArray[np.uint64]


def _check_references(
    cameras: set[int], images: _Images, point_ids: NDArray[np.uint64], track: NDArray[np.uint64]
) -> None:
    """ValueError where an id stands for nothing. track: (O, 2), image id and keypoint of every observation."""
    if images.cameras - cameras:
        raise ValueError(f"images: no camera {min(images.cameras - cameras)}")
    if len(np.unique(point_ids)) < len(point_ids):
        raise ValueError("points3D: two points of one id")
    if not np.isin(images.point_ids[images.point_ids != _NO_POINT], point_ids).all():
        raise ValueError("images: a keypoint of a point that is not there")
    ids = np.array(sorted(images.num_points), np.uint64)
    num = np.array([images.num_points[int(i)] for i in ids], np.uint64)
    row = np.minimum(np.searchsorted(ids, track[:, 0]), max(len(ids) - 1, 0))
    if len(track) and (not len(ids) or (ids[row] != track[:, 0]).any() or (track[:, 1] >= num[row]).any()):
        raise ValueError("points3D: an observation of a keypoint that is not there")


# --- binary ---------------------------------------------------------------------------------------


class _Bytes:
    """A binary file walked through from its begin; ValueError where it ends before what it declares."""

    def __init__(self, path: Path, data: bytes | mmap.mmap) -> None:
        self.name, self.data, self.size, self.at = path.name, data, len(data), 0

    def skip(self, num: int) -> int:
        """Go over so many bytes; where they begin."""
        start = self.at
        if num > self.size - start:
            raise ValueError(f"{self.name}: ends before what it declares")
        self.at = start + num
        return start

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        return layout.unpack_from(self.data, self.skip(layout.size))

    def count(self, least: int) -> int:
        """A count of things of at least so many bytes each."""
        (num,) = self.unpack(_COUNT)
        if num * least > self.size - self.at:
            raise ValueError(f"{self.name}: declares {num} entries, more than it can hold")
        return num

    def text(self) -> bytes:
        """A name up to its NUL."""
        end = self.data.find(b"\0", self.at, self.at + _MAX_NAME)
        if end < 0:
            raise ValueError(f"{self.name}: a name without end")
        start, self.at = self.at, end + 1
        return self.data[start:end]


@contextmanager
def _opened(path: Path) -> Iterator[_Bytes]:
    """The file, and afterwards ValueError where something is left of it."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise ValueError(f"{path.name}: empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            walk = _Bytes(path, data)
            yield walk
            if walk.at != walk.size:
                raise ValueError(f"{path.name}: longer than what it declares")


def _check_binary(folder: Path) -> None:
    with _opened(folder / "cameras.bin") as file:
        cameras = _walk_cameras(file)
    with _opened(folder / "images.bin") as file:
        images = _walk_images(file)
    with _opened(folder / "points3D.bin") as file:
        points = _walk_points(file)
    _check_references(cameras, images, *points)
    rigs = [folder / f"{stem}.bin" for stem in RIG_STEMS]
    for path, walk in zip(rigs, (_walk_rig, _walk_frame), strict=True):
        if path.is_file():
            with _opened(path) as file:
                _walk_each(file, walk)


def _walk_cameras(file: _Bytes) -> set[int]:
    found: set[int] = set()
    for _ in range(file.count(_CAMERA.size)):
        camera_id, model, width, height = file.unpack(_CAMERA)
        if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
            raise ValueError(f"{file.name}: a camera of {width} x {height} px")
        start = file.skip(8 * _num_params(file.name, model))
        if not np.isfinite(np.frombuffer(file.data[start : file.at], "<f8")).all():
            raise ValueError(f"{file.name}: a camera's parameter is not finite")
        found.add(camera_id)
    return found


def _num_params(where: str, model: int | str) -> int:
    kinds = pycolmap.CameraModelId.__members__
    kind = next((k for name, k in kinds.items() if model in (name, k.value) and name != "INVALID"), None)
    if kind is None:
        raise ValueError(f"{where}: no camera model {str(model)[:40]!r}")
    return len(pycolmap.Camera.create_from_model_id(1, kind, 100.0, 100, 100).params)


def _walk_images(file: _Bytes) -> _Images:
    num_points, cameras, names, keypoints = dict[int, int](), set[int](), set[bytes](), list[bytes]()
    for _ in range(file.count(_IMAGE_BYTES)):
        (image_id,) = file.unpack(_ID)
        file.skip(_POSE_BYTES)
        cameras.add(file.unpack(_ID)[0])
        name, num = file.text(), file.count(24)
        if name in names or image_id in num_points:
            raise ValueError(f"{file.name}: an image twice")
        names.add(name)
        num_points[image_id] = num
        start = file.skip(24 * num)
        keypoints.append(file.data[start : file.at])
    return _Images(num_points, cameras, np.frombuffer(b"".join(keypoints), "<u8").reshape(-1, 3)[:, 2])


def _walk_points(file: _Bytes) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Ids of the points, and (O, 2) image id and keypoint of all observations."""
    ids, tracks = [], []
    for _ in range(file.count(_POINT_BYTES + 8)):
        ids.append(_COUNT.unpack_from(file.data, file.skip(_POINT_BYTES))[0])
        start = file.skip(8 * file.count(8))
        tracks.append(file.data[start : file.at])
    track = np.frombuffer(b"".join(tracks), "<u4").reshape(-1, 2)
    return np.array(ids, np.uint64), track.astype(np.uint64)


def _walk_each(file: _Bytes, walk: Callable[[_Bytes], None]) -> None:
    for _ in range(file.count(8)):
        walk(file)


def _walk_rig(file: _Bytes) -> None:
    file.unpack(_ID)
    (num,) = file.unpack(_ID)
    for i in range(num):
        if i > _MAX_SENSORS:
            raise ValueError(f"{file.name}: a rig of {num} sensors")
        file.skip(8)
        if i and file.data[file.skip(1)]:
            file.skip(_POSE_BYTES)


def _walk_frame(file: _Bytes) -> None:
    file.skip(8 + _POSE_BYTES)
    (num,) = file.unpack(_ID)
    file.skip(16 * num)


# --- text -----------------------------------------------------------------------------------------


def _check_text(folder: Path) -> None:
    cameras = {_int(words[0]) for words in _text_rows(folder / "cameras.txt") if _is_camera(words)}
    _check_references(cameras, _text_images(folder / "images.txt"), *_text_points(folder / "points3D.txt"))


def _text_rows(path: Path, *, empty: bool = False) -> Iterator[list[str]]:
    """The words of every line that is no comment; of empty lines too where they count."""
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            words = line.split()
            if (words or empty) and not line.lstrip().startswith("#"):
                yield words


def _int(word: str) -> int:
    value = int(word)
    if not 0 <= value < 2**63:
        raise ValueError(f"no id: {word[:40]}")
    return value


def _is_camera(words: list[str]) -> bool:
    if len(words) < 4 or len(words) != 4 + _num_params("cameras.txt", words[1]):
        raise ValueError("cameras.txt: a camera with too few or too many values")
    width, height = int(words[2]), int(words[3])
    if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
        raise ValueError(f"cameras.txt: a camera of {width} x {height} px")
    return bool(np.isfinite([float(word) for word in words[4:]]).all())


def _text_images(path: Path) -> _Images:
    num_points, cameras, point_ids = dict[int, int](), set[int](), list[int]()
    names: set[str] = set()
    rows = _text_rows(path, empty=True)
    for words in rows:
        if not words:
            continue
        if len(words) < 10:
            raise ValueError("images.txt: an image with too few values")
        image_id, name, own = _int(words[0]), " ".join(words[9:]), next(rows, [])
        if name in names or image_id in num_points or len(own) % 3:
            raise ValueError("images.txt: an image twice, or keypoints that are not x, y, point")
        names.add(name)
        cameras.add(_int(words[8]))
        num_points[image_id] = len(own) // 3
        point_ids += [int(word) for word in own[2::3] if word != "-1"]
    if any(not 0 <= i < 2**64 for i in point_ids):
        raise ValueError("images.txt: a keypoint of a point that is not there")
    return _Images(num_points, cameras, np.array(point_ids, np.uint64))


def _text_points(path: Path) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    ids, track = [], []
    for words in _text_rows(path):
        if len(words) < 8 or len(words) % 2:
            raise ValueError("points3D.txt: a point with too few values")
        ids.append(_int(words[0]))
        track += [_int(word) for word in words[8:]]
    return np.array(ids, np.uint64), np.array(track, np.uint64).reshape(-1, 2)
