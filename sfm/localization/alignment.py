"""Correspondences to sub-pixel: patches of the new image aligned with those of the model's images.

As in refinement (sfm.alignment.track_alignment); here only the new image's pixels move. Pixels are COLMAP's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfm.alignment.pyramids import AlignmentImages
from sfm.alignment.track_alignment import align_tracks
from sfm.colmap.model_arrays import ModelColumns
from sfm.localization.correspondences import Correspondences
from sfm.localization.model import KnownModel
from sfm.localization.pose import Pose
from sfm.refinement.params import RefinementParams
from sfm.refinement.rounds import known_covariances
from sfm.types import Float64


@dataclass(frozen=True, slots=True)
class Aligner:
    """What alignment needs besides its arguments. read: (H, W) u8 grey of an image of the model by its name. sigma:
    standard deviation of a match, px of the image that its network sees, for images of a longer side (px)."""

    read: Callable[[str], NDArray[np.uint8]]
    sigma: Callable[[int, int], float]
    align_size: int
    memory: int
    device: str
    params: RefinementParams = RefinementParams()

    def align(
        self,
        known: KnownModel,
        pose: Pose,
        found: Correspondences,
        grey: NDArray[np.uint8],
        matched: Sequence[str],
    ) -> tuple[Float64, Float64]:
        """xy (N, 2) and covariances (N, 2, 2) px² of the correspondences; where the pixels differ, as matched.

        grey: (H, W) of the new image. matched: images of the model that it is compared with.
        """
        columns = _columns(known, pose, found, matched)
        images = self._images(columns, grey)
        reference = np.arange(0, 2 * len(found), 2)
        aligned = align_tracks(
            columns,
            reference,
            images,
            from_level=images.first_level(),
            memory=self.memory,
            device=self.device,
        )
        own = reference + 1
        covariances = known_covariances(aligned, columns, reference, images, self.params)[own]
        same = aligned.correlation[own] >= self.params.min_correlation
        unlike = (self.params.match_sigma * images.unit_px[-1]) ** 2 * np.eye(2)
        xy = np.where(same[:, None], aligned.xy[own], found.xy)
        return xy, np.where(same[:, None, None], covariances, unlike)

    def _images(self, columns: ModelColumns, grey: NDArray[np.uint8]) -> AlignmentImages:
        sizes = [(camera.width, camera.height) for camera in columns.cameras]
        last = len(columns.names) - 1
        return AlignmentImages.of(
            lambda row: grey if row == last else self.read(columns.names[row]),
            sizes,
            [self.sigma(*size) for size in sizes],
            align_size=self.align_size,
            device=self.device,
        )


def _columns(known: KnownModel, pose: Pose, found: Correspondences, matched: Sequence[str]) -> ModelColumns:
    """Two observations of every point: the most similar one of the model, and the new image's, which is the last."""
    c = known.columns
    reference = known.references(found.point, pose.centre, matched)
    rows, image = np.unique(c.image[reference], return_inverse=True)
    num, last = len(found), len(rows)
    pairs = np.stack([image.ravel(), np.full(num, last)], axis=1).ravel()
    xy = np.stack([c.xy[reference], found.xy], axis=1).reshape(-1, 2)
    point2D = np.stack([c.point2D[reference], np.arange(num)], axis=1).ravel()
    return ModelColumns(
        np.arange(last + 1),
        (*(c.names[row] for row in rows), ""),
        np.concatenate([c.rotations[rows], pose.rotation[None]]),
        np.concatenate([c.translations[rows], pose.translation[None]]),
        (*(c.cameras[row] for row in rows), pose.camera),
        found.point,
        known.xyz(found.point),
        np.repeat(np.arange(num), 2),
        pairs,
        point2D,
        xy,
    )
