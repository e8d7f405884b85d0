"""COLMAP cameras from priors, and priors with other focal lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pycolmap

from sfm.types import CameraPrior, ImageRecord


def prior_camera(record: ImageRecord, camera_id: int | None = None) -> pycolmap.Camera:
    """COLMAP's camera with the prior intrinsics of an image."""
    camera = _camera(record.camera, record.width, record.height)
    if camera_id is not None:
        camera.camera_id = camera_id
    return camera


def _camera(prior: CameraPrior, width: int, height: int) -> pycolmap.Camera:
    camera = pycolmap.Camera(model=prior.model, width=width, height=height, params=prior.params)
    camera.has_prior_focal_length = prior.has_focal_prior
    return camera


WIDER = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")  # a later one may hold an earlier one


def widest(names: Sequence[str]) -> str | None:
    """The smallest of COLMAP's perspective models that holds cameras of all of these; None where none does."""
    if len(set(names)) == 1:
        return names[0]
    if not set(names) <= set(WIDER):
        return None
    has_two = any(name in ("PINHOLE", "OPENCV") for name in names)
    has_distortion = any(name not in ("SIMPLE_PINHOLE", "PINHOLE") for name in names)
    return "OPENCV" if has_two and has_distortion else max(names, key=WIDER.index)


def widened(camera: pycolmap.Camera, name: str) -> pycolmap.Camera:
    """A camera of another model of WIDER, which holds it, that projects as this one does."""
    values = dict(zip(_parameter_names(camera), camera.params, strict=True))
    if "f" in values:
        values["fx"] = values["fy"] = values["f"]
    if "k" in values:
        values["k1"] = values["k"]
    result = pycolmap.Camera(model=name, width=camera.width, height=camera.height, camera_id=camera.camera_id)
    result.params = [float(values.get(each, 0.0)) for each in _parameter_names(result)]
    result.has_prior_focal_length = camera.has_prior_focal_length
    return result


def _parameter_names(camera: pycolmap.Camera) -> list[str]:
    return [name.strip() for name in camera.params_info.split(",")]


def prior_focal(record: ImageRecord) -> float:
    """Focal length of an image's prior, px; the mean of both directions where its model has two."""
    return float(prior_camera(record).mean_focal_length())


def with_focal(camera: CameraPrior, focal: float, width: int, height: int) -> CameraPrior:
    """The camera with a focal length, px, that counts as a prior; in both directions where its model has two."""
    params = np.array(camera.params)
    params[list(_camera(camera, width, height).focal_length_idxs())] = focal
    return replace(camera, params=params, has_focal_prior=True)


def replace_focals(images: Sequence[ImageRecord], focals: Mapping[str, float]) -> tuple[ImageRecord, ...]:
    """The images with the focal lengths (px, by camera group) in their cameras."""
    return tuple(
        replace(r, camera=with_focal(r.camera, focals[r.camera.group], r.width, r.height))
        if r.camera.group in focals
        else r
        for r in images
    )
