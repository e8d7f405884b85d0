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
