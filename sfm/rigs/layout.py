"""Which cameras may be mounted together: folders of equal file names, or what COLMAP's rig_config.json says.

Equal names alone prove nothing, as cameras number their files alike: whether such folders are a rig, a model shows
(sfm.rigs.averaging).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from sfm.errors import BadFile
from sfm.system.untrusted_files import NUMBER, has_shape, read_json
from sfm.types import CameraPrior, CameraRig, Float64, ImageRecord

OVERLAP, LEAST = 0.5, 2  # file names in common with the fullest folder: share of the folder's, and number
MAX_CAMERAS = 1000  # of a rig


def folder_rigs(names: Collection[str]) -> tuple[CameraRig, ...]:
    """The rigs that folders of equal file names may be; the fullest folder of each is the reference."""
    return tuple(_rigs_below("", sorted(names)))


def _rigs_below(prefix: str, names: Sequence[str]) -> list[CameraRig]:
    """names: those that begin with the prefix."""
    folders: dict[str, list[str]] = defaultdict(list)
    for name in names:
        first, slash, rest = name[len(prefix) :].partition("/")
        if slash:
            folders[f"{prefix}{first}/"].append(rest)
    if not folders:
        return []
    fullest = max(sorted(folders), key=lambda folder: len(folders[folder]))
    reference = frozenset(folders[fullest])
    alike = [f for f in sorted(folders) if _is_alike(folders[f], reference) and f != fullest]
    if alike:
        return [rig_of([fullest, *alike], names)]
    found = [_rigs_below(folder, [f"{folder}{rest}" for rest in own]) for folder, own in sorted(folders.items())]
    return [rig for own in found for rig in own]


def _is_alike(own: Sequence[str], reference: frozenset[str]) -> bool:
    common = len(reference & frozenset(own))
    return common >= max(LEAST, OVERLAP * len(own))


def rig_of(
    prefixes: Sequence[str],
    names: Collection[str],
    cam_from_rig: tuple[Float64, ...] | None = None,
) -> CameraRig:
    """The rig of cameras whose images begin with the prefixes; images of one time are called alike otherwise."""
    known = frozenset(names)
    times = sorted({name[len(prefix) :] for prefix in prefixes for name in known if name.startswith(prefix)})
    frames = tuple(tuple(own if (own := prefix + time) in known else None for prefix in prefixes) for time in times)
    return CameraRig(tuple(prefixes), frames, cam_from_rig, fixed=cam_from_rig is not None)


# --- COLMAP's rig_config.json ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class RigConfig:
    """One rig of a rig_config.json: prefixes of its cameras' image names, the reference first, their poses where the
    file has them all, and camera models and parameters by prefix, where the file has them."""

    prefixes: tuple[str, ...]
    cam_from_rig: tuple[Float64, ...] | None
    cameras: Mapping[str, tuple[str, Float64]]


_CAMERA = {"image_prefix": str}
_VECTORS = {"cam_from_rig_rotation": 4, "cam_from_rig_translation": 3}  # w, x, y, z; x, y, z
_REMEDY = 'write it as COLMAP\'s rig_configurator reads it: [{"cameras": [{"image_prefix": ..., "ref_sensor": true}]}]'


def read_rig_config(path: Path) -> tuple[RigConfig, ...]:
    """The rigs of a rig_config.json. Raises BadFile where it is missing, or not one."""
    try:
        found = read_json(path)
        if not has_shape(found, [{"cameras": [_CAMERA]}]) or not found:
            raise ValueError("no list of rigs with cameras")
        return tuple(_config(rig["cameras"]) for rig in found)
    except OSError as error:
        raise BadFile(f"{path}: cannot be read ({error.strerror}); give COLMAP's rig_config.json") from None
    except (ValueError, TypeError) as error:
        raise BadFile(f"{path}: no rig_config.json ({error}); {_REMEDY}") from None


def _config(entries: list[dict[str, Any]]) -> RigConfig:
    """ValueError for what is wrong with it."""
    if not 2 <= len(entries) <= MAX_CAMERAS:
        raise ValueError(f"a rig of {len(entries)} cameras")
    references = [entry for entry in entries if entry.get("ref_sensor") is True]
    if len(references) != 1:
        raise ValueError(f"{len(references)} cameras of a rig are its ref_sensor, one must be")
    ordered = [references[0], *(entry for entry in entries if entry is not references[0])]
    prefixes = tuple(str(entry["image_prefix"]) for entry in ordered)
    if any(a != b and b.startswith(a) for a in prefixes for b in prefixes) or len(set(prefixes)) < len(prefixes):
        raise ValueError("an image_prefix begins with another one")
    poses = [_pose(entry) for entry in ordered[1:]]
    known = [pose for pose in poses if pose is not None]
    identity = np.column_stack([np.eye(3), np.zeros(3)])
    cameras = {str(e["image_prefix"]): own for e in ordered if (own := _camera(e)) is not None}
    return RigConfig(prefixes, (identity, *known) if len(known) == len(poses) else None, cameras)


def _pose(entry: dict[str, Any]) -> Float64 | None:
    """cam_from_rig (3, 4), None where it is not given."""
    if not any(name in entry for name in _VECTORS):
        return None
    for name, length in _VECTORS.items():
        if not has_shape(entry.get(name), [NUMBER]) or len(entry[name]) != length:
            raise ValueError(f"{name} of {entry['image_prefix']!r} must be {length} numbers")
    w, x, y, z = entry["cam_from_rig_rotation"]
    quaternion = np.array([x, y, z, w], np.float64)
    if abs(np.linalg.norm(quaternion) - 1) > 0.01:
        raise ValueError(f"cam_from_rig_rotation of {entry['image_prefix']!r} is no unit quaternion w, x, y, z")
    rotation = pycolmap.Rotation3d(quaternion / np.linalg.norm(quaternion)).matrix()
    return np.column_stack([rotation, np.array(entry["cam_from_rig_translation"], np.float64)])


def _camera(entry: dict[str, Any]) -> tuple[str, Float64] | None:
    """Model and parameters, None where they are not given."""
    name, params = entry.get("camera_model_name"), entry.get("camera_params")
    if name is None and params is None:
        return None
    if not isinstance(params, list):
        raise ValueError(f"camera_params of {entry['image_prefix']!r} are no numbers")
    models = [model for model in pycolmap.CameraModelId.__members__ if model != "INVALID"]
    if name not in models or not has_shape(params, [NUMBER]):
        raise ValueError(f"camera_model_name and camera_params of {entry['image_prefix']!r}")
    expected = len(pycolmap.Camera.create_from_model_name(1, name, 100.0, 100, 100).params)
    if len(params) != expected:
        raise ValueError(f"{len(params)} camera_params of {entry['image_prefix']!r}, {name} has {expected}")
    return str(name), np.array(params, np.float64)


def is_config(how: str) -> bool:
    """Whether --rig names a file."""
    return how not in ("auto", "off")


def with_config_cameras(records: Sequence[ImageRecord], path: Path) -> tuple[ImageRecord, ...]:
    """The images with the camera models and parameters that a rig_config.json gives, as priors. Raises BadFile."""
    given = {prefix: own for config in read_rig_config(path) for prefix, own in config.cameras.items()}
    result = []
    for record in records:
        prefix = next((prefix for prefix in given if record.name.startswith(prefix)), None)
        if prefix is not None:
            model, params = given[prefix]
            group = f"rig camera {prefix}, {record.width}x{record.height}"
            record = replace(record, camera=CameraPrior(model, params, True, group))
        result.append(record)
    return tuple(result)


def config_rigs(path: Path, names: Collection[str]) -> tuple[CameraRig, ...]:
    """The rigs of a rig_config.json, with the images of these names. Raises BadFile, also where it has none of them."""
    rigs = tuple(rig_of(config.prefixes, names, config.cam_from_rig) for config in read_rig_config(path))
    for rig in rigs:
        for k, prefix in enumerate(rig.prefixes):
            if not any(frame[k] is not None for frame in rig.frames):
                raise BadFile(f"{path}: no image begins with image_prefix {prefix!r} (there is {min(names)})")
    return rigs
