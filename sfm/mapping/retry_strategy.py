"""Which runs of COLMAP's mapping are made, and which of their models is kept.

A run is evaluated by what its largest model explains (`support`), of which misregistered images
(sfm.mapping.consistency) are no part. Where pairs contradict a model, the same run is made once more without
them; where the focal length is doubtful (sfm.mapping.focal_starts) or images are missing, further runs lower
thresholds or begin at other focal lengths.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pycolmap

from sfm.colmap.camera import replace_focals
from sfm.colmap.log import adjust_bundle
from sfm.mapping.colmap_mapper import INIT_ERROR, register_more
from sfm.mapping.consistency import misregistered, pair_votes
from sfm.mapping.focal_starts import better, further_starts
from sfm.mapping.inputs import Attempt, MappingInput, Strategy, without_pairs
from sfm.mapping.registry import run_mapper
from sfm.options import MappingOptions
from sfm.types import ImagePair

STRATEGIES = (
    Strategy("default", 100, 16.0, 30, 0.25),
    Strategy("narrow", 50, 8.0, 20, 0.20),
    Strategy("weak", 25, 4.0, 15, 0.20),
)
EARLIER = "earlier model"  # of sfm.mapping.earlier_model
KNOWN = "known poses"
ATTEMPTS = (
    *("default", "narrow", "refined focal", "long focal", "longest focal", "weak", KNOWN, EARLIER),
    *("held distortion", "wide focal", "guessed focal", "EXIF focal", "without EXIF"),
)
LONG_FOCALS = {"long focal": 2.5, "longest focal": 5.0}  # of the longer side; a guess is 1.2


@dataclass(frozen=True, slots=True)
class Outcome:
    """An attempt and its models, largest first. misregistered: misregistered images of the first model.

    folder: where its COLMAP database is. removed_pairs: those that contradicted an earlier model of the same attempt.
    """

    attempt: Attempt
    models: tuple[pycolmap.Reconstruction, ...]
    misregistered: frozenset[str]
    folder: Path
    removed_pairs: int = 0

    @property
    def support(self) -> int:
        """Support of the first model; -1 where there is none."""
        return support(self.models[0], self.misregistered) if self.models else -1

    @property
    def num_well_registered(self) -> int:
        """Images of the first model that are not misregistered."""
        return self.models[0].num_reg_images() - len(self.misregistered) if self.models else 0

    @property
    def is_folded(self) -> bool:
        """Whether the misregistered images are not the fewer: the first model is no start, or there is none."""
        return 2 * len(self.misregistered) >= self.num_well_registered


def support(model: pycolmap.Reconstruction, misregistered: frozenset[str] = frozenset()) -> int:
    """How much a model explains: its well registered images times their observations in tracks of three and more.

    A wrong focal length or a wrong pose may register an image more, but breaks tracks: what two
    images see agrees with nearly any camera, what three see does not.
    """
    kept = {i for i in model.reg_image_ids() if model.image(i).name not in misregistered}
    least = min(3, len(kept))
    lengths = (sum(e.image_id in kept for e in point.track.elements) for point in model.points3D.values())
    return len(kept) * sum(length for length in lengths if length >= least)


def strongest_pairs(data: MappingInput) -> dict[str, tuple[int, str]]:
    """Of each image with verified matches their largest number with one other image, and which."""
    strongest: dict[str, tuple[int, str]] = {}
    for matches in data.matches:
        num = len(matches.indices)
        for name, other in (matches.pair.name0, matches.pair.name1), (matches.pair.name1, matches.pair.name0):
            if num > strongest.get(name, (0, ""))[0]:
                strongest[name] = (num, other)
    return strongest


def num_reachable(data: MappingInput) -> int:
    """Images with a pair that the least demanding attempt can use, and those that a rig registers with them."""
    least = STRATEGIES[-1].abs_pose_min_num_inliers
    reached = {name for name, (inliers, _) in strongest_pairs(data).items() if inliers >= least}
    for frame in (frame for rig in data.rigs for frame in rig.frames):
        together = {name for name in frame if name is not None}
        reached |= together if together & reached else set()
    return len(reached)


def first_outcome(data: MappingInput, options: MappingOptions, scratch: Path) -> Outcome:
    """The outcome of the first attempt alone, in a new folder: by which inputs can be compared."""
    return _attempt(Attempt(STRATEGIES[0].name, STRATEGIES[0], data), options, scratch)


def map_images(data: MappingInput, options: MappingOptions, scratch: Path) -> Outcome:
    """The best outcome; folders of all attempts are in scratch.

    Attempts are made in the order of ATTEMPTS until one registers every image that the last one could;
    the first one of most support wins. Each starts from all pairs. Deterministic with a fixed seed.
    """
    first = Attempt(STRATEGIES[0].name, STRATEGIES[0], data)
    best = _attempt(first, options, scratch)
    for attempt in tuple(further_starts(best, num_reachable(data))):
        outcome = _attempt(attempt, options, scratch)
        best = outcome if better(outcome, best) else best
    for stage in (narrower, other_focals, weaker):
        start = replace(best.attempt, data=replace(best.attempt.data, geometries=data.geometries, matches=data.matches))
        for attempt in () if is_complete(best) else tuple(stage(replace(best, attempt=start), options)):
            outcome = _attempt(attempt, options, scratch)
            best = outcome if outcome.support > best.support else best
            if is_complete(best):
                break
    return best


def is_complete(outcome: Outcome) -> bool:
    """Whether every image that could be in its first model is."""
    return outcome.num_well_registered >= num_reachable(outcome.attempt.data)


def _attempt(attempt: Attempt, options: MappingOptions, scratch: Path) -> Outcome:
    """Makes an attempt, and once more without the pairs that contradict its model; the better of the two.

    Where both register as many images, the one without contradictions is.
    """
    data = attempt.data
    outcome, wrong = evaluated_run(attempt, options, scratch / attempt.name)
    if not wrong:
        return outcome
    again, _ = evaluated_run(
        replace(attempt, data=without_pairs(data, wrong)), options, scratch / f"{attempt.name} again"
    )
    better = again.num_well_registered >= outcome.num_well_registered or again.support > outcome.support
    return replace(again, removed_pairs=len(wrong)) if better else outcome


def evaluated_run(attempt: Attempt, options: MappingOptions, folder: Path) -> tuple[Outcome, frozenset[ImagePair]]:
    """The outcome of an attempt, and the pairs that contradict its largest model.

    Misregistered images are taken out of that, where they are the fewer, and registered again.
    """
    models = tuple(run_mapper(attempt, options, folder))
    outcome, wrong = evaluate(attempt, models, folder)
    if not outcome.misregistered or outcome.is_folded:
        return outcome, wrong
    model = pycolmap.Reconstruction(models[0])
    drop_images(model, outcome.misregistered)
    again = evaluate(attempt, (register_more(attempt, options, folder, model), *models[1:]), folder)
    return again if again[0].support > outcome.support else (outcome, wrong)


def evaluate(
    attempt: Attempt, models: tuple[pycolmap.Reconstruction, ...], folder: Path
) -> tuple[Outcome, frozenset[ImagePair]]:
    """The outcome of an attempt that gave these models, and the pairs that contradict the first of them."""
    data = attempt.data
    if not models:
        return Outcome(attempt, models, frozenset(), folder), frozenset()
    keypoints = {record.name: own for record, own in zip(data.images, data.keypoints, strict=True)}
    votes = pair_votes(models[0], keypoints, data.matches, INIT_ERROR * data.sigma)
    wrong = frozenset(pair for pair, net in votes.items() if net < 0)
    return Outcome(attempt, models, misregistered(models[0], data.matches, votes), folder), wrong


def narrower(best: Outcome, options: MappingOptions) -> Iterator[Attempt]:
    """Lower thresholds, from the same cameras."""
    if options.mapper == "incremental":  # the thresholds are of incremental mapping
        yield Attempt(STRATEGIES[1].name, STRATEGIES[1], best.attempt.data)


def weaker(best: Outcome, options: MappingOptions) -> Iterator[Attempt]:
    """The lowest thresholds, from the cameras of the best attempt."""
    if options.mapper == "incremental":
        yield replace(best.attempt, name=STRATEGIES[2].name, strategy=STRATEGIES[2])


def other_focals(best: Outcome, options: MappingOptions) -> Iterator[Attempt]:
    """What to try where the best attempt so far left images out.

    Distortion refined on few images takes up the errors of a wrong focal length, and bends what is
    registered next. So it is held, and the focal length begins at what the best model found; where
    not even half of the images are in that, at those of long lenses.
    """
    data, narrow = best.attempt.data, STRATEGIES[1]
    if data.known_intrinsics:
        return
    if best.models:
        refined = replace(data, images=replace_focals(data.images, refined_focals(data, best.models[0])))
        yield Attempt("refined focal", narrow, refined, hold_distortion=True)
    if 2 * best.num_well_registered >= num_reachable(data):
        return
    sides = {r.camera.group: max(r.width, r.height) for r in data.images if not r.camera.has_focal_prior}
    for name, factor in LONG_FOCALS.items() if sides else ():
        images = replace_focals(data.images, {group: factor * side for group, side in sides.items()})
        yield Attempt(name, narrow, replace(data, images=images), hold_distortion=True)


def refined_focals(data: MappingInput, model: pycolmap.Reconstruction) -> dict[str, float]:
    """Focal lengths by camera group that mapping found for the images of a model, where there was no prior."""
    records = {record.name: record for record in data.images}
    found = (model.image(image_id) for image_id in sorted(model.reg_image_ids()))
    cameras = {image.camera_id: records[image.name].camera for image in found}
    return {c.group: model.cameras[i].mean_focal_length() for i, c in cameras.items() if not c.has_focal_prior}


def drop_images(model: pycolmap.Reconstruction, names: frozenset[str]) -> None:
    """Takes images out of a model, in place, and the points that are left with fewer than two observations.

    An image goes with all that were taken at the same time by cameras of its rig.
    """
    images = [model.image(image_id) for image_id in sorted(model.reg_image_ids())]
    for frame_id in dict.fromkeys(image.frame_id for image in images if image.name in names):
        model.deregister_frame(frame_id)


def free_distortion(model: pycolmap.Reconstruction, threads: int) -> None:
    """Refines all of a finished model, the distortion that was held until now as well."""
    options = pycolmap.BundleAdjustmentOptions()
    options.ceres.solver_options.num_threads = threads
    options.print_summary = False
    adjust_bundle(model, options)
