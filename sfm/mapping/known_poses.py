"""Triangulation with cameras and poses of a COLMAP model that the user gives; both stay as they are.

Images are matched by name. The model may be binary or text, of any COLMAP version that pycolmap
reads; poses of rigs come as each image's own pose. Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap

from sfm.colmap.camera import prior_camera
from sfm.colmap.log import quiet
from sfm.colmap.model_reader import model_folder, read_reconstruction
from sfm.errors import BadFile
from sfm.mapping.colmap_mapper import triangulation_options
from sfm.mapping.inputs import MappingInput, write_database
from sfm.options import MappingOptions
from sfm.types import CameraPrior, ImageRecord

REASON = "not in the model of known poses"


def read_known_model(path: Path) -> pycolmap.Reconstruction:
    """The model at a path, of several the one of most images (sfm.colmap.model_reader.model_folder).

    Raises BadFile where it is missing or cannot be read.
    """
    return read_reconstruction(model_folder(path), "export it again")


def posed_input(
    data: MappingInput, known: pycolmap.Reconstruction, folder: Path
) -> tuple[MappingInput, frozenset[str]]:
    """The input with the model's cameras, and the names of the images that have a pose in it.

    folder: of the model, for messages. Raises BadFile where no image is in common, or a size differs.
    """
    images = {known.image(i).name: known.image(i) for i in known.reg_image_ids()}
    records = []
    for record in data.images:
        image = images.get(record.name)
        records.append(record if image is None else _with_camera(record, image, folder))
    posed = frozenset(record.name for record in data.images if record.name in images)
    if not posed:
        example = f" (for example {min(images)})" if images else ""
        raise BadFile(f"{folder}: has none of the images by name{example}; name its images as in the image folder")
    return replace(data, images=tuple(records), known_intrinsics=True, rigs=()), posed  # the user's own poses


def _with_camera(record: ImageRecord, image: pycolmap.Image, folder: Path) -> ImageRecord:
    camera = image.camera
    assert camera is not None
    if (camera.width, camera.height) != (record.width, record.height):
        raise BadFile(
            f"{folder}: the camera of {record.name} is {camera.width} x {camera.height} px, the image "
            f"{record.width} x {record.height}; give a model of these images at this size"
        )
    prior = CameraPrior(camera.model.name, np.array(camera.params), True, f"known {image.camera_id}")
    return replace(record, camera=prior)


def triangulate(
    data: MappingInput, known: pycolmap.Reconstruction, posed: frozenset[str], options: MappingOptions, scratch: Path
) -> pycolmap.Reconstruction:
    """A model with the known poses of the images `posed` and points from their matches.

    data: of `posed_input`. Its COLMAP database is left in scratch/database.db.
    """
    write_database(scratch / "database.db", data)
    start = _posed_model(data.images, known, posed)
    pipeline = triangulation_options(data, options)
    pipeline.triangulation.ignore_two_view_tracks = len(posed) > 2
    pipeline.ba_refine_focal_length = pipeline.ba_refine_extra_params = pipeline.ba_refine_principal_point = False
    with quiet(stderr=True):
        model: pycolmap.Reconstruction = pycolmap.triangulate_points(
            start, scratch / "database.db", scratch, scratch, True, pipeline, False
        )
    return model


def _posed_model(
    images: Sequence[ImageRecord], known: pycolmap.Reconstruction, posed: frozenset[str]
) -> pycolmap.Reconstruction:
    """The known poses with the ids of our COLMAP database: images in order from 1, cameras by group from 1."""
    pose_of = {known.image(i).name: known.image(i).cam_from_world() for i in known.reg_image_ids()}
    result = pycolmap.Reconstruction()
    camera_ids: dict[str, int] = {}
    for i, record in enumerate(images):
        if record.camera.group not in camera_ids:
            camera_ids[record.camera.group] = len(camera_ids) + 1
            result.add_camera_with_trivial_rig(prior_camera(record, camera_ids[record.camera.group]))
        if record.name in posed:
            image = pycolmap.Image(name=record.name, camera_id=camera_ids[record.camera.group], image_id=i + 1)
            result.add_image_with_trivial_frame(image, pose_of[record.name])
    return result
