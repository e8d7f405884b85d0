"""The COLMAP database that belongs to finished models: their cameras, and their images' keypoints.

COLMAP goes on from a model (triangulate_points, or mapping with an input) only where the database has its cameras, of
the same camera models, and as many keypoints of its images; else it aborts. Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap

from sfm.colmap.camera import widened, widest
from sfm.mapping.inputs import MappingInput, write_database
from sfm.types import Keypoints


def write_final_database(path: Path, data: MappingInput, models: Sequence[pycolmap.Reconstruction]) -> None:
    """A new COLMAP database of all that mapping read, with the cameras and the keypoints of finished models.

    What several models have is the first one's; cameras and images of none are as mapping read them. models: made to
    agree by `reconcile`, with the ids of a database of `data`.
    """
    cameras: dict[int, pycolmap.Camera] = {}
    for model in models:
        for image_id in model.reg_image_ids():
            camera = model.cameras[model.images[image_id].camera_id]
            cameras.setdefault(camera.camera_id, camera)
    write_database(path, final_input(data, models), cameras)


def final_input(data: MappingInput, models: Sequence[pycolmap.Reconstruction]) -> MappingInput:
    """What mapping read, with the keypoints where the images of finished models have them."""
    final: dict[str, pycolmap.Image] = {}
    for model in models:
        for image_id in model.reg_image_ids():
            final.setdefault(model.images[image_id].name, model.images[image_id])
    keypoints = []
    for record, own in zip(data.images, data.keypoints, strict=True):
        if record.name in final:
            xy = np.array([p.xy for p in final[record.name].points2D], np.float32).reshape(-1, 2)
            own = Keypoints(xy, np.pad(own.score, (0, len(xy) - len(own))))  # those that were proposed have no score
        keypoints.append(own)
    return replace(data, keypoints=tuple(keypoints))


def reconcile(models: Sequence[pycolmap.Reconstruction]) -> None:
    """Makes models of one database agree, in place, so that one database fits them all.

    Each may have freed other parameters of a camera that they share: it gets the widest of its camera models in all of
    them, with the parameters that project as before. An image in several of them gets as many keypoints in each.
    """
    for camera_id in {i for model in models for i in model.cameras}:
        sharing = [model for model in models if camera_id in model.cameras]
        name = widest([model.cameras[camera_id].model_name for model in sharing])
        for model in sharing if name is not None else ():
            if model.cameras[camera_id].model_name != name:
                model.cameras[camera_id] = widened(model.cameras[camera_id], str(name))
    for image_id in {i for model in models for i in model.reg_image_ids()}:
        images = [model.images[image_id] for model in models if image_id in model.images]
        longest = max(images, key=lambda image: len(image.points2D))
        for image in (own for own in images if len(own.points2D) < len(longest.points2D)):
            for point in list(longest.points2D)[len(image.points2D) :]:
                image.points2D.append(pycolmap.Point2D(point.xy))
