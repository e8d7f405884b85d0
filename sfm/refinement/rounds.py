"""Rounds of refinement: from a model whose observations are good to a pixel to one of sub-pixel tracks.

A matcher's positions are good to a pixel of its network's image, or of the image itself. Here every track gets a
reference observation, and all others are aligned with it in the images themselves (sfm.alignment.track_alignment), to
a few hundredths of a pixel where there is texture; the reference defines the point, so its own error does not count.
Then bundle adjustment with each observation's covariance, a filter, and a second round on the better model, whose
tracks have been completed and merged in between. The idea is that of He et al., Detector-Free Structure from Motion,
CVPR 2024, with patches in the place of its network. Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pycolmap
from numpy.typing import NDArray

from sfm.alignment.patch_warps import references
from sfm.calibration.focal_prior import FocalEvidence, evidence_of_priors, most_probable
from sfm.calibration.self_calibration import calibrated_cameras
from sfm.colmap.camera import prior_focal
from sfm.colmap.model_arrays import ModelColumns, delete_observations, move_observations
from sfm.colmap.rig_models import without_rigs
from sfm.mapping.equal_cameras import equal_cameras
from sfm.mapping.final_database import final_input
from sfm.mapping.inputs import MappingInput, write_database
from sfm.mapping.rigs import fixed_rigs, known_cameras, with_poses_of
from sfm.options import MappingOptions, RefinementOptions
from sfm.refinement.bundle_adjustment import Freedom, adjust, whitened
from sfm.refinement.checkpoint import Refined, load_round, save_round
from sfm.refinement.params import RefinementParams
from sfm.refinement.track_completion import add_proposals, complete, on_usable, open_matches, propose
from sfm.system.memory import give_back
from sfm.types import Float64, Int64, KeypointMatches

if TYPE_CHECKING:
    from sfm.alignment.pyramids import AlignmentImages
    from sfm.alignment.track_alignment import AlignedTracks

ReadGrey = Callable[[str], NDArray[np.uint8]]  # (H, W) of an image name, EXIF rotation applied
ReadMask = Callable[[str], NDArray[np.bool_] | None]


@dataclass(frozen=True, slots=True)
class Refiner:
    """What all rounds on all models of a run share. data: what mapping read. read_grey: (H, W) u8 of an image name.
    read_mask: (H, W) bool, where the image may be used, or None for all. memory: bytes for images and patches.

    unusable: names of images without usable pixels, whose observations stay as they are. write_database: a
    COLMAP database of a model in some state, with the model's ids and these matches; where absent, it is made of the
    data, whose order gives the ids.
    Poses that the user gave stay as they are, and intrinsics likewise. weak: what is known of the focal lengths that
    the images hardly determine; their cameras are held through the rounds. with_priors: the data's focal lengths may be
    EXIF's.
    """

    data: MappingInput
    options: RefinementOptions
    mapping: MappingOptions
    read_grey: ReadGrey
    read_mask: ReadMask = lambda name: None
    memory: int = 10**9
    device: str = "cpu"
    params: RefinementParams = RefinementParams()
    unusable: frozenset[str] = frozenset()
    write_database: Callable[[Path, pycolmap.Reconstruction, Sequence[KeypointMatches]], None] | None = None
    weak: tuple[FocalEvidence, ...] = ()
    with_priors: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "mapping", self.mapping.for_images(len(self.data.images)))

    def freedom(self, model: pycolmap.Reconstruction) -> Freedom:
        """What bundle adjustment may change."""
        known_poses = self.mapping.known_poses is not None
        weak = [evidence.camera_id for evidence in self.weak]
        fixed = frozenset(model.cameras if self.data.known_intrinsics or known_poses else weak)
        if not self.data.rigs:
            return Freedom(poses=not known_poses, fixed_cameras=fixed)
        fixed |= known_cameras(self.data, model)
        equal = equal_cameras(model) if len(fixed) < len(model.cameras) else {}
        return Freedom(fixed_cameras=fixed, fixed_rigs=fixed_rigs(self.data, model), equal_cameras=equal)

    def start(self, model: pycolmap.Reconstruction) -> Refined:
        """A model before the first round."""
        return Refined(model, self._covariances(model, {}))

    def next_round(self, before: Refined, scratch: Path) -> Refined:
        """Completion (from the second round on), alignment, adjustment, rejection. `before` stays as it is."""
        give_back()  # what the round before took
        number, params = before.rounds, self.params
        model = pycolmap.Reconstruction(before.model)
        num_registered = self._complete(model, number, scratch) if number > 0 else 0
        covariances = self._covariances(model, before.covariances)
        moved, num_rejected = self._align(model, covariances, before)
        give_back()  # patches and images, before bundle adjustment takes as much
        adjust(model, covariances, self.freedom(model), self.mapping.threads, tolerance=params.rough_tolerance)
        num_rejected += reject(model, covariances, self.data.sigmas, number, params, fineness=self.data.fineness)
        adjust(model, covariances, self.freedom(model), self.mapping.threads)
        return Refined(
            model,
            covariances,
            number + 1,
            before.num_registered + num_registered,
            before.num_rejected + num_rejected,
            float(np.median(moved)) if number == 0 else before.moved,
            bool((moved >= params.settled).mean() <= params.settled_share),
        )

    def _align(
        self, model: pycolmap.Reconstruction, covariances: dict[int, Float64], before: Refined
    ) -> tuple[Float64, int]:
        """Moves the model's observations, enters their covariances and takes out those that differ, in place.

        Returns how far those moved that the round before had, in standard deviations of a match, and how many are out.
        """
        columns, params = ModelColumns.of(model), self.params
        reference = self._references(columns)
        aligned, images = _aligned(columns, reference, self, first=before.rounds == 0)
        proposed = self._proposed(columns)
        aligned, different = without_strangers(aligned, columns, proposed, params)
        move_observations(model, columns, aligned.xy)
        unit_px = images.unit_px[columns.image] * of_observations(self.data.fineness, columns)
        _update(covariances, columns, known_covariances(aligned, columns, reference, images, params, unit_px))
        different |= proposed & ~is_certain(aligned, columns, images, params)
        held = ~different & columns.observed_in(before.model)
        moved = (np.linalg.norm(aligned.xy - columns.xy, axis=1) / unit_px)[held]
        return moved, delete_observations(model, columns, different)

    def _covariances(self, model: pycolmap.Reconstruction, known: dict[int, Float64]) -> dict[int, Float64]:
        """Covariances of all points2D of the registered images: those that are known, then the matcher's."""
        result, sigmas, fineness = {}, self.data.sigmas, self.data.fineness
        for image_id in model.reg_image_ids():
            image = model.images[image_id]
            sigma = self.params.match_sigma * sigmas[image.name]
            own = np.tile(np.eye(2) * sigma**2, (len(image.points2D), 1, 1))
            own *= _padded(fineness[image.name], len(own))[:, None, None] ** 2
            before = known.get(image_id, own[:0])
            own[: len(before)] = before
            result[image_id] = own
        return result

    def _references(self, columns: ModelColumns) -> Int64:
        return references(columns, avoided=np.array([name in self.unusable for name in columns.names], bool))

    def _proposed(self, columns: ModelColumns) -> NDArray[np.bool_]:
        """(O,) which observations are of keypoints that no matcher found."""
        num_matched = {r.name: len(own) for r, own in zip(self.data.images, self.data.keypoints, strict=True)}
        return np.asarray(columns.point2D >= np.array([num_matched[name] for name in columns.names])[columns.image])

    def _complete(self, model: pycolmap.Reconstruction, number: int, scratch: Path) -> int:
        path, data = scratch / "completion.db", open_matches(self.data, ModelColumns.of(model))
        if self.write_database is not None:
            self.write_database(path, model, data.matches)
        else:
            write_database(path, final_input(with_poses_of(data, model), [model]))
        num_registered = complete(
            model,
            data,
            self.mapping,
            path,
            max_error=self.params.max_error_of(number) * self.data.sigma,
            register=self.mapping.known_poses is None,
        )
        if number == self.params.proposing_round:
            columns = ModelColumns.of(model)
            add_proposals(
                model, columns, on_usable(propose(columns, self._references(columns)), columns, self.read_mask)
            )
        return num_registered


def _aligned(
    columns: ModelColumns, reference: Int64, refiner: Refiner, *, first: bool
) -> tuple[AlignedTracks, AlignmentImages]:
    from sfm.alignment.pyramids import AlignmentImages  # torch is loaded only where something is aligned
    from sfm.alignment.track_alignment import align_tracks

    images = AlignmentImages.of(
        lambda row: refiner.read_grey(columns.names[row]),
        [(camera.width, camera.height) for camera in columns.cameras],
        [refiner.data.sigmas[name] for name in columns.names],
        align_size=refiner.options.align_size,
        device=refiner.device,
    )
    from_level = images.first_level() if first else 0  # later rounds begin where little is left to do
    return align_tracks(
        columns, reference, images, from_level=from_level, memory=refiner.memory, device=refiner.device
    ), images


def without_strangers(
    aligned: AlignedTracks, columns: ModelColumns, proposed: NDArray[np.bool_], params: RefinementParams
) -> tuple[AlignedTracks, NDArray[np.bool_]]:
    """The alignment, and which observations (O,) differ from their reference.

    An image that looks different as a whole (at night, in another season) cannot be aligned. It is held where it is by
    its matches, which keep their positions; those that seem to agree do so by chance.
    """
    different = aligned.correlation < params.min_correlation
    num_images = len(columns.image_ids)
    matched = np.bincount(columns.image[~proposed], minlength=num_images)
    strange = np.bincount(columns.image[~proposed & different], minlength=num_images) > params.strange_share * matched
    held = strange[columns.image] & ~proposed & (aligned.correlation < 1)  # but references
    xy = np.where(held[:, None], columns.xy, aligned.xy)
    information = np.where(held[:, None, None], 0.0, aligned.information)
    return replace(aligned, xy=xy, information=information), different & ~held


def is_certain(
    aligned: AlignedTracks, columns: ModelColumns, images: AlignmentImages, params: RefinementParams
) -> NDArray[np.bool_]:
    """(O,) which observations would have been found without a match: unlike others, and exact in every direction."""
    moved = np.linalg.norm(aligned.xy - columns.xy, axis=1) / images.unit_px[columns.image]
    weakest = np.linalg.eigvalsh(aligned.information)[:, 0] * images.unit_px[columns.image] ** 2  # in the same units
    enough = (aligned.correlation > params.certain_correlation) & (weakest > params.certain_sigma**-2)
    enough &= moved < params.match_sigma
    enough |= aligned.correlation == 1.0  # a reference
    return np.asarray(enough)


ALIKE: Mapping[str, Float64] = {}  # all keypoints are as exact as their image's


def of_observations(fineness: Mapping[str, Float64], columns: ModelColumns) -> Float64:
    """(O,) of each observation's keypoint; 1 of those that no matcher found. fineness: as of MappingInput."""
    result = np.ones(len(columns.point2D))
    for name, seen in zip(columns.names, columns.rows_of_images, strict=True):
        if name in fineness and len(seen):
            result[seen] = _padded(fineness[name], int(columns.point2D[seen].max()) + 1)[columns.point2D[seen]]
    return result


def _padded(values: Float64, num: int) -> Float64:
    """So many of the values, and ones where there are no more."""
    return np.concatenate([values[:num], np.ones(max(0, num - len(values)))])


def known_covariances(
    aligned: AlignedTracks,
    columns: ModelColumns,
    reference: Int64,
    images: AlignmentImages,
    params: RefinementParams,
    unit_px: Float64 | None = None,
) -> Float64:
    """(O, 2, 2) px²: how well each aligned position is known. unit_px: (O,) standard deviation of each match, px, where
    it is not its image's."""
    unit_px = images.unit_px[columns.image] if unit_px is None else unit_px
    px = (images.unit_px / images.unit)[columns.image]  # image px per px of the aligned images
    prior = 1 / (params.match_sigma * unit_px) ** 2
    eye = np.eye(2)
    own = np.linalg.inv(aligned.information + prior[:, None, None] * eye)
    own += (params.alignment_sigma * px[:, None, None]) ** 2 * eye
    own[reference] = (params.reference_sigma * px[reference, None, None]) ** 2 * eye
    return np.asarray(own)


def _update(covariances: dict[int, Float64], columns: ModelColumns, own: Float64) -> None:
    """Enters what is known (O, 2, 2) of the model's observations, in place."""
    for image_id, seen in zip(columns.image_ids.tolist(), columns.rows_of_images, strict=True):
        covariances[image_id][columns.point2D[seen]] = own[seen]


def reject(
    model: pycolmap.Reconstruction,
    covariances: Mapping[int, Float64],
    sigmas: Mapping[str, float],
    number: int,
    params: RefinementParams,
    *,
    fineness: Mapping[str, Float64] = ALIKE,
) -> int:
    """Takes out of the model what does not fit it in a round, in place; returns how many observations.

    covariances: by image id (P, 2, 2) px². sigmas: of a match's position, px by image name. fineness: of keypoints.
    """
    columns = ModelColumns.of(model)
    own = np.empty((len(columns.xy), 2, 2))
    for image_id, seen in zip(columns.image_ids.tolist(), columns.rows_of_images, strict=True):
        own[seen] = covariances[image_id][columns.point2D[seen]]
    residuals = columns.residuals()
    unit = np.array([sigmas[name] for name in columns.names])[columns.image] * of_observations(fineness, columns)
    aligned = (
        np.trace(own, axis1=1, axis2=2) < 1.8 * (params.match_sigma * unit) ** 2
    )  # exact in one direction at least
    limit = np.where(aligned, params.max_error_of(number), params.max_error_of(0)) * unit
    with np.errstate(invalid="ignore"):
        far = ~(np.linalg.norm(residuals, axis=1) <= limit)  # NaN is far
    wrong = far | (whitened(residuals, own) > params.max_whitened)
    num = delete_observations(model, columns, wrong)
    pycolmap.ObservationManager(model).filter_all_points3D(np.inf, params.min_angle)
    return num


# --- all rounds -----------------------------------------------------------------


def refine(refiner: Refiner, model: pycolmap.Reconstruction, scratch: Path) -> Refined:
    """All rounds of one model. Each is kept in `scratch` when it is done, and found there after an interruption.

    The next one always begins with what was kept: a model that was read holds its points in another order.
    """
    state = load_round(scratch, refiner.data.sigmas) or refiner.start(model)
    while state.rounds < refiner.options.rounds and not state.settled and state.model.num_points3D() > 0:
        save_round(refiner.next_round(state, scratch), scratch)
        kept = load_round(scratch, refiner.data.sigmas)
        assert kept is not None  # it was just written
        state = kept
    return state


def focal_evidence(refiner: Refiner, model: pycolmap.Reconstruction) -> tuple[FocalEvidence, ...]:
    """What a model's images say of the focal lengths that EXIF gave."""
    data = refiner.data
    if data.known_intrinsics or refiner.mapping.known_poses is not None or not refiner.with_priors:
        return ()
    exif = (r for r in data.images if r.camera.has_focal_prior and r.camera.group not in data.estimated_focals)
    priors = {record.name: prior_focal(record) for record in exif}
    images = (model.images[i] for i in sorted(model.reg_image_ids()))
    return evidence_of_priors(model, {i.camera_id: priors[i.name] for i in images if i.name in priors})


def with_weak_cameras(refiner: Refiner, model: pycolmap.Reconstruction) -> tuple[Refiner, pycolmap.Reconstruction]:
    """A refiner that holds the focal lengths which the images hardly determine, and the model with the most probable
    ones, all else adjusted to them. Both as they were where there are none."""
    weak = tuple(evidence for evidence in focal_evidence(refiner, model) if evidence.is_weak)
    if not weak:
        return refiner, model
    held, result = replace(refiner, weak=weak), pycolmap.Reconstruction(model)
    for evidence in weak:
        result.cameras[evidence.camera_id] = most_probable(model, evidence)[0]
    adjust(result, held.start(result).covariances, held.freedom(result), refiner.mapping.threads)
    return held, result


def calibrate(refiner: Refiner, state: Refined) -> tuple[pycolmap.Reconstruction, tuple[str, ...]]:
    """The model with the cameras that its geometry determines, all else adjusted to them, and what became of each.

    Cameras that the user gave stay, and so does the argument. Those whose focal length the images hardly determine are
    as EXIF and the images together have them.
    """
    freedom = replace(refiner, weak=()).freedom(state.model)
    weak = {evidence.camera_id: evidence for evidence in refiner.weak}
    if refiner.options.fix_principal_point or len(freedom.fixed_cameras) == len(state.model.cameras):
        return state.model, ()
    equal = freedom.equal_cameras
    each = without_rigs(state.model, equal) if equal else state.model
    cameras, reports = calibrated_cameras(each, fixed=freedom.fixed_cameras | frozenset(weak))
    found = {camera_id: most_probable(state.model, evidence) for camera_id, evidence in weak.items()}
    cameras |= {camera_id: camera for camera_id, (camera, _) in found.items()}
    reports = tuple(found[r.camera_id][1] if r.camera_id in found else r for r in reports)
    model = pycolmap.Reconstruction(state.model)
    for camera_id in model.cameras:
        if freedom.parameters_of(camera_id) in cameras:
            model.cameras[camera_id] = _numbered(cameras[freedom.parameters_of(camera_id)], camera_id)
    if cameras:
        held = freedom.fixed_cameras | frozenset(i for i in model.cameras if freedom.parameters_of(i) in cameras)
        adjust(model, state.covariances, replace(freedom, fixed_cameras=held), refiner.mapping.threads)
    return model, tuple(str(report) for report in reports)


def _numbered(camera: pycolmap.Camera, camera_id: int) -> pycolmap.Camera:
    result = deepcopy(camera)
    result.camera_id = camera_id
    return result
