"""From tracks to COLMAP models: unmodified COLMAP mapping, or triangulation with known poses; models on disk.

The COLMAP database stays in OUT/database.db for COLMAP's own tools. Models are written as COLMAP
numbers them, OUT/unrefined/0 (most images), 1, ...; older ones are replaced only when the new ones
are complete. Image ids are the images' order from 1. Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pycolmap

from sfm.colmap.camera import replace_focals
from sfm.colmap.database import camera_ids, place_database
from sfm.colmap.model_writer import UNREFINED, write_models
from sfm.colmap.rig_models import has_rigs
from sfm.colmap.several_models import in_other_models, names_of, needed
from sfm.errors import BadFile, NoModel
from sfm.geometry.focal_from_F import estimate_focals
from sfm.images.index import copy_reasons
from sfm.mapping.alike.refusal import Refusals, refused_note
from sfm.mapping.consistency import point_votes
from sfm.mapping.earlier_model import continued, remember
from sfm.mapping.equal_cameras import AS_MUCH, with_equal_cameras
from sfm.mapping.inputs import MappingInput, read_input
from sfm.mapping.known_poses import REASON, posed_input, read_known_model, triangulate
from sfm.mapping.many_images.once import map_once
from sfm.mapping.many_images.part import geometries_of_motion, is_large, well_connected
from sfm.mapping.retry_strategy import (
    ATTEMPTS,
    EARLIER,
    KNOWN,
    STRATEGIES,
    Outcome,
    drop_images,
    evaluate,
    first_outcome,
    free_distortion,
    map_images,
    strongest_pairs,
    support,
)
from sfm.mapping.rigs import FEWEST_KEPT, describe_rig, mount, with_known_rigs
from sfm.match_graph import RefusedPair
from sfm.options import MappingOptions
from sfm.types import CameraRig, Float32, ImagePair, Matches, StageSummary

if TYPE_CHECKING:
    from sfm.storage.database import FeatureDatabase

BuildTracks = Callable[[Sequence[RefusedPair]], None]
ROUNDS = 6  # of mapping without the pairs that are refused, at most
CLEARLY, MANY = 10, 0.1  # matches more that contradict a model than agree with it; share of the pairs
NOT_JOINED = "in a smaller model, which could not be joined through the rig"
MISREGISTERED = "misregistered: it does not observe half of the points that its matches lead to"


@dataclass(frozen=True, slots=True)
class Mapped:
    """Models, largest first, the name of the attempt that gave them, and images left out with their reasons.

    data: the input, with the cameras that the models have. equal_cameras: some of those are one though they might be
    several. focals_estimated: cameras whose focal length their pairs gave. notes: lines for the user.
    """

    models: tuple[pycolmap.Reconstruction, ...]
    attempt: str
    left_out: dict[str, str]
    data: MappingInput
    removed_pairs: int = 0
    equal_cameras: bool = False
    focals_estimated: int = 0
    notes: tuple[str, ...] = ()


@contextmanager
def _scratch(output: Path) -> Iterator[Path]:
    """A temporary folder next to the results. Raises BadFile where none can be made."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".mapping-", dir=output))
    except OSError as error:
        raise BadFile(f"{output}: cannot be written ({error.strerror}); choose another output folder") from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def reconstruct(data: MappingInput, options: MappingOptions, output: Path, rigs: Sequence[CameraRig] = ()) -> Mapped:
    """Maps the matches and writes OUT/database.db and OUT/unrefined/N. rigs: that a model may show to be some.

    Raises BadFile where OUT cannot be written or the model of known poses cannot be used, NoModel
    where COLMAP makes no model.
    """
    options = options.for_images(len(data.images))
    known = read_known_model(options.known_poses) if options.known_poses is not None else None
    with _scratch(output) as scratch:
        if known is None:
            mapped = _mapped(data, options, scratch, output, rigs)
        else:
            mapped = _triangulated(data, known, options, scratch)
        place_database(scratch / "database.db", output / "database.db")
        mapped = replace(mapped, models=needed(mapped.models, options.min_model_size))
        if not mapped.models:
            raise NoModel(no_model_message(data))
        write_models(mapped.models, output / UNREFINED)
        if known is None:
            remember(output, data.images)
    return mapped


def _mapped(
    data: MappingInput, options: MappingOptions, scratch: Path, output: Path, rigs: Sequence[CameraRig]
) -> Mapped:
    outcome, found = _best_cameras(data, options, scratch, output)
    held = outcome.attempt.hold_distortion and not outcome.attempt.hold_focal
    for model in outcome.models if held and not data.rigs else ():
        free_distortion(model, options.threads)
    path = outcome.folder / "database.db"
    for rig in rigs if outcome.models and not data.rigs else ():
        if not has_rigs(found.models[0]):
            found, path = _mounted(found, outcome, rig, options, scratch, path)
    os.replace(path, scratch / "database.db")
    return found


def _best_cameras(data: MappingInput, options: MappingOptions, scratch: Path, output: Path) -> tuple[Outcome, Mapped]:
    """The best outcome, with a camera for each device, or one for all that may be of one kind; what comes of an earlier
    model, where there is one to go on from."""
    own, num = with_focals(data)
    if (going_on := continued(own, options, scratch, output)) is not None:
        return going_on, _found(going_on, own, num)
    large = is_large(data)
    how = map_once if large else map_images
    equal = with_equal_cameras(data)
    if equal is not None:
        pooled, num_pooled = with_focals(equal)
        compared = [
            (well_connected(each) if large else each, name) for each, name in ((own, "cameras"), (pooled, "one camera"))
        ]
        first, other = (first_outcome(each, options, scratch / name) for each, name in compared)
        if other.models and other.support >= AS_MUCH * first.support:
            found = len(camera_ids(data.images)) - len(camera_ids(pooled.images)) + 1
            note = f"{found} cameras without EXIF have one calibration: it explains the images as well as one for each"
            outcome = how(pooled, options, scratch)
            return outcome, _found(outcome, pooled, num_pooled, equal_cameras=True, notes=(note,))
    outcome = how(own, options, scratch)
    return outcome, _found(outcome, own, num)


def _found(outcome: Outcome, data: MappingInput, num: int, **more: Any) -> Mapped:
    left_out = drop_misregistered(outcome)
    return Mapped(
        outcome.models, outcome.attempt.name, left_out, data, outcome.removed_pairs, focals_estimated=num, **more
    )


def with_focals(data: MappingInput) -> tuple[MappingInput, int]:
    """The input with the focal lengths that pairs of images determine, of cameras of which none is known; how many."""
    geometries = geometries_of_motion(data) if is_large(data) else data.geometries
    focals = estimate_focals(data.images, geometries)
    estimated = data.estimated_focals | set(focals)
    return replace(data, images=replace_focals(data.images, focals), estimated_focals=estimated), len(focals)


def _mounted(
    free: Mapped, outcome: Outcome, rig: CameraRig, options: MappingOptions, scratch: Path, path: Path
) -> tuple[Mapped, Path]:
    """The models with the rig, where it is one and explains as much, else those without; and their database."""
    fresh = scratch / "rig.db"
    attempt = replace(outcome.attempt, data=free.data, hold_distortion=False)
    mounted = mount(free.models[0], free.data, rig, attempt, options, fresh, equal_cameras=free.equal_cameras)
    notes = (*free.notes, mounted.note)
    if mounted.model is None:
        return replace(free, notes=notes), path
    own, _ = evaluate(replace(attempt, data=mounted.data), (mounted.model,), scratch)
    before = support(free.models[0])
    if own.support < FEWEST_KEPT * before:
        lost = f"{describe_rig(rig)}: no rig, with one pose for each time the model explains less"
        return replace(free, notes=(*free.notes, lost)), path
    left_out = drop_misregistered(own)
    for model in free.models[1:]:
        left_out |= dict.fromkeys(sorted(names_of(model)), NOT_JOINED)
    num = mounted.model.num_reg_images() - free.models[0].num_reg_images()
    gained = (f"{mounted.note}; {num} images more registered through it",) if num > 0 else (mounted.note,)
    result = replace(free, models=(mounted.model,), left_out=left_out, data=mounted.data, notes=(*free.notes, *gained))
    return result, fresh


def drop_misregistered(outcome: Outcome) -> dict[str, str]:
    """Takes misregistered images out of the first model, where they are the fewer; their names and the reason."""
    if outcome.is_folded:
        return {}
    drop_images(outcome.models[0], outcome.misregistered)
    return dict.fromkeys(sorted(outcome.misregistered), MISREGISTERED)


def _triangulated(data: MappingInput, known: pycolmap.Reconstruction, options: MappingOptions, scratch: Path) -> Mapped:
    assert options.known_poses is not None
    posed_data, posed = posed_input(data, known, options.known_poses)
    model = triangulate(posed_data, known, posed, options, scratch)
    left_out = {record.name: REASON for record in data.images if record.name not in posed}
    return Mapped((model,) if model.num_points3D() else (), KNOWN, left_out, posed_data)


def unregistered(
    data: MappingInput, models: Sequence[pycolmap.Reconstruction], left_out: dict[str, str] | None = None
) -> tuple[tuple[str, str], ...]:
    """(image name, reason) of every image that is not in the largest model. left_out: reasons that are known."""
    strongest = strongest_pairs(data)
    registered = names_of(models[0]) if models else frozenset[str]()
    elsewhere = in_other_models(models)
    result = []
    for record in data.images:
        name = record.name
        if name in registered:
            continue
        inliers, partner = strongest.get(name, (0, ""))
        if name in elsewhere:
            reason = elsewhere[name]
        elif name in (left_out or {}):
            reason = (left_out or {})[name]
        elif inliers == 0:
            reason = "matched nothing: no pair of it was verified"
        elif inliers < STRATEGIES[0].abs_pose_min_num_inliers:
            reason = f"too few inliers ({inliers} at most, with {partner})"
        elif models and partner not in registered:
            reason = f"not connected to the model (most inliers, {inliers}, with {partner}, which is not in it either)"
        else:
            reason = f"registration failed (most inliers, {inliers}, with {partner}): no pose fits its matches"
        result.append((name, reason))
    return tuple(result)


def no_model_message(data: MappingInput) -> str:
    """One line: why there is no model, and what to try."""
    verified = sum(len(m.indices) > 0 for m in data.matches)
    if verified == 0:
        return "no model: no two images show the same place (no pair was verified); add images that overlap"
    if 2 * sum(geometry.kind == "panoramic" for geometry in data.geometries) > verified:
        return (
            "no model: most pairs differ by a pure rotation, which gives no depth; add images taken from "
            "other positions (a step to the side each)"
        )
    most = max(len(m.indices) for m in data.matches)
    return (
        f"no model: {verified} pairs were verified, the best with {most} matches, but none can initialise the model; "
        "add images with viewpoints in between, or match at a higher resolution (--resize)"
    )


def repeated_structure(model: pycolmap.Reconstruction, data: MappingInput) -> tuple[str, ...]:
    """A note where the matches of many pairs lead to different points, which suggests repeated structure.

    Not a warning: usually the model is right and those pairs are wrong. Where as many matches support merging
    two places as contradict it, mapping may fold one onto the other, and no majority decides.
    """
    votes = point_votes(model, data.matches)
    against = sum(net <= -CLEARLY for net in votes.values())
    if against <= MANY * len(votes):
        return ()
    return (
        f"{against} of {len(votes)} pairs contradict the model, probably because of repeated structure: "
        "check that no two places were merged",
    )


def _went_on(mapped: Mapped) -> tuple[str, ...]:
    if mapped.attempt != EARLIER:
        return ()
    return ("went on from the model of the images that were there before; delete unrefined/ to map all of them anew",)


def without_alike(
    once: Callable[[], tuple[MappingInput, Mapped]],
    build_tracks: BuildTracks,
    trusted: Collection[ImagePair],
    read_matches: Callable[[ImagePair], Matches],
) -> tuple[tuple[MappingInput, Mapped], tuple[RefusedPair, ...]]:
    """What is mapped when pairs that show places that look alike are refused, and which they are.

    once: maps what is in the database. Where no model can be made without the last ones, those stay.
    """
    found = once()
    inliers = {geometry.pair: geometry.inliers for geometry in found[0].geometries}

    def read_points(pair: ImagePair) -> tuple[Float32, Float32]:
        matches = read_matches(pair)
        return matches.points0[inliers[pair]], matches.points1[inliers[pair]]

    refusals, refused = Refusals.of(found[0], trusted, read_points), tuple[RefusedPair, ...]()
    for _ in range(ROUNDS):
        if not refusals.add(found[1].models):
            break
        before, refused = refused, tuple(refusals.refused.values())
        build_tracks(refused)
        try:
            found = once()
        except NoModel:
            build_tracks(before)
            return once(), before
    return found, refused


def run(
    db: FeatureDatabase,
    options: MappingOptions,
    *,
    output: Path,
    known_intrinsics: bool = False,
    rigs: Sequence[CameraRig] = (),
    trusted: Collection[ImagePair] | None = None,
    build_tracks: BuildTracks | None = None,
) -> StageSummary:
    """The stage: reads keypoints and verified matches, writes COLMAP models under `output`.

    known_intrinsics: the user gave the cameras' parameters; they are not refined. For cameras
    without a prior mapping begins at the focal length that their pairs determine, if they do.
    trusted: pairs that are not refused though they seem to show places that look alike; None: none is.
    build_tracks: writes keypoints and matches anew without some pairs; without it none is refused.
    """
    started = time.perf_counter()
    free = [rig for rig in rigs if not (rig.fixed and rig.is_central)]

    def once() -> tuple[MappingInput, Mapped]:
        data = with_known_rigs(read_input(db, known_intrinsics=known_intrinsics), rigs)
        return data, reconstruct(data, options, output, free)

    if build_tracks is not None and db.read_refused():
        build_tracks(())  # what an earlier mapping left: begun anew
    if build_tracks is None or trusted is None or options.known_poses is not None:
        (data, mapped), alike = once(), tuple[RefusedPair, ...]()
    else:
        (data, mapped), alike = without_alike(once, build_tracks, trusted, db.read_matches)
    best = mapped.models[0]
    counts: dict[str, int | float] = {
        "models": len(mapped.models),
        "registered": best.num_reg_images(),
        "points3D": best.num_points3D(),
        "observations": best.compute_num_observations(),
        "track_length": best.compute_mean_track_length(),
        "reprojection_error": best.compute_mean_reprojection_error(),
        "attempt": 1 if mapped.attempt in (KNOWN, EARLIER) else ATTEMPTS.index(mapped.attempt) + 1,
        "pairs_removed": mapped.removed_pairs,
        "focals_estimated": mapped.focals_estimated,
        "focal_px": float(np.median([camera.mean_focal_length() for camera in best.cameras.values()])),
    }
    if alike:
        counts["pairs_refused"] = len(alike)
    return StageSummary(
        "mapping",
        counts,
        time.perf_counter() - started,
        (*unregistered(data, mapped.models, mapped.left_out), *copy_reasons(db.read_copies())),
        notes=(*_went_on(mapped), *mapped.notes, *refused_note(alike), *repeated_structure(best, data)),
    )
