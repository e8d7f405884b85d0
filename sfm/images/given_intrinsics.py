"""Intrinsics that the user gives: parameters of one camera, or a file that says which image has which camera.

A file is COLMAP's cameras.txt, or JSON: {"NAME, FOLDER/ or GLOB": {"model": "PINHOLE", "params": [fx, fy, cx, cy]}},
with "width" and "height" where the parameters are of another size of the images. Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from sfm.errors import BadFile, BadOption
from sfm.system.untrusted_files import bounded_lines, read_json, refuse_holes
from sfm.types import Float64

MAX_JSON = 1 << 24  # characters
MAX_POINTS_LINE = 1 << 26  # characters
MAX_SIDE = 1 << 24  # px
FOCAL_RANGE = (0.1, 50.0)  # of the longer side; no lens has a focal length outside
MAX_SHAPE = 1.5  # of the larger over the smaller of two focal lengths
MIDDLE = (0.2, 0.8)  # of the width and of the height, where the principal point of any camera is
MAX_DISTORTION, MAX_BENT = (
    1.0,
    0.5,
)  # a first radial term and, in the corner, by how much of the radius it moves a point
POLYNOMIAL = ("k", "k1", "k2", "p1", "p2")  # parameters that are small, as they are of a polynomial
USUAL = ("PINHOLE", "SIMPLE_RADIAL", "SIMPLE_PINHOLE", "RADIAL", "OPENCV", "OPENCV_FISHEYE", "THIN_PRISM_FISHEYE")

Named = tuple[str, tuple[int, int]]  # an image's name and its (width, height) px


@dataclass(frozen=True, slots=True, eq=False)
class GivenCamera:
    """One camera of a file. key: its name there. size: of the images that params are for, None for any."""

    key: str
    model: str
    params: Float64
    size: tuple[int, int] | None = None


def intrinsics_files(spec: str | None) -> list[Path]:
    """The files that `--intrinsics` names, which its result depends on; none where it is numbers."""
    if spec is None or not Path(spec).is_file():
        return []
    beside = Path(spec).with_name("images.txt")
    return [Path(spec), *([beside] if _is_colmap(Path(spec)) and beside.is_file() else [])]


def is_file_of_intrinsics(spec: str) -> bool:
    """Whether `--intrinsics` names a file rather than numbers."""
    return Path(spec).is_file() or spec.lower().endswith((".txt", ".json", ".bin"))


def camera_from_numbers(text: str, model: str, size: tuple[int, int]) -> pycolmap.Camera:
    """The camera of P1,P2,... for a model. Raises BadOption for what is no camera, with the model's order."""
    option = f"--intrinsics {text}"
    order = _order(model)
    try:
        params = np.array([float(part) for part in text.split(",")])
    except ValueError:
        raise BadOption(f"{option}: must be numbers separated by commas, or a file: {model} is {order}") from None
    if len(params) != len(_plain(model, size).params):
        raise BadOption(
            f"{option}: {len(params)} numbers, but {model} has {len(_plain(model, size).params)}: {order}"
            f"{_suggestion(params, model, size)}"
        )
    fault = fault_of(model, params, size)
    if fault is not None:
        raise BadOption(f"{option}: {fault}; {model} is {order}{_suggestion(params, model, size)}")
    return pycolmap.Camera(model=model, width=size[0], height=size[1], params=params)


def _plain(model: str, size: tuple[int, int]) -> pycolmap.Camera:
    return pycolmap.Camera.create_from_model_name(0, model, float(max(size)), *size)


def _order(model: str) -> str:
    return ", ".join(part.strip() for part in str(_plain(model, (2, 2)).params_info).split(","))


def _suggestion(params: Float64, model: str, size: tuple[int, int]) -> str:
    """The usual model, if there is one, whose parameters these numbers could be."""
    for other in USUAL:
        if other != model and len(params) == len(_plain(other, size).params) and fault_of(other, params, size) is None:
            return f"; for {_order(other)} add --camera-model {other}"
    return ""


def fault_of(model: str, params: Float64, size: tuple[int, int]) -> str | None:
    """What about parameters can be of no real camera whose images have a size, in words; None where all may be."""
    camera = _plain(model, size)
    names = [part.strip() for part in str(camera.params_info).split(",")]
    side, focals = max(size), [float(params[i]) for i in camera.focal_length_idxs()]
    if not np.isfinite(params).all():
        return "must be finite"
    if focals and not min(focals) > 0:
        return "focal lengths must be positive"
    if focals and not FOCAL_RANGE[0] * side <= min(focals) <= max(focals) <= FOCAL_RANGE[1] * side:
        return f"no lens has a focal length of {min(focals):g} px at images of {size[0]}x{size[1]}"
    if focals and max(focals) > MAX_SHAPE * min(focals):
        return f"focal lengths of {focals[0]:g} and {focals[1]:g} px are of no camera"
    for i, length in zip(camera.principal_point_idxs(), size, strict=False):
        if not MIDDLE[0] * length <= params[i] <= MIDDLE[1] * length:
            return (
                f"a principal point at {names[i]} = {params[i]:g} is far from the middle of images of "
                f"{size[0]}x{size[1]}"
            )
    corner = float(np.hypot(*size)) / 2 / min(focals) if focals else 0.0
    for i in camera.extra_params_idxs() if not model.startswith("FULL") else ():
        value = abs(float(params[i]))
        if names[i] in POLYNOMIAL and value > MAX_DISTORTION and value * corner**2 > MAX_BENT:
            return f"{names[i]} = {params[i]:g} is no lens's distortion"
    return None


# --- files ----------------------------------------------------------------------------------------


def cameras_from_file(spec: str, images: Sequence[Named]) -> dict[str, tuple[str, pycolmap.Camera]]:
    """By image name its group and its camera, as a file has them.

    A camera of another size is scaled where its shape is the image's. Raises BadFile for a file that cannot be read,
    BadOption where it says nothing of an image, or something that no camera has.
    """
    path = Path(spec)
    refuse_holes(path)
    if path.suffix.lower() == ".bin":
        raise BadOption(f"--intrinsics {spec}: is binary; write it as text (colmap model_converter --output_type TXT)")
    chosen = _of_cameras_txt(path, images) if _is_colmap(path) else _of_json(path, images)
    missing = [name for name, _ in images if name not in chosen]
    if missing:
        others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise BadOption(f"--intrinsics {spec}: has no camera for {missing[0]}{others}; add it, or take the image out")
    return {name: _fitted(path, chosen[name], name, size) for name, size in images}


def _is_colmap(path: Path) -> bool:
    return path.suffix.lower() == ".txt"


def _fitted(path: Path, given: GivenCamera, name: str, size: tuple[int, int]) -> tuple[str, pycolmap.Camera]:
    """The group, and the camera at the image's size."""
    own = given.size or size
    if abs(own[0] * size[1] - own[1] * size[0]) > max(*own, *size):  # a pixel of rounding
        raise BadOption(
            f"--intrinsics {path}: {given.key} is for images of {own[0]}x{own[1]}, but {name} is {size[0]}x{size[1]}"
        )
    fault = fault_of(given.model, given.params, own)
    if fault is not None:
        more = _suggestion(given.params, given.model, own).replace("add --camera-model", "the model is")
        raise BadOption(f"--intrinsics {path}: {given.key}: {fault}; {given.model} is {_order(given.model)}{more}")
    camera = pycolmap.Camera(model=given.model, width=own[0], height=own[1], params=given.params)
    if own != size:
        camera.rescale(*size)
    return f"{given.key} of {path.name}, {size[0]}x{size[1]}", camera


def _checked(path: Path, key: str, model: str, params: Sequence[float], size: tuple[int, int] | None) -> GivenCamera:
    if model not in pycolmap.CameraModelId.__members__ or model == "INVALID":
        raise BadOption(f"--intrinsics {path}: {key}: {model!r} is no camera model of COLMAP's")
    if len(params) != len(_plain(model, (2, 2)).params):
        raise BadOption(f"--intrinsics {path}: {key}: {len(params)} params, but {model} is {_order(model)}")
    if size is not None and not all(0 < side <= MAX_SIDE for side in size):
        raise BadOption(f"--intrinsics {path}: {key}: a size of {size[0]}x{size[1]}")
    return GivenCamera(key, model, np.array(params, np.float64), size)


def _of_json(path: Path, images: Sequence[Named]) -> dict[str, GivenCamera]:
    """A name before a folder (the longest), and that before a pattern (the first)."""
    try:
        document = read_json(path, limit=MAX_JSON)
    except (OSError, ValueError) as error:
        raise BadFile(f"{path}: not readable as JSON ({error}); see docs/cameras.md for its layout") from None
    if not isinstance(document, dict):
        raise BadFile(f'{path}: must be {{"NAME, FOLDER/ or GLOB": {{"model": ..., "params": [...]}}}}')
    cameras = {key: _json_camera(path, key, value) for key, value in document.items()}
    chosen = {}
    for name, _ in images:
        folders = sorted((k for k in cameras if name.startswith(f"{k.rstrip('/')}/")), key=len, reverse=True)
        patterns = [k for k in cameras if fnmatchcase(name, k)]
        key = next(iter([*([name] if name in cameras else []), *folders, *patterns]), None)
        if key is not None:
            chosen[name] = cameras[key]
    return chosen


def _json_camera(path: Path, key: str, value: Any) -> GivenCamera:
    fault = f"{path}: {key}: must have a model and params, as in docs/cameras.md"
    if not isinstance(value, dict) or not {"model", "params"} <= set(value) <= {"model", "params", "width", "height"}:
        raise BadFile(fault)
    params, width, height = value["params"], value.get("width"), value.get("height")
    if not isinstance(value["model"], str) or not isinstance(params, list) or not all(map(_is_number, params)):
        raise BadFile(fault)
    if width is None and height is None:
        return _checked(path, key, value["model"].upper(), params, None)
    if type(width) is not int or type(height) is not int:  # a bool is none
        raise BadFile(f"{path}: {key}: width and height are whole numbers, and both or none")
    return _checked(path, key, value["model"].upper(), params, (width, height))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e18


def _of_cameras_txt(path: Path, images: Sequence[Named]) -> dict[str, GivenCamera]:
    """By images.txt beside it; else one camera for all, or that of the image's size, or of its folder's number."""
    cameras = {}
    for line in _lines(path):
        fields = line.split()
        try:
            camera_id, size = int(fields[0]), (int(fields[2]), int(fields[3]))
            params = [float(field) for field in fields[4:]]
        except (IndexError, ValueError):
            raise BadFile(
                f"{path}: {line[:60]!r} is no camera; a line is CAMERA_ID MODEL WIDTH HEIGHT PARAMS"
            ) from None
        cameras[camera_id] = _checked(path, f"camera {camera_id}", fields[1], params, size)
    if not cameras:
        raise BadFile(f"{path}: no camera in it; a line is CAMERA_ID MODEL WIDTH HEIGHT PARAMS")
    beside = path.with_name("images.txt")
    if beside.is_file():
        return {name: cameras[i] for name, i in _camera_of_images(beside) if i in cameras}
    if len(cameras) == 1:
        return dict.fromkeys((name for name, _ in images), next(iter(cameras.values())))
    if len({camera.size for camera in cameras.values()}) == len(cameras):
        of_size = {camera.size: camera for camera in cameras.values()}
        return {name: of_size[size] for name, size in images if size in of_size}
    by_folder = _of_numbered_folders(cameras, [name for name, _ in images])
    if by_folder is None:
        raise BadOption(
            f"--intrinsics {path}: {len(cameras)} cameras, and nothing says which image has which; put its images.txt "
            "beside it, or give a JSON (docs/cameras.md)"
        )
    return by_folder


def _of_numbered_folders(cameras: Mapping[int, GivenCamera], names: Sequence[str]) -> dict[str, GivenCamera] | None:
    """Cameras of folders that end in the cameras' numbers, both counted from 0 or 1; None where they do not."""
    folders = {name: name.rpartition("/")[0] for name in names}
    numbers = {f: int(m[0]) for f in folders.values() if (m := re.search(r"\d{1,9}$", f)) is not None}
    if len(numbers) != len(cameras) or set(numbers) != set(folders.values()):
        return None
    for shift in (0, 1):  # cam0 is COLMAP's camera 1
        if sorted(number + shift for number in numbers.values()) == sorted(cameras):
            return {name: cameras[numbers[folder] + shift] for name, folder in folders.items()}
    return None


def _lines(path: Path) -> Iterator[str]:
    for line in bounded_lines(path, "cameras"):
        if line.strip() and not line.startswith("#"):
            yield line.strip()


def _camera_of_images(path: Path) -> Iterator[tuple[str, int]]:
    """(name, camera id) of every image; its second line, the points, may be empty or too long to matter."""
    refuse_holes(path)
    pose = True
    with path.open(encoding="utf-8", errors="replace") as file:
        while line := file.readline(MAX_POINTS_LINE):
            if len(line) == MAX_POINTS_LINE:
                raise BadFile(f"{path}: a line is longer than {MAX_POINTS_LINE} characters; take the points out of it")
            if line.startswith("#"):
                continue
            fields = line.split(maxsplit=9)
            if pose and len(fields) == 10 and fields[8].isdecimal():
                yield fields[9].strip(), int(fields[8])
            elif pose and not fields:
                continue
            pose = not pose
