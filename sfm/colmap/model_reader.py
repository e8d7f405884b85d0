"""COLMAP models from anywhere, as pycolmap reads them, with checks before and after.

COLMAP's reader trusts what its files declare: of a count that is not true it allocates and reads on until memory or
patience end, and of a file that is cut short it takes what the memory holds for the rest. So the counts of binary
files are walked through first, in the layout of COLMAP's documentation (colmap.github.io/format.html, and for rigs and
frames src/colmap/scene/reconstruction_io_binary.cc). Text files hold no counts. That observations and images refer to
what is there COLMAP checks itself, but for keypoints.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pycolmap

from sfm.colmap.log import quiet
from sfm.colmap.model_writer import UNREFINED
from sfm.errors import BadFile, BadOption, one_line
from sfm.system.hashing import named_files_digest
from sfm.system.untrusted_files import refuse_holes

STEMS = ("cameras", "images", "points3D")
RIG_STEMS = ("rigs", "frames")  # since COLMAP 3.12
_COUNT, _ID = struct.Struct("<Q"), struct.Struct("<I")
_CAMERA = struct.Struct("<IiQQ")  # id, model, width, height
_IMAGE_BYTES, _POSE_BYTES, _KEYPOINT_BYTES = 64, 56, 24  # image: id, pose, camera's id
_POINT_BYTES = 43  # id, xyz, colour, error; the number of observations follows, and 8 bytes for each
_MAX_NAME = 4096  # bytes
_MAX_SIDE = 1 << 24  # px
_FAR = 1e15  # units; squares of it and their sums are numbers


def read_reconstruction(folder: Path, remedy: str = "write it again") -> pycolmap.Reconstruction:
    """The model in a folder, binary where it has both kinds. BadFile in one line where there is none that is whole."""
    files = model_paths(folder)
    try:
        num_observations = _check_binary(folder) if files[0].suffix == ".bin" else None
        with quiet():
            model = pycolmap.Reconstruction(str(folder))
        _check_model(model, num_observations)
    except Exception as error:  # pycolmap raises many unrelated types
        raise BadFile(f"{folder}: not a readable COLMAP model ({one_line(error)}); {remedy}") from None
    return model


def read_models(folder: Path) -> list[pycolmap.Reconstruction]:
    """The models folder/0, 1, ... Raises BadFile where one cannot be read."""
    paths = sorted((p for p in folder.iterdir() if p.name.isdecimal()), key=lambda p: int(p.name))
    return [read_reconstruction(path, f"delete {folder} and run again") for path in paths]


def has_foreign(models: Sequence[pycolmap.Reconstruction], names: Collection[str]) -> bool:
    """Whether models have images of other names than these."""
    return not {image.name for model in models for image in model.images.values()} <= set(names)


def model_paths(folder: Path) -> tuple[Path, ...]:
    """The files of a folder's model that COLMAP reads, binary where it has both kinds. BadFile where there is none."""
    for suffix in (".bin", ".txt"):
        if all((folder / f"{stem}{suffix}").is_file() for stem in STEMS):
            paths = tuple(path for s in (*STEMS, *RIG_STEMS) if (path := folder / f"{s}{suffix}").exists())
            refuse_holes(*paths)
            return paths
    raise BadFile(f"{folder}: is no COLMAP model; give a folder with cameras, images and points3D (.bin or .txt)")


def is_model(folder: Path) -> bool:
    """True for a folder with cameras, images and points3D, all binary or all text."""
    stems = ("cameras", "images", "points3D")
    return any(all((folder / f"{stem}{suffix}").is_file() for stem in stems) for suffix in (".bin", ".txt"))


def model_folders(path: Path) -> tuple[Path, ...]:
    """COLMAP models at a path: itself, those in its sparse/ (a run's output folder), or its sub-models, in the order of
    their numbers. Of a run that was stopped after mapping those in its unrefined/.

    Raises BadFile where there are none.
    """
    if is_model(path):
        return (path,)
    for folder in (path / "sparse", path, path / UNREFINED):
        if is_model(folder):
            return (folder,)
        if folder.is_dir() and (found := [sub for sub in folder.iterdir() if is_model(sub)]):
            return tuple(sorted(found, key=_number))
    if path.is_file():
        raise BadFile(f"{path}: is a file; give a folder with cameras, images and points3D, or a run's output folder")
    what = "holds no COLMAP model" if path.is_dir() else "no such folder"
    raise BadFile(f"{path}: {what}; give a folder with cameras, images and points3D, or a run's output folder")


def _number(folder: Path) -> tuple[int, str]:
    """In order of numbers, names that are none after them."""
    return (int(folder.name), "") if folder.name.isdecimal() else (10**9, folder.name)


def model_folder(path: Path, number: int | None = None) -> Path:
    """The one model at a path (model_folders) that is meant: that of a number, else the one of most images.

    Raises BadFile where there is none, BadOption where there is none of this number.
    """
    folders = model_folders(path)
    if number is None:
        return max(folders, key=num_images) if len(folders) > 1 else folders[0]
    named = {folder.name: folder for folder in folders}
    if str(number) not in named:
        there = f"there is {folders[0]} only" if len(folders) == 1 else f"there are {', '.join(named)}"
        raise BadOption(f"--model {number}: {path} has no model of this number; {there}")
    return named[str(number)]


def num_images(folder: Path) -> int:
    """How many images the model in a folder has, by what its file declares. Raises BadFile where it cannot be read."""
    try:
        if model_paths(folder)[0].suffix == ".bin":
            with (folder / "images.bin").open("rb") as file:
                return int(_COUNT.unpack(file.read(_COUNT.size))[0])
        with (folder / "images.txt").open("rb") as file:
            return sum(not line.startswith(b"#") for line in file) // 2
    except (OSError, struct.error):
        raise BadFile(f"{folder}: not a readable COLMAP model (images cannot be read); write it again") from None


def model_digest(folder: Path) -> str:
    """Hash of the model's files: what a result with these poses depends on. Raises BadFile where they are missing."""
    try:
        return named_files_digest(model_paths(folder))
    except OSError as error:
        raise BadFile(f"{error.filename or folder}: cannot be read ({error.strerror}); check the file") from None


# --- after reading --------------------------------------------------------------------------------


def _check_model(model: pycolmap.Reconstruction, num_observations: int | None) -> None:
    """ValueError where a model holds what nothing can be done with. num_observations: that its points declare."""
    for camera in model.cameras.values():
        if not (0 < camera.width <= _MAX_SIDE and 0 < camera.height <= _MAX_SIDE and np.isfinite(camera.params).all()):
            raise ValueError(f"camera {camera.camera_id} of {camera.width} x {camera.height} px, {camera.params}")
    names = [image.name for image in model.images.values()]
    if len(set(names)) < len(names) or any(not name or "\0" in name for name in names):
        raise ValueError("two images of one name, or one of none")
    for image in (model.image(image_id) for image_id in model.reg_image_ids()):
        pose = image.cam_from_world()
        near = (np.abs(pose.translation) < _FAR).all()  # False for NaN
        if not (near and abs(np.linalg.norm(pose.rotation.quat) - 1) < 1e-6):
            raise ValueError(f"image {image.name} has no pose")
    seen = sum(image.num_points3D for image in model.images.values())
    if seen != num_observations if num_observations is not None else not model.is_valid():
        raise ValueError("keypoints and points contradict each other")


# --- binary files, before -------------------------------------------------------------------------


class _Walk:
    """A binary file walked through from its begin; ValueError where it ends before what it declares."""

    def __init__(self, name: str, data: memoryview) -> None:
        self.name, self.data, self.at = name, data, 0

    def skip(self, num: int) -> int:
        """Go over so many bytes; where they begin."""
        start, self.at = self.at, self.at + num
        if self.at > len(self.data):
            raise ValueError(f"{self.name}: ends before what it declares")
        return start

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        return layout.unpack_from(self.data, self.skip(layout.size))

    def count(self, least: int) -> int:
        """A count of things of at least so many bytes each."""
        (num,) = self.unpack(_COUNT)
        if num * least > len(self.data) - self.at:
            raise ValueError(f"{self.name}: declares {num} entries, more than it can hold")
        return num

    def skip_text(self) -> None:
        """Go over a name and the NUL behind it."""
        length = bytes(self.data[self.at : self.at + _MAX_NAME]).find(b"\0")
        if length < 0:
            raise ValueError(f"{self.name}: a name without end")
        self.at += length + 1


def _check_binary(folder: Path) -> int:
    """ValueError unless a model's files are as long as they declare. The number of observations of all points."""
    for stem, walk in (("cameras", _cameras), ("images", _images), ("rigs", _rigs), ("frames", _frames)):
        path = folder / f"{stem}.bin"
        if path.exists():
            with _walking(path) as file:
                walk(file)
    with _walking(folder / "points3D.bin") as file:
        return _points(file)


@contextmanager
def _walking(path: Path) -> Iterator[_Walk]:
    """The file, and afterwards ValueError where something is left of it."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise ValueError(f"{path.name}: empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data, memoryview(data) as view:
            walk = _Walk(path.name, view)
            yield walk
            if walk.at != len(view):
                raise ValueError(f"{path.name}: longer than what it declares")


def _cameras(file: _Walk) -> None:
    for _ in range(file.count(_CAMERA.size)):
        _, model, _, _ = file.unpack(_CAMERA)
        file.skip(8 * _num_params(model))


def _num_params(model: int) -> int:
    kind = next((k for k in pycolmap.CameraModelId.__members__.values() if int(k) == model >= 0), None)
    if kind is None:
        raise ValueError(f"no camera model {model}")
    return len(pycolmap.Camera.create_from_model_id(1, kind, 100.0, 100, 100).params)


def _images(file: _Walk) -> None:
    for _ in range(file.count(_IMAGE_BYTES)):
        file.skip(_IMAGE_BYTES)
        file.skip_text()
        file.skip(_KEYPOINT_BYTES * file.count(_KEYPOINT_BYTES))


def _points(file: _Walk) -> int:
    """The number of observations of all points; the one loop here that runs millions of times."""
    num = file.count(_POINT_BYTES + 8)
    length_of, at, data = _COUNT.unpack_from, file.at + _POINT_BYTES, file.data
    try:
        for _ in range(num):
            at += _POINT_BYTES + 8 + 8 * length_of(data, at)[0]
    except (struct.error, OverflowError):
        raise ValueError(f"{file.name}: ends before what it declares") from None
    length = at - _POINT_BYTES - file.at
    file.skip(length)
    return (length - num * (_POINT_BYTES + 8)) // 8


def _rigs(file: _Walk) -> None:
    for _ in range(file.count(8)):
        file.unpack(_ID)
        (sensors,) = file.unpack(_ID)
        for i in range(sensors):  # every one takes some bytes
            file.skip(8)
            if i and file.data[file.skip(1)]:
                file.skip(_POSE_BYTES)


def _frames(file: _Walk) -> None:
    for _ in range(file.count(8 + _POSE_BYTES + 4)):
        file.skip(8 + _POSE_BYTES)
        file.skip(16 * file.unpack(_ID)[0])
