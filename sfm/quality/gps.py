"""Whether a model contradicts the GPS positions of its images, and which of both is to be doubted.

Errors of GPS are each image's own, or drift slowly by some metres. A group of images that lies far from its positions,
and yet fits them by a similarity of its own, is a piece of the model that is in the wrong place: a model that is
folded, bent or split. Single images that are far off, or positions that no shape fits, are the receiver's fault and no
sign against the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pycolmap
from numpy.typing import NDArray

from sfm.geometry.poses import angle_between_deg
from sfm.geometry.similarity import Similarity, robust_similarity
from sfm.georeferencing.gps_fit import LEAST, MOST, GPSFit
from sfm.georeferencing.placement import model_fit
from sfm.images.positions import positions_of
from sfm.types import Float64, ImageRecord, ModelWarning

PIECE = 0.3  # of the positions: the least share that the largest piece of a model has
RIGID = 0.85  # of the images beyond the tolerance, that one similarity has to explain
# A piece is off by so many times what it leaves of its own, and fits its positions nearly as well as the others do
# theirs: between houses positions drift together, but no shape fits them.
CLEARLY, AS_WELL = 4.0, 2.0
SCALES = (0.33, 3.0)  # of a piece, over the model's: at others its positions only happen to be near
SHOWN = 5  # images in a warning
NOISE = 2.0  # residuals over the standard deviations of GPS, from which on those do not explain them
STEEP_DEG = 45.0  # above the horizon, of nine tenths of the cameras
MAX_TURN_DEG = 60.0  # median angle between where cameras look and where the gimbal says


def contradicts_gps(model: pycolmap.Reconstruction, records: Sequence[ImageRecord]) -> Iterator[ModelWarning]:
    """Parts of the model are elsewhere than their positions, the model is mirrored, or looks elsewhere."""
    fit = model_fit(model, positions_of(records))
    if fit.robust is None or fit.extent < 4 * float(np.median(fit.sigma[:, 0])):
        return
    largest = fit.robust.similarity
    placed = _explained(fit, largest)
    if _is_mirrored(fit):
        yield ModelWarning(
            "contradicts GPS",
            f"the model is a mirror image of the {len(fit.names)} GPS positions of its images: it is probably turned "
            "inside out (add images from other heights and directions, or give --intrinsics)",
        )
        return
    if placed.mean() < MOST:
        if (piece := robust_similarity(fit.centres, fit.enu, fit.sigma, share=PIECE)) is None:
            return
        largest, placed = piece.similarity, _explained(fit, piece.similarity)
        if placed.mean() < PIECE or not _is_wide(fit, placed):
            return
    if (moved := _moved_piece(fit, placed, largest)).any():
        yield _pieces(fit, moved, largest)
    elif not fit.reason:
        yield from tuple(_looks_elsewhere(model, records, largest)) or _looks_up(model, largest)


def _off(fit: GPSFit, similarity: Similarity) -> Float64:
    """(N,) m, horizontal distances from the positions that a similarity leaves."""
    return np.asarray(np.linalg.norm((similarity(fit.centres) - fit.enu)[:, :2], axis=1))


def _explained(fit: GPSFit, similarity: Similarity) -> NDArray[np.bool_]:
    """(N,) which positions a similarity brings near."""
    return np.asarray(_off(fit, similarity) <= fit.tolerance)


def _is_wide(fit: GPSFit, rows: NDArray[np.bool_]) -> bool:
    """Whether positions lie further apart than the tolerance, so that not just any similarity explains them."""
    own = fit.enu[rows, :2]
    spread = np.median(np.linalg.norm(own - np.median(own, axis=0), axis=1))
    return bool(spread > np.median(fit.tolerance[rows]))


def _is_mirrored(fit: GPSFit) -> bool:
    """Whether the mirrored model fits well, and twice as well as the model, whose errors are beyond those of GPS."""
    found = robust_similarity(fit.centres * [1.0, 1.0, -1.0], fit.enu, fit.sigma)
    if found is None or fit.robust is None:
        return False
    return fit.robust.noise > NOISE and found.noise < fit.robust.noise / 2


def _moved_piece(fit: GPSFit, placed: NDArray[np.bool_], largest: Similarity) -> NDArray[np.bool_]:
    """(N,) images that one other similarity explains, where it explains most of those that are not placed."""
    nothing = np.zeros(len(placed), bool)
    rows = np.flatnonzero(~placed)
    if len(rows) < LEAST:
        return nothing
    found = robust_similarity(fit.centres[rows], fit.enu[rows], fit.sigma[rows])
    if found is None or not SCALES[0] <= found.similarity.scale / largest.scale <= SCALES[1]:
        return nothing
    moved = _explained(fit, found.similarity) & ~placed
    if moved.sum() < max(LEAST, RIGID * len(rows)) or not _is_wide(fit, moved):
        return nothing
    own, usual = (
        float(np.quantile(_off(fit, similarity)[which], 0.75))
        for similarity, which in ((found.similarity, rows), (largest, placed))
    )
    as_well = own <= AS_WELL * max(usual, 0.2 * float(np.median(fit.sigma[moved, 0])))
    return moved if as_well and np.median(_off(fit, largest)[moved]) > CLEARLY * own else nothing


def _pieces(fit: GPSFit, moved: NDArray[np.bool_], largest: Similarity) -> ModelWarning:
    off = _off(fit, largest)
    names = [fit.names[i] for i in np.flatnonzero(moved)]
    some = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    return ModelWarning(
        "contradicts GPS",
        f"{len(names)} of {len(fit.names)} images lie together in another place than their GPS positions, by "
        f"{np.median(off[moved]):.0f} m: the model is probably folded, bent or in pieces there ({some})",
    )


def _looks_elsewhere(
    model: pycolmap.Reconstruction, records: Sequence[ImageRecord], similarity: Similarity
) -> Iterator[ModelWarning]:
    """Cameras look elsewhere than a drone's gimbal did, as in a model of a plane that is upside down."""
    looks = {
        r.name: look for r in records if r.gps is not None and np.isfinite(look := _gimbal_look(r.gps.gimbal)).all()
    }
    images = [image for i in sorted(model.reg_image_ids()) if (image := model.image(i)).name in looks]
    if len(images) < LEAST:
        return
    axes = np.array([image.cam_from_world().rotation.matrix()[2] for image in images]) @ similarity.rotation.T
    angle = float(np.median(angle_between_deg(axes, np.array([looks[image.name] for image in images]))))
    if angle > MAX_TURN_DEG:
        yield ModelWarning(
            "contradicts GPS",
            f"the cameras look {angle:.0f} degrees away from where the drone's gimbal says: the model is probably "
            "mirrored",
        )


def _looks_up(model: pycolmap.Reconstruction, similarity: Similarity) -> Iterator[ModelWarning]:
    """All cameras look steeply up: positions that are nearly in a plane fit upside down as well, mirrored."""
    axes = np.array([model.image(i).cam_from_world().rotation.matrix()[2] for i in sorted(model.reg_image_ids())])
    up = np.degrees(np.arcsin(np.clip((axes @ similarity.rotation.T)[:, 2], -1, 1)))
    if float(np.quantile(up, 0.1)) > STEEP_DEG:
        yield ModelWarning(
            "contradicts GPS",
            f"the cameras look up by {np.median(up):.0f} degrees: the model is probably upside down, because its GPS "
            "positions are mirrored or their altitudes wrong (--gps off leaves it as it is)",
        )


def _gimbal_look(gimbal: tuple[float, float, float]) -> Float64:
    """(3,) where a camera looks, east, north, up, by its yaw and pitch in degrees."""
    yaw, pitch, _ = np.radians(gimbal)
    return np.array([np.sin(yaw) * np.cos(pitch), np.cos(yaw) * np.cos(pitch), np.sin(pitch)])
