"""Sub-pixel tracks: the last stage, from the models of mapping to the models that are kept.

The matcher's positions are good to about a pixel of its network's image. Here every track gets a reference observation,
and all others are aligned with it in the photos themselves (sfm.refinement.track_alignment), to a few hundredths of a
pixel where there is texture; the reference defines the point, so its own position costs nothing. Then bundle adjustment
with each observation's covariance, a filter, and a second round on the better model, whose tracks have been completed
and merged in between. The idea is that of He et al., Detector-Free Structure from Motion, CVPR 2024, with patches in
the place of its network. Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pycolmap
from numpy.typing import NDArray

from sfm import __version__
from sfm.colmap.database import place_database
from sfm.colmap.model_arrays import ModelColumns, delete_observations, move_observations
from sfm.colmap.model_files import (
    UNREFINED,
    ReadRGB,
    colour_points,
    has_foreign,
    read_models,
    write_models,
    write_ply,
)
from sfm.errors import BadFile
from sfm.geometry.epipolar import reduction
from sfm.mapping.colmap_mapper import MappingInput, write_database
from sfm.options import MappingOptions, RefinementOptions
from sfm.refinement.bundle_adjustment import Freedom, adjust, whitened
from sfm.refinement.checkpoint import Refined, load_round, save_round
from sfm.refinement.patch_warps import references
from sfm.refinement.self_calibration import calibrated_cameras
from sfm.refinement.track_completion import add_proposals, complete, on_usable, propose, refined_input
from sfm.system.hashing import files_digest, json_bytes
from sfm.system.memory import give_back
from sfm.types import Float64, StageSummary

if TYPE_CHECKING:
    from sfm.refinement.track_alignment import AlignedTracks, Photos

ReadGrey = Callable[[str], NDArray[np.uint8]]  # (H, W) of an image name, EXIF rotation applied
ReadMask = Callable[[str], NDArray[np.bool_] | None]

MIN_CORRELATION = 0.7  # patches of one place that agree less are of different things, or one of them is hidden
STRANGE_SHARE = 0.5  # of a photo's observations; one of which more differ looks different as a whole
CERTAIN_CORRELATION, CERTAIN_SIGMA = 0.8, 0.5  # network px; what an observation needs that no match speaks for
PROPOSING_ROUND = 1  # the second, when poses are good
MATCH_SIGMA = 2.0  # network px; of an observation of which the pixels say nothing
ALIGNMENT_SIGMA = 0.1  # px of the aligned images; no position is better, whatever the pixels say
REFERENCE_SIGMA = 0.2  # px of the aligned images
MAX_WHITENED = 4.0  # standard deviations; an observation that is further off the model is wrong
MAX_ERROR = (2.0, 1.0)  # network px; likewise, in the first round and in later ones, once it was aligned
MIN_ANGLE = 1.5  # degrees
ROUGH = 1e-3  # tolerance of the bundle adjustment that only shows what does not fit
SETTLED, SETTLED_SHARE = 0.1, 0.25  # network px; no round follows one that moved fewer than a quarter by more


@dataclass(frozen=True, slots=True)
class Refiner:
    """What all rounds on all models of a run share. data: what mapping read. read_grey: (H, W) u8 of an image name.
    read_mask: (H, W) bool, where the photo may be used, or None for all. memory: bytes for photos and patches.

    Poses that the user gave stay as they are, and intrinsics likewise.
    """

    data: MappingInput
    options: RefinementOptions
    mapping: MappingOptions
    read_grey: ReadGrey
    read_mask: ReadMask = lambda name: None
    memory: int = 10**9
    device: str = "cpu"

    @property
    def units(self) -> dict[str, float]:
        """Photo px per network px, by image name."""
        return {record.name: reduction(self.data.grids.get(record.name)) for record in self.data.images}

    def freedom(self, model: pycolmap.Reconstruction) -> Freedom:
        """What bundle adjustment may change."""
        known_poses = self.mapping.known_poses is not None
        fixed = model.cameras if self.data.known_intrinsics or known_poses else ()
        return Freedom(poses=not known_poses, fixed_cameras=frozenset(fixed))

    def start(self, model: pycolmap.Reconstruction) -> Refined:
        """A model before the first round."""
        return Refined(model, _covariances(model, self.units, {}))

    def next_round(self, before: Refined, scratch: Path) -> Refined:
        """Completion (from the second round on), alignment, adjustment, rejection. `before` stays as it is."""
        give_back()  # what the round before took
        number, units = before.rounds, self.units
        model = pycolmap.Reconstruction(before.model)
        num_registered = self._complete(model, number, scratch) if number > 0 else 0
        covariances = _covariances(model, units, before.covariances)
        columns = ModelColumns.of(model)
        reference = references(columns)
        aligned, photos = _aligned(columns, reference, self, first=number == 0)
        give_back()  # patches and photos, before bundle adjustment takes as much
        proposed = self._proposed(columns)
        aligned, different = _without_strangers(aligned, columns, proposed)
        _take_over(model, covariances, columns, reference, aligned, photos)
        different |= proposed & ~_is_certain(aligned, columns, photos)
        num_rejected = delete_observations(model, columns, different)
        adjust(model, covariances, self.freedom(model), self.mapping.threads, tolerance=ROUGH)
        num_rejected += _reject(model, covariances, units, number)
        adjust(model, covariances, self.freedom(model), self.mapping.threads)
        held = ~different & columns.observed_in(before.model)
        moved = (np.linalg.norm(aligned.xy - columns.xy, axis=1) / photos.unit_px[columns.image])[held]  # network px
        return Refined(
            model,
            covariances,
            number + 1,
            before.num_registered + num_registered,
            before.num_rejected + num_rejected,
            float(np.median(moved)) if number == 0 else before.moved,
            bool((moved >= SETTLED).mean() <= SETTLED_SHARE),
        )

    def _proposed(self, columns: ModelColumns) -> NDArray[np.bool_]:
        """(O,) which observations are of keypoints that no matcher found."""
        num_matched = {r.name: len(own) for r, own in zip(self.data.images, self.data.keypoints, strict=True)}
        return np.asarray(columns.point2D >= np.array([num_matched[name] for name in columns.names])[columns.image])

    def _complete(self, model: pycolmap.Reconstruction, number: int, scratch: Path) -> int:
        num_registered = complete(
            model,
            refined_input(self.data, model),
            self.mapping,
            scratch,
            max_error=_of_round(MAX_ERROR, number) * self.data.reduction,
            register=self.mapping.known_poses is None,
        )
        if number == PROPOSING_ROUND:
            columns = ModelColumns.of(model)
            add_proposals(model, columns, on_usable(propose(columns, references(columns)), columns, self.read_mask))
        return num_registered


def _of_round(values: tuple[float, ...], number: int) -> float:
    return values[min(number, len(values) - 1)]


def _covariances(
    model: pycolmap.Reconstruction, units: dict[str, float], known: dict[int, Float64]
) -> dict[int, Float64]:
    """Covariances of all points2D of the registered images: those that are known, then the matcher's."""
    result = {}
    for image_id in model.reg_image_ids():
        image = model.images[image_id]
        own = np.tile(np.eye(2) * (MATCH_SIGMA * units[image.name]) ** 2, (len(image.points2D), 1, 1))
        before = known.get(image_id, own[:0])
        own[: len(before)] = before
        result[image_id] = own
    return result


def _aligned(
    columns: ModelColumns, reference: NDArray[np.int64], refiner: Refiner, *, first: bool
) -> tuple[AlignedTracks, Photos]:
    from sfm.refinement.patch_alignment import Pyramid  # torch is loaded only where something is aligned
    from sfm.refinement.track_alignment import NUM_LEVELS, Photos, align_tracks, reduced_grey, reduced_size

    options, units = refiner.options, refiner.units
    sizes = np.array([(camera.width, camera.height) for camera in columns.cameras], np.float64)
    scale = np.array([reduced_size(w, h, options.align_size) for w, h in sizes.astype(int)]) / sizes
    unit = np.array([units[name] for name in columns.names]) * scale.mean(axis=1)

    def read(row: int) -> Pyramid:
        return Pyramid.of(
            reduced_grey(refiner.read_grey(columns.names[row]), options.align_size), NUM_LEVELS, refiner.device
        )

    photos = Photos(read, scale, unit)
    # The first round begins where a network's pixel is a pixel or less; later ones, where little is left to do.
    level = max(1, int(np.ceil(np.log2(np.median(unit))))) if first else 0
    from_level = min(level, NUM_LEVELS - 1)
    return align_tracks(
        columns, reference, photos, from_level=from_level, memory=refiner.memory, device=refiner.device
    ), photos


def _without_strangers(
    aligned: AlignedTracks, columns: ModelColumns, proposed: NDArray[np.bool_]
) -> tuple[AlignedTracks, NDArray[np.bool_]]:
    """The alignment, and which observations (O,) differ from their reference.

    A photo that looks different as a whole (at night, in another season) cannot be aligned. It is held where it is by
    its matches, which keep their positions; those that seem to agree do so by chance.
    """
    different = aligned.correlation < MIN_CORRELATION
    num_images = len(columns.image_ids)
    matched = np.bincount(columns.image[~proposed], minlength=num_images)
    strange = np.bincount(columns.image[~proposed & different], minlength=num_images) > STRANGE_SHARE * matched
    held = strange[columns.image] & ~proposed & (aligned.correlation < 1)  # but references
    xy = np.where(held[:, None], columns.xy, aligned.xy)
    information = np.where(held[:, None, None], 0.0, aligned.information)
    return replace(aligned, xy=xy, information=information), different & ~held


def _is_certain(aligned: AlignedTracks, columns: ModelColumns, photos: Photos) -> NDArray[np.bool_]:
    """(O,) which observations would have been found without a match: unlike others, and exact in every direction."""
    moved = np.linalg.norm(aligned.xy - columns.xy, axis=1) / photos.unit_px[columns.image]
    weakest = np.linalg.eigvalsh(aligned.information)[:, 0] * photos.unit_px[columns.image] ** 2  # per network px²
    enough = (aligned.correlation > CERTAIN_CORRELATION) & (weakest > CERTAIN_SIGMA**-2) & (moved < MATCH_SIGMA)
    enough |= aligned.correlation == 1.0  # a reference
    return np.asarray(enough)


def _take_over(
    model: pycolmap.Reconstruction,
    covariances: dict[int, Float64],
    columns: ModelColumns,
    reference: NDArray[np.int64],
    aligned: AlignedTracks,
    photos: Photos,
) -> None:
    """Gives the model the aligned positions, and the covariances what is known of them."""
    move_observations(model, columns, aligned.xy)
    px = (photos.unit_px / photos.unit)[columns.image]  # photo px per px of the aligned images
    prior = 1 / (MATCH_SIGMA * photos.unit_px[columns.image]) ** 2
    eye = np.eye(2)
    own = np.linalg.inv(aligned.information + prior[:, None, None] * eye)
    own += (ALIGNMENT_SIGMA * px[:, None, None]) ** 2 * eye
    own[reference] = (REFERENCE_SIGMA * px[reference, None, None]) ** 2 * eye
    for row, image_id in enumerate(columns.image_ids):
        seen = columns.image == row
        covariances[int(image_id)][columns.point2D[seen]] = own[seen]


def _reject(
    model: pycolmap.Reconstruction, covariances: dict[int, Float64], units: dict[str, float], number: int
) -> int:
    """Takes out of the model what does not fit it; returns how many observations."""
    columns = ModelColumns.of(model)
    own = np.empty((len(columns.xy), 2, 2))
    for row, image_id in enumerate(columns.image_ids):
        seen = columns.image == row
        own[seen] = covariances[int(image_id)][columns.point2D[seen]]
    residuals = columns.residuals()
    unit = np.array([units[name] for name in columns.names])[columns.image]
    aligned = np.trace(own, axis1=1, axis2=2) < 1.8 * (MATCH_SIGMA * unit) ** 2  # exact in one direction at least
    limit = np.where(aligned, _of_round(MAX_ERROR, number), MAX_ERROR[0]) * unit
    with np.errstate(invalid="ignore"):
        far = ~(np.linalg.norm(residuals, axis=1) <= limit)  # NaN is far
    wrong = far | (whitened(residuals, own) > MAX_WHITENED)
    num = delete_observations(model, columns, wrong)
    pycolmap.ObservationManager(model).filter_all_points3D(np.inf, MIN_ANGLE)
    return num


# --- the stage: rounds and files -------------------------------------------------


def refine(refiner: Refiner, model: pycolmap.Reconstruction, scratch: Path) -> Refined:
    """All rounds of one model. Each is kept in `scratch` when it is done, and found there after an interruption.

    The next one always begins with what was kept: a model that was read holds its points in another order.
    """
    state = load_round(scratch, refiner.units) or refiner.start(model)
    while state.rounds < refiner.options.rounds and not state.settled and state.model.num_points3D() > 0:
        save_round(refiner.next_round(state, scratch), scratch)
        kept = load_round(scratch, refiner.units)
        assert kept is not None  # it was just written
        state = kept
    return state


def calibrate(refiner: Refiner, state: Refined) -> tuple[pycolmap.Reconstruction, tuple[str, ...]]:
    """The model with the cameras that its geometry determines, all else adjusted to them, and what became of each.

    Cameras that the user gave stay, and so does the argument.
    """
    freedom = refiner.freedom(state.model)
    if refiner.options.fix_principal_point or len(freedom.fixed_cameras) == len(state.model.cameras):
        return state.model, ()
    cameras, reports = calibrated_cameras(state.model, fixed=freedom.fixed_cameras)
    model = pycolmap.Reconstruction(state.model)
    for camera_id, camera in cameras.items():
        model.cameras[camera_id] = camera
    if cameras:
        held = freedom.fixed_cameras | frozenset(cameras)
        adjust(model, state.covariances, replace(freedom, fixed_cameras=held), refiner.mapping.threads)
    return model, tuple(str(report) for report in reports)


def _scratch(output: Path, refiner: Refiner) -> Path:
    """OUT/.refinement/KEY, where the key is of all that the rounds depend on; those of other keys go."""
    depends_on = json_bytes([__version__, asdict(refiner.options), refiner.mapping.seed], sort_keys=False)
    digest = files_digest(sorted((output / UNREFINED).rglob("*.bin")), start=depends_on)
    folder = output / ".refinement" / digest[:16]
    for other in folder.parent.glob("*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run(refiner: Refiner, *, output: Path, read_rgb: ReadRGB, left_out: tuple[tuple[str, str], ...]) -> StageSummary:
    """The stage: OUT/unrefined/N in, OUT/sparse/N, OUT/points.ply and OUT/database.db out.

    left_out: (image, reason) of all that mapping did not register. A detector's keypoints stay as they are.
    """
    started = time.perf_counter()
    models: Sequence[pycolmap.Reconstruction] = read_models(output / UNREFINED)
    if has_foreign(models, refiner.units):
        raise BadFile(f"{output / UNREFINED}: models of other photos; delete it and run again")
    states, notes = [refiner.start(model) for model in models], ()
    if refiner.data.semi_dense and not refiner.options.no_refine:
        scratch = _scratch(output, refiner)
        states = [refine(refiner, model, scratch / str(i)) for i, model in enumerate(models)]
        models, reports = zip(*(calibrate(refiner, state) for state in states), strict=True)
        notes = reports[0]
        write_database(scratch / "database.db", refined_input(refiner.data, models[0]))
        place_database(scratch / "database.db", output / "database.db")
    for model in models:
        colour_points(model, read_rgb)
    write_models(models, output / "sparse")
    write_ply(models[0], output / "points.ply")
    shutil.rmtree(output / ".refinement", ignore_errors=True)
    best = models[0]
    registered = {best.images[i].name for i in best.reg_image_ids()}
    counts: dict[str, int | float] = {
        "models": len(models),
        "registered": best.num_reg_images(),
        "points3D": best.num_points3D(),
        "observations": best.compute_num_observations(),
        "track_length": best.compute_mean_track_length(),
        "reprojection_error": best.compute_mean_reprojection_error(),
        "rounds": states[0].rounds,
        "moved_network_px": states[0].moved,
        "rejected": states[0].num_rejected,
        "newly_registered": states[0].num_registered,
    }
    skipped = tuple((name, reason) for name, reason in left_out if name not in registered)
    return StageSummary("refinement", counts, time.perf_counter() - started, skipped, notes=notes)
