"""Image pairs whose relative pose is known: from a COLMAP model, or from a file of pairs with cameras.

The file is that of SuperGlue (README of github.com/magicleap/SuperGluePretrainedNetwork, "Test set pair file format
explained"), which LoFTR's and others' test sets have been published in. A line is 38 values:

    name0 name1 rot0 rot1 K0 (9) K1 (9) T_0to1 (16)

Matrices are row by row; T_0to1 is cam1_from_cam0. rot: quarter turns counterclockwise that make the image upright;
K and T are of the image as it is stored. Pixels in such files have their origin at the centre of the first one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TypeVar

import numpy as np
import pycolmap

from sfm.errors import BadFile
from sfm.evaluation.model import read_model
from sfm.evaluation.options import PairEvaluationOptions
from sfm.geometry.pixels import corner_from_center
from sfm.geometry.poses import relative_pose, rotation_angle_deg
from sfm.pairs.file import from_file
from sfm.system.untrusted_files import bounded_lines
from sfm.types import Float64, ImageRecord

NUM_VALUES = 38

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True, eq=False)
class PosedPair:
    """Two images with their true cameras and relative pose cam1_from_cam0, (3, 4).

    image_rotation: quarter turns counterclockwise that bring image 1 into the orientation of image 0.
    """

    name0: str
    name1: str
    camera0: pycolmap.Camera
    camera1: pycolmap.Camera
    cam1_from_cam0: Float64
    image_rotation: int = 0

    @property
    def rotation_deg(self) -> float:
        """Angle of the true rotation."""
        return float(rotation_angle_deg(self.cam1_from_cam0[:, :3]))

    @property
    def numbers(self) -> list[float]:
        """All that is known of the pair's geometry."""
        return [*self.camera0.params.tolist(), *self.camera1.params.tolist(), *self.cam1_from_cam0.ravel().tolist()]


def read_posed_pairs(
    path: Path, records: Mapping[str, ImageRecord], options: PairEvaluationOptions
) -> tuple[PosedPair, ...]:
    """The pairs to evaluate, of a COLMAP model's folder or of a file with pairs and cameras. Raises BadFile.

    records: the images, by name.
    """
    if path.is_file():
        if options.pairs is not None:
            raise BadFile(f"--pairs {options.pairs}: {path} names its pairs itself; leave out --pairs")
        pairs = tuple(_pairs_with_cameras(path, records))
    else:
        pairs = tuple(_pairs_of_model(path, records, options))
    if not pairs:
        raise BadFile(f"{path}: no pair to evaluate in it")
    return sample(pairs, options.max_pairs)


def sample(items: Sequence[_Item], count: int) -> tuple[_Item, ...]:
    """At most so many of the items, always the same ones, in their order; all of them with count 0."""
    if not count or count >= len(items):
        return tuple(items)
    return tuple(items[i] for i in sorted(random.Random(0).sample(range(len(items)), count)))


# --- a COLMAP model ------------------------------------------------------------------------------


def _pairs_of_model(
    path: Path, records: Mapping[str, ImageRecord], options: PairEvaluationOptions
) -> Iterator[PosedPair]:
    """The listed pairs, or all whose rotation is not too large."""
    model = read_model(path)
    posed = {image.name: image for image in (model.image(image_id) for image_id in model.reg_image_ids())}
    # Copies: the model's own cameras die with it.
    cameras = {name: deepcopy(model.camera(image.camera_id)) for name, image in posed.items()}
    for name, camera in cameras.items():
        _check_size(path, camera, _record(path, name, records))
    if options.pairs is not None:
        chosen = [(pair.name0, pair.name1) for pair in from_file(options.pairs, posed.keys()).pairs]
    else:
        chosen = list(combinations(sorted(posed), 2))
    poses = {name: image.cam_from_world().matrix() for name, image in posed.items()}
    for name0, name1 in chosen:
        pose = relative_pose(poses[name0], poses[name1])
        pair = PosedPair(name0, name1, cameras[name0], cameras[name1], pose)
        if options.pairs is not None or pair.rotation_deg <= options.max_rotation:
            yield pair


def _record(path: Path, name: str, records: Mapping[str, ImageRecord]) -> ImageRecord:
    if name not in records:
        raise BadFile(f"{path}: there is no usable image {name!r} in the folder of images")
    return records[name]


def _check_size(path: Path, camera: pycolmap.Camera, record: ImageRecord) -> None:
    if (camera.width, camera.height) != (record.width, record.height):
        raise BadFile(
            f"{path}: its camera of {record.name} is {camera.width}x{camera.height}, but the image is "
            f"{record.width}x{record.height}; give the images that the cameras belong to"
        )


# --- a file of pairs with cameras ----------------------------------------------------------------


def _pairs_with_cameras(path: Path, records: Mapping[str, ImageRecord]) -> Iterator[PosedPair]:
    seen: set[tuple[str, str]] = set()
    for number, line in enumerate(bounded_lines(path, "a COLMAP model or a file of pairs with cameras"), start=1):
        words, where = line.split(), f"{path}, line {number}"
        if not words:
            continue
        if len(words) != NUM_VALUES:
            raise BadFile(
                f"{where}: {len(words)} values, expected {NUM_VALUES}: name0 name1 rot0 rot1 K0 (9) K1 (9) T_0to1 (16)"
            )
        if (words[0], words[1]) in seen or words[0] == words[1]:
            raise BadFile(f"{where}: a pair a second time, or of one image")
        seen.add((words[0], words[1]))
        yield _posed_pair(words, where, records)


def _posed_pair(words: Sequence[str], where: str, records: Mapping[str, ImageRecord]) -> PosedPair:
    try:
        rotations, values = [int(word) for word in words[2:4]], np.array([float(word) for word in words[4:]])
    except ValueError:
        raise BadFile(f"{where}: holds something that is no number") from None
    if not np.isfinite(values).all():
        raise BadFile(f"{where}: holds a number that is not finite")
    pose = values[18:].reshape(4, 4)[:3]
    rotation = pose[:, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0:
        raise BadFile(f"{where}: T_0to1 holds no rotation")
    camera0, camera1 = (
        _camera(K.reshape(3, 3), _record(Path(where), name, records), where)
        for K, name in ((values[:9], words[0]), (values[9:18], words[1]))
    )
    return PosedPair(words[0], words[1], camera0, camera1, pose, (rotations[1] - rotations[0]) % 4)


def _camera(K: Float64, record: ImageRecord, where: str) -> pycolmap.Camera:
    if min(K[0, 0], K[1, 1]) <= 0 or K[0, 1] != 0 or K[1, 0] != 0 or (K[2] != (0, 0, 1)).any():
        raise BadFile(f"{where}: K of {record.name} is no calibration matrix without skew")
    params = [K[0, 0], K[1, 1], *corner_from_center(K[:2, 2])]
    return pycolmap.Camera(model="PINHOLE", width=record.width, height=record.height, params=params)
