"""Rigs in mapping: those whose poses are known from the start, and those that a finished model determines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pycolmap

from sfm.mapping.inputs import MappingInput
from sfm.types import CameraRig


def with_known_rigs(data: MappingInput, rigs: Sequence[CameraRig]) -> MappingInput:
    """The input with the rigs of which mapping needs to know from the start: cameras in one place, whose poses in the
    rig and whose intrinsics are known, as the faces of panoramas are. The order of `rigs` counts."""
    central = tuple(rig for rig in rigs if rig.fixed and rig.is_central)
    mounted = frozenset[str]().union(*(rig.names for rig in central))
    known = frozenset(record.camera.group for record in data.images if record.name in mounted)
    return replace(data, rigs=central, known_groups=known)


def known_cameras(data: MappingInput, model: pycolmap.Reconstruction) -> frozenset[int]:
    """Ids of a model's cameras whose intrinsics are known."""
    group_of = {record.name: record.camera.group for record in data.images}
    images = (model.images[i] for i in model.reg_image_ids())
    return frozenset(image.camera_id for image in images if group_of[image.name] in data.known_groups)


def fixed_rigs(data: MappingInput, model: pycolmap.Reconstruction) -> frozenset[int]:
    """Ids of a model's rigs in which the cameras' poses are known."""
    mounted = frozenset[str]().union(*(rig.names for rig in data.rigs if rig.fixed))
    images = (model.images[i] for i in model.reg_image_ids())
    return frozenset(model.frames[image.frame_id].rig_id for image in images if image.name in mounted)
