"""Whether cameras of which nothing is known are devices of one kind, with one calibration.

Files without EXIF in several folders are taken as a camera a folder. Where a folder holds so few images that they do
not determine their camera, the images of all such folders are mapped once more with one camera, if it may be one: the
same size, and nothing known of either. One calibration is kept unless it explains
clearly less.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pycolmap

from sfm.colmap.database import camera_ids
from sfm.images.camera_priors import UNKNOWN_DEVICE
from sfm.mapping.inputs import MappingInput

AS_MUCH = 0.98  # of what several calibrations explain: one that explains so much is simpler
FEW = 5  # images, which do not determine a camera; as many as self-calibration asks for


def with_equal_cameras(data: MappingInput) -> MappingInput | None:
    """The input with one camera for each set of folders that may be of equal devices; None where there are none."""
    sets: dict[tuple[str, int, int], dict[str, int]] = defaultdict(dict)
    for record in data.images:
        camera = record.camera
        if not camera.has_focal_prior and camera.group.startswith(UNKNOWN_DEVICE):
            counts = sets[(camera.model, record.width, record.height)]
            counts[camera.group] = counts.get(camera.group, 0) + 1
    group_of = {
        group: f"devices of one kind, {width}x{height}"
        for (_, width, height), counts in sets.items()
        if len(counts) > 1 and min(counts.values()) < FEW
        for group in counts
    }
    if not group_of:
        return None
    images = (
        replace(r, camera=replace(r.camera, group=group_of.get(r.camera.group, r.camera.group))) for r in data.images
    )
    return replace(data, images=tuple(images))


def cameras_as_mapped(data: MappingInput, model: pycolmap.Reconstruction) -> MappingInput:
    """The input with the cameras with which a model was made of it: one, or one of each kind that may be equal."""
    pooled = with_equal_cameras(data)
    if pooled is None:
        return data
    if equal_cameras(model):  # of a rig
        return pooled
    ids, group_of = camera_ids(data.images), {record.name: record.camera.group for record in data.images}
    images = [model.images[i] for i in model.reg_image_ids()]
    mounted = any(rig.num_sensors() > 1 for rig in model.rigs.values())
    return data if mounted or all(ids[group_of[image.name]] == image.camera_id for image in images) else pooled


def equal_cameras(model: pycolmap.Reconstruction) -> Mapping[int, int]:
    """Of cameras of a rig that have one calibration the id of each, and of the first of its kind.

    In COLMAP each camera of a rig is one of its own; those of one calibration have the same parameters.
    """
    first: dict[tuple[object, ...], int] = {}
    result = {}
    for rig in model.rigs.values():
        ids = sorted(sensor.id for sensor in rig.sensor_ids()) if rig.num_sensors() > 1 else []
        for camera_id in ids:
            camera = model.cameras[camera_id]
            key = (camera.model_name, camera.width, camera.height, *np.asarray(camera.params).tolist())
            if first.setdefault(key, camera_id) != camera_id:
                result[camera_id] = first[key]
    return result
