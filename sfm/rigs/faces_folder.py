"""Panoramas as a folder of cube faces: OUT/cube_faces/FACE/NAME, where all later stages find the images.

A face is a camera of a rig, as in COLMAP: folders of equal file names, and beside them the rig_config.json that COLMAP
reads. Images that are no panoramas are copied, so that there is one folder of all. What is written appears whole.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from sfm.images.decoding import mask_path, read_mask, read_rgb
from sfm.images.index import check_unchanged
from sfm.rigs.cube_faces import DIRECTIONS, FIELD_DEG, face_focal, face_rotation, face_side, render_face
from sfm.rigs.folders import FACE_MASKS, FACES
from sfm.system.hashing import files_digest
from sfm.system.progress import progress_bar
from sfm.types import CameraPrior, CameraRig, ImageRecord

CONFIG = "rig_config.json"
QUALITY = 96  # of JPEG, colours at full resolution


@dataclass(frozen=True, slots=True)
class FaceFolder:
    """What is in OUT/cube_faces: records of all images, sorted by name, and how many panoramas they are faces of."""

    records: tuple[ImageRecord, ...]
    num_panoramas: int


def face_group(face: str, side: int) -> str:
    """Camera group of one face of all panoramas of a size: in COLMAP a camera of a rig is a camera of its own."""
    return f"cube face {face}, {side}x{side}"


def is_face(record: ImageRecord) -> bool:
    """Whether an image is a cube face of a panorama, and its intrinsics so exactly known."""
    return record.camera.group.startswith("cube face ")


def write_faces(
    folder: Path, out: Path, records: Sequence[ImageRecord], panoramas: frozenset[str], masks: Path | None
) -> FaceFolder:
    """Renders the panoramas of a folder into `out`/cube_faces, and their masks into `out`/cube_face_masks.

    One panorama is in memory at a time. Raises BadImage where an image has changed since it was indexed, OSError where
    nothing can be written.
    """
    names = face_names(panoramas, [record.name for record in records if record.name not in panoramas])
    found: list[ImageRecord] = []
    with tempfile.TemporaryDirectory(prefix=".faces-", dir=out) as scratch:
        fresh, fresh_masks = Path(scratch) / FACES, Path(scratch) / FACE_MASKS
        fresh.mkdir()
        fresh_masks.mkdir()
        with progress_bar(len(records), desc="cube faces", unit="image") as bar:
            for record in records:
                check_unchanged(folder, record, masks)
                if record.name in panoramas:
                    found += _write_panorama(folder, record, names[record.name], fresh, fresh_masks, masks)
                else:
                    found.append(_copy(folder, record, fresh, fresh_masks, masks))
                bar.update()
        (fresh / CONFIG).write_text(json.dumps(_configs(found), indent=2) + "\n", encoding="utf-8")
        for target, own in ((FACES, fresh), (FACE_MASKS, fresh_masks)):
            if (out / target).exists():
                os.replace(out / target, Path(scratch) / f"old {target}")
            if target == FACES or masks is not None:
                os.replace(own, out / target)
    return FaceFolder(tuple(sorted(found, key=lambda record: record.name)), len(panoramas))


def face_names(panoramas: frozenset[str], others: Sequence[str]) -> Mapping[str, str]:
    """Name of each panorama's faces below the folder of a face: its own, as a JPEG."""
    taken = {name for other in others for name in (other, other.partition("/")[2])}
    result = {}
    for name in sorted(panoramas):
        own = str(PurePosixPath(name).with_suffix(".jpg"))
        result[name] = own if own not in taken else f"{name}.jpg"
        taken.add(result[name])
    return result


def _write_panorama(
    folder: Path, record: ImageRecord, name: str, fresh: Path, fresh_masks: Path, masks: Path | None
) -> list[ImageRecord]:
    pixels, side = read_rgb(folder, record), face_side(record.width)
    mask = None if masks is None else read_mask(masks, record)
    found = []
    for face in DIRECTIONS:
        own = f"{face}/{name}"
        paths = [fresh / own]
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(render_face(pixels, face, side))
        image.save(paths[0], "JPEG", quality=QUALITY, subsampling=0)
        if mask is not None:
            paths.append(fresh_masks / f"{own}.png")
            paths[1].parent.mkdir(parents=True, exist_ok=True)
            values = render_face(mask[..., None].astype(np.uint8) * 255, face, side, nearest=True)
            Image.fromarray(values[..., 0]).save(paths[1])
        params = np.array([face_focal(side)] * 2 + [side / 2] * 2)
        camera = CameraPrior("PINHOLE", params, True, face_group(face, side))
        found.append(replace(record, name=own, width=side, height=side, camera=camera, digest=files_digest(paths)))
    return found


def _copy(folder: Path, record: ImageRecord, fresh: Path, fresh_masks: Path, masks: Path | None) -> ImageRecord:
    mask = None if masks is None else mask_path(masks, record.name)
    for source, target in ((folder / record.name, fresh / record.name), (mask, fresh_masks / f"{record.name}.png")):
        if source is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    return record


def panorama_rigs(records: Sequence[ImageRecord]) -> tuple[CameraRig, ...]:
    """The rigs of all cube faces among the images: one for each size of panoramas."""
    sides = sorted({record.width for record in records if is_face(record)})
    return tuple(_rig([r for r in records if is_face(r) and r.width == side]) for side in sides)


def _rig(faces: Sequence[ImageRecord]) -> CameraRig:
    known = {record.name for record in faces}
    names = sorted({record.name.partition("/")[2] for record in faces})
    frames = tuple(tuple(own if (own := f"{f}/{name}") in known else None for f in DIRECTIONS) for name in names)
    poses = tuple(np.column_stack([face_rotation(face), np.zeros(3)]) for face in DIRECTIONS)
    return CameraRig(tuple(f"{face}/" for face in DIRECTIONS), frames, poses, fixed=True)


def _configs(records: Sequence[ImageRecord]) -> list[dict[str, object]]:
    """COLMAP's rig_config.json of the cube faces; rotations as w, x, y, z."""
    import pycolmap

    configs: list[dict[str, object]] = []
    for own in panorama_rigs(records):
        cameras: list[dict[str, object]] = []
        assert own.cam_from_rig is not None
        record = next(r for r in records if r.name in own.names)
        for k, (prefix, pose) in enumerate(zip(own.prefixes, own.cam_from_rig, strict=True)):
            x, y, z, w = pycolmap.Rotation3d(np.ascontiguousarray(pose[:, :3])).quat
            entry: dict[str, object] = {"image_prefix": prefix, "camera_model_name": record.camera.model}
            entry |= {"camera_params": record.camera.params.tolist()}
            entry |= {"ref_sensor": True} if k == 0 else {}
            entry |= {"cam_from_rig_rotation": [w, x, y, z], "cam_from_rig_translation": [0, 0, 0]} if k else {}
            cameras.append(entry)
        configs.append({"cameras": cameras})
    return configs


def describe(found: FaceFolder) -> str:
    """One line for the summary."""
    num = sum(is_face(record) for record in found.records)
    return (
        f"{found.num_panoramas} panoramas, {num} cube faces of {FIELD_DEG:.0f} degrees in {FACES}, each panorama a rig "
        "of its faces"
    )
