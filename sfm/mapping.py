"""From tracks to COLMAP models: a COLMAP database, unmodified incremental mapping, models on disk.

The COLMAP database holds the verified matches with their two-view geometries, so nothing is
verified again, and it stays in OUT/database.db for COLMAP's own tools. Models are written as COLMAP
numbers them, OUT/sparse/0 (most images), 1, ...; older ones are replaced only when the new ones are
complete. Image ids are the images' order from 1. Pixels are COLMAP's (sfm.types).

Schonberger and Frahm, Structure-from-Motion Revisited, CVPR 2016.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pycolmap
from numpy.typing import NDArray

from sfm.colmap_database import write_colmap_database
from sfm.errors import BadFile, NoModel
from sfm.focal import estimate_focals, replace_focals
from sfm.geometry import reduction
from sfm.options import MappingOptions
from sfm.progress import progress_bar
from sfm.types import Grid, ImageRecord, KeypointMatches, Keypoints, StageSummary, TwoViewGeometry

if TYPE_CHECKING:
    from sfm.database import FeatureDatabase

ReadRGB = Callable[[str], NDArray[np.uint8]]  # (H, W, 3) of an image name, EXIF rotation applied

# Thresholds of semi-dense matches in network px, where COLMAP has 4, 12 and 4 photo px. The filter is tighter than
# COLMAP's in units of the network's pixels: there are matches to spare, and the least exact of them bend the model.
INIT_ERROR, REGISTRATION_ERROR, FILTER_ERROR = 4.0, 12.0, 2.0


@dataclass(frozen=True, slots=True)
class Strategy:
    """Thresholds of one mapping attempt; a later one is tried where an earlier leaves photos out.

    Semi-dense matches come in hundreds, of which chance fits a dozen: a pose needs a fifth of them.
    """

    name: str
    init_min_num_inliers: int
    init_min_tri_angle: float  # degrees
    abs_pose_min_num_inliers: int
    abs_pose_min_inlier_ratio: float


STRATEGIES = (
    Strategy("default", 100, 16.0, 30, 0.25),
    Strategy("narrow", 50, 8.0, 20, 0.20),
    Strategy("weak", 25, 4.0, 15, 0.20),
)
ATTEMPTS = ("default", "narrow", "refined focal", "long focal", "longest focal", "weak")
LONG_FOCALS = {"long focal": 2.5, "longest focal": 5.0}  # of the longer side; a guess is 1.2


@dataclass(frozen=True, slots=True)
class MappingInput:
    """All that mapping reads: images in order, and their keypoints, verified pairs and matches.

    known_intrinsics: the user gave the cameras' parameters; they stay as they are.
    """

    images: tuple[ImageRecord, ...]
    keypoints: tuple[Keypoints, ...]
    geometries: tuple[TwoViewGeometry, ...]
    matches: tuple[KeypointMatches, ...]
    grids: Mapping[str, Grid | None]
    known_intrinsics: bool = False

    @property
    def semi_dense(self) -> bool:
        """Whether the matcher has a coarse grid."""
        return any(grid is not None for grid in self.grids.values())

    @property
    def reduction(self) -> float:
        """Photo px per network px, the median over images; 1 for a detector."""
        return float(np.median([reduction(grid) for grid in self.grids.values()] or [1.0]))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of COLMAP's mapping. hold_distortion: only focal lengths are refined."""

    name: str
    strategy: Strategy
    data: MappingInput
    hold_distortion: bool = False


def mapper_options(
    data: MappingInput, options: MappingOptions, strategy: Strategy, *, hold_distortion: bool = False
) -> pycolmap.IncrementalPipelineOptions:
    """COLMAP's options for these matches: its defaults for a detector, thresholds in network px otherwise."""
    result = pycolmap.IncrementalPipelineOptions()
    result.min_model_size = min(options.min_model_size, len(data.images))
    result.triangulation.ignore_two_view_tracks = len(data.images) > 2  # with two photos there are no others
    result.num_threads = options.threads
    result.extract_colors = False  # the files' own pixels know no EXIF rotation
    for part in (result, result.mapper, result.triangulation):
        part.random_seed = options.seed
    mapper, triangulation = result.mapper, result.triangulation
    mapper.init_min_num_inliers = strategy.init_min_num_inliers
    mapper.init_min_tri_angle = strategy.init_min_tri_angle
    mapper.abs_pose_min_num_inliers = strategy.abs_pose_min_num_inliers
    mapper.abs_pose_min_inlier_ratio = strategy.abs_pose_min_inlier_ratio
    if data.known_intrinsics:
        result.ba_refine_focal_length = mapper.abs_pose_refine_focal_length = False
    if data.known_intrinsics or hold_distortion:
        result.ba_refine_extra_params = mapper.abs_pose_refine_extra_params = False
    if data.semi_dense:
        scale = data.reduction
        mapper.init_max_error = INIT_ERROR * scale
        mapper.abs_pose_max_error = REGISTRATION_ERROR * scale
        mapper.filter_max_reproj_error = filter_error = FILTER_ERROR * scale
        triangulation.merge_max_reproj_error = triangulation.complete_max_reproj_error = filter_error
    return result


@contextmanager
def _quiet() -> Iterator[None]:
    """COLMAP's log of every step is left out while it runs."""
    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = 3  # fatal errors only: what failed is told by the summary
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before


def _map(attempt: Attempt, options: MappingOptions, folder: Path) -> list[pycolmap.Reconstruction]:
    """One run of COLMAP's incremental mapping on folder/database.db: its models, best first."""
    folder.mkdir(parents=True)
    data = attempt.data
    write_colmap_database(folder / "database.db", data.images, data.keypoints, data.geometries, data.matches)
    num_images = len(data.images)
    with _quiet(), progress_bar(num_images, desc="mapping", unit="image") as bar:

        def advance(step: int) -> None:
            bar.update(min(step, max(num_images - bar.n, 0)))

        models = pycolmap.incremental_mapping(
            folder / "database.db",
            folder,
            folder,
            mapper_options(data, options, attempt.strategy, hold_distortion=attempt.hold_distortion),
            initial_image_pair_callback=lambda: advance(2),
            next_image_callback=lambda: advance(1),
        )
    return sorted(models.values(), key=lambda m: (-m.num_reg_images(), -m.num_points3D()))


def support(model: pycolmap.Reconstruction) -> int:
    """How much a model explains: its images times its observations in tracks of three and more.

    A wrong focal length or a wrong pose may register an image more, but breaks tracks: what two
    images see agrees with nearly any camera, what three see does not.
    """
    least = min(3, model.num_reg_images())
    lengths = (point.track.length() for point in model.points3D.values())
    return int(model.num_reg_images() * sum(length for length in lengths if length >= least))


def _refined_focals(data: MappingInput, model: pycolmap.Reconstruction) -> dict[str, float]:
    """Focal lengths by camera group that mapping found for the images of a model, where there was no prior."""
    records = {record.name: record for record in data.images}
    found = (model.image(image_id) for image_id in sorted(model.reg_image_ids()))
    cameras = {image.camera_id: records[image.name].camera for image in found}
    return {c.group: model.cameras[i].mean_focal_length() for i, c in cameras.items() if not c.has_focal_prior}


def _again(attempt: Attempt, models: Sequence[pycolmap.Reconstruction], num_reachable: int) -> Iterator[Attempt]:
    """What to try where the best attempt so far left images out, and its models.

    Distortion refined on few images takes up the errors of a wrong focal length, and bends what is
    registered next. So it is held, and the focal length begins at what the best model found; where
    not even half of the images are in that, at those of long lenses.
    """
    data, narrow = attempt.data, STRATEGIES[1]
    if models:
        refined = replace(data, images=replace_focals(data.images, _refined_focals(data, models[0])))
        yield Attempt("refined focal", narrow, refined, hold_distortion=True)
    if models and 2 * models[0].num_reg_images() >= num_reachable:
        return
    sides = {r.camera.group: max(r.width, r.height) for r in data.images if not r.camera.has_focal_prior}
    for name, factor in LONG_FOCALS.items() if sides else ():
        images = replace_focals(data.images, {group: factor * side for group, side in sides.items()})
        yield Attempt(name, narrow, replace(data, images=images), hold_distortion=True)


def map_images(
    data: MappingInput, options: MappingOptions, scratch: Path
) -> tuple[list[pycolmap.Reconstruction], Attempt]:
    """Models, largest first, and the attempt that gave them; its COLMAP database is in scratch/NAME.

    Attempts are made in the order of ATTEMPTS until one registers every image that the last one
    could; the first one of most support in its largest model wins. Deterministic with a fixed seed.
    A detector's matches get the first one only, COLMAP's own thresholds: they are for comparison.
    """
    least = STRATEGIES[-1].abs_pose_min_num_inliers
    num_reachable = sum(inliers >= least for inliers, _ in _strongest_pairs(data).values())
    default, narrow, weak = STRATEGIES
    best, chosen = [], Attempt(default.name, default, data)
    best = _map(chosen, options, scratch / chosen.name)

    def better(attempt: Attempt) -> bool:
        """Makes the attempt, keeps it if it is better, and says whether nothing is left to do."""
        nonlocal best, chosen
        models = _map(attempt, options, scratch / attempt.name)
        if models and (not best or support(models[0]) > support(best[0])):
            best, chosen = models, attempt
        return complete()

    def complete() -> bool:
        return bool(best) and best[0].num_reg_images() >= num_reachable

    if not data.semi_dense or complete() or better(Attempt(narrow.name, narrow, data)):
        return best, chosen
    if not data.known_intrinsics and any(better(attempt) for attempt in _again(chosen, best, num_reachable)):
        return best, chosen
    better(replace(chosen, name=weak.name, strategy=weak))
    return best, chosen


def free_distortion(model: pycolmap.Reconstruction) -> None:
    """Refines all of a finished model, the distortion that was held until now as well."""
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    with _quiet():
        pycolmap.bundle_adjustment(model, options)


def colour_points(model: pycolmap.Reconstruction, read_rgb: ReadRGB) -> None:
    """Gives each 3D point the mean colour of its observations, read one photo at a time."""
    ids = np.array(sorted(model.point3D_ids()), np.int64)
    total, count = np.zeros((len(ids), 3)), np.zeros(len(ids))
    for image_id in sorted(model.reg_image_ids()):
        image = model.image(image_id)
        observed = [(p.point3D_id, *p.xy) for p in image.get_observation_points2D()]
        if not observed:
            continue
        columns = np.array(observed, np.float64)
        rgb = read_rgb(image.name)
        x = np.clip(columns[:, 1].astype(np.int64), 0, rgb.shape[1] - 1)
        y = np.clip(columns[:, 2].astype(np.int64), 0, rgb.shape[0] - 1)
        row = np.searchsorted(ids, columns[:, 0].astype(np.int64))
        np.add.at(total, row, rgb[y, x].astype(np.float64))
        np.add.at(count, row, 1.0)
    mean = np.round(total / np.maximum(count, 1.0)[:, None]).astype(np.uint8)
    for point_id, colour in zip(ids, mean, strict=True):
        model.points3D[int(point_id)].color = colour


def write_models(models: Sequence[pycolmap.Reconstruction], output: Path) -> list[Path]:
    """OUT/sparse/0, 1, ... and OUT/points.ply of the largest; the older ones give way only when all is written."""
    with tempfile.TemporaryDirectory(prefix=".models-", dir=output) as folder:
        fresh = Path(folder) / "sparse"
        for i, model in enumerate(models):
            (fresh / str(i)).mkdir(parents=True)
            model.write_binary(fresh / str(i))
        models[0].export_PLY(Path(folder) / "points.ply")
        sparse = output / "sparse"
        if sparse.exists():
            os.replace(sparse, Path(folder) / "old")
        os.replace(fresh, sparse)
        os.replace(Path(folder) / "points.ply", output / "points.ply")
    return [output / "sparse" / str(i) for i in range(len(models))]


def unregistered(data: MappingInput, models: Sequence[pycolmap.Reconstruction]) -> tuple[tuple[str, str], ...]:
    """(image name, reason) of every image that is not in the largest model."""
    strongest = _strongest_pairs(data)
    where: dict[str, int] = {}
    for i, model in reversed(list(enumerate(models))):
        where.update({model.image(image_id).name: i for image_id in model.reg_image_ids()})
    result = []
    for record in data.images:
        name = record.name
        if where.get(name) == 0:
            continue
        inliers, partner = strongest.get(name, (0, ""))
        if name in where:
            reason = f"in another model (sparse/{where[name]})"
        elif inliers == 0:
            reason = "matched nothing: no pair of it was verified"
        elif inliers < STRATEGIES[0].abs_pose_min_num_inliers:
            reason = f"too few inliers ({inliers} at most, with {partner})"
        elif models and where.get(partner) != 0:
            reason = f"not connected to the model (most inliers, {inliers}, with {partner}, which is not in it either)"
        else:
            reason = f"registration failed (most inliers, {inliers}, with {partner}): its matches fit no pose"
        result.append((name, reason))
    return tuple(result)


def _strongest_pairs(data: MappingInput) -> dict[str, tuple[int, str]]:
    """Of each image with verified matches their largest number with one other image, and which."""
    strongest: dict[str, tuple[int, str]] = {}
    for matches in data.matches:
        num = len(matches.indices)
        for name, other in (matches.pair.name0, matches.pair.name1), (matches.pair.name1, matches.pair.name0):
            if num > strongest.get(name, (0, ""))[0]:
                strongest[name] = (num, other)
    return strongest


def reconstruct(
    data: MappingInput, options: MappingOptions, output: Path, *, read_rgb: ReadRGB | None = None
) -> tuple[list[pycolmap.Reconstruction], str]:
    """Maps the matches and writes OUT/database.db, OUT/sparse/N and OUT/points.ply.

    Raises BadFile where OUT cannot be written, NoModel where COLMAP makes no model.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".mapping-", dir=output))
    except OSError as error:
        raise BadFile(f"{output}: cannot be written ({error.strerror}); choose another output folder") from error
    try:
        models, attempt = map_images(data, options, scratch)
        os.replace(scratch / attempt.name / "database.db", output / "database.db")
        if not models:
            raise NoModel(no_model_message(data))
        for model in models if attempt.hold_distortion else ():
            free_distortion(model)
        if read_rgb is not None:
            for model in models:
                colour_points(model, read_rgb)
        write_models(models, output)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return models, attempt.name


def no_model_message(data: MappingInput) -> str:
    """One line: why there is no model, and what to try."""
    verified = sum(len(m.indices) > 0 for m in data.matches)
    if verified == 0:
        return "no model: no two photos show the same place (no pair was verified); add photos that overlap"
    most = max(len(m.indices) for m in data.matches)
    return (
        f"no model: {verified} pairs were verified, the best with {most} matches, but none is a pair to start from; "
        "add photos from in between, or match at a higher resolution (--resize)"
    )


def run(
    db: FeatureDatabase,
    options: MappingOptions,
    *,
    output: Path,
    read_rgb: ReadRGB | None = None,
    known_intrinsics: bool = False,
) -> StageSummary:
    """The stage: reads keypoints and verified matches, writes COLMAP models under `output`.

    known_intrinsics: the user gave the cameras' parameters; they are not refined. For cameras
    without a prior mapping begins at the focal length that their pairs determine, if they do.
    """
    started = time.perf_counter()
    geometries = tuple(g for g in db.read_two_view() if len(g.inliers))
    data = MappingInput(db.read_images(), db.read_keypoints(), geometries, db.read_keypoint_matches(), db.read_grids())
    data = replace(data, known_intrinsics=known_intrinsics)
    focals = estimate_focals(data.images, geometries) if data.semi_dense else {}
    data = replace(data, images=replace_focals(data.images, focals))
    models, attempt = reconstruct(data, options, output, read_rgb=read_rgb)
    best = models[0]
    counts: dict[str, int | float] = {
        "models": len(models),
        "registered": best.num_reg_images(),
        "points3D": best.num_points3D(),
        "observations": best.compute_num_observations(),
        "track_length": best.compute_mean_track_length(),
        "reprojection_error": best.compute_mean_reprojection_error(),
        "attempt": ATTEMPTS.index(attempt) + 1,
        "focals_estimated": len(focals),
        "focal_px": float(np.median([camera.mean_focal_length() for camera in best.cameras.values()])),
    }
    return StageSummary("mapping", counts, time.perf_counter() - started, unregistered(data, models))
