"""The last stage: the models of mapping are refined (sfm.refinement.rounds) and written to where they are kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

import pycolmap

from sfm import __version__
from sfm.calibration.focal_prior import FocalEvidence
from sfm.colmap.copies import add_copies
from sfm.colmap.database import place_database
from sfm.colmap.model_reader import has_foreign, read_models
from sfm.colmap.model_writer import UNREFINED, ReadRGB, colour_points, write_models, write_ply
from sfm.colmap.several_models import in_other_models, names_of, needed
from sfm.errors import BadFile
from sfm.mapping.final_database import reconcile, with_copies, write_final_database
from sfm.mapping.rigs import with_poses_of
from sfm.refinement.checkpoint import Refined, rounds_folder
from sfm.refinement.rounds import Refiner, calibrate, focal_evidence, refine, with_weak_cameras
from sfm.system.hashing import files_digest, json_bytes
from sfm.types import StageSummary
from sfm.wording import counted

LOST = "lost in refinement: too few of its points, or of its model's own images, were left"
NO_COPIES: Mapping[str, str] = MappingProxyType({})


def scratch_folder(output: Path, refiner: Refiner) -> Path:
    """Where the rounds of this stage are kept (rounds_folder)."""
    depends_on = json_bytes([__version__, asdict(refiner.options), refiner.mapping.seed], sort_keys=False)
    digest = files_digest(sorted((output / UNREFINED).rglob("*.bin")), start=depends_on)
    return rounds_folder(output, digest[:16])


@dataclass(frozen=True, slots=True)
class RefinedModel:
    """A calibrated model, what refinement did, what is known of its cameras, in lines for the user (notes) and of those
    that the images hardly determine."""

    model: pycolmap.Reconstruction
    state: Refined
    notes: tuple[str, ...]
    weak: tuple[FocalEvidence, ...]


def refine_all(refiner: Refiner, models: Sequence[pycolmap.Reconstruction], scratch: Path) -> list[RefinedModel]:
    """Refined models, most images first.

    Refinement registers images that mapping left out. So a model may grow over another one: of which fewer than
    --min-model-size images are in no other, it is left out.
    """
    found: list[RefinedModel] = []
    seen: set[str] = set()
    for i, mapped in enumerate(models):
        if found and len(names_of(mapped) - seen) < refiner.mapping.min_model_size:
            continue
        own, start = with_weak_cameras(refiner, mapped)
        state = refine(own, start, scratch / str(i))
        model, notes = calibrate(own, state)
        found.append(RefinedModel(model, state, notes, own.weak))
        seen |= names_of(model)
    found.sort(key=lambda each: -each.model.num_reg_images())
    kept = needed([each.model for each in found], refiner.mapping.min_model_size)
    return [each for each in found if any(each.model is model for model in kept)]


def _copied(num: int) -> tuple[str, ...]:
    return (f"{counted(num, 'file')} of the same bytes as an image: in the model with its pose",) if num else ()


def run(
    refiner: Refiner,
    *,
    output: Path,
    read_rgb: ReadRGB,
    left_out: tuple[tuple[str, str], ...],
    copies: Mapping[str, str] = NO_COPIES,
) -> StageSummary:
    """The stage: OUT/unrefined/N in, OUT/sparse/N, OUT/points.ply and OUT/database.db out.

    left_out: (image, reason) of all that mapping did not register. copies: names of images by those of files that are
    copies of them, which get their poses.
    """
    started = time.perf_counter()
    models: Sequence[pycolmap.Reconstruction] = read_models(output / UNREFINED)
    if has_foreign(models, refiner.data.sigmas):
        raise BadFile(f"{output / UNREFINED}: models of other images; delete it and run again")
    mapped = set[str]().union(*(names_of(model) for model in models))
    state, notes, weak = Refined(models[0], {}), tuple[str, ...](), tuple[FocalEvidence, ...]()
    scratch = scratch_folder(output, refiner)
    if refiner.data.refinable and not refiner.options.no_refine:
        found = refine_all(refiner, models, scratch)
        models = [each.model for each in found]
        state, notes, weak = found[0].state, found[0].notes, found[0].weak
    reconcile(models)
    for model in models:
        colour_points(model, read_rgb)
    data = with_copies(with_poses_of(refiner.data, models[0]), copies)
    ids = {record.name: i + 1 for i, record in enumerate(data.images)}
    copied = frozenset[str]().union(*(add_copies(model, copies, ids) for model in models))
    write_final_database(scratch / "database.db", data, models)
    write_models(models, output / "sparse")
    write_ply(models[0], output / "points.ply")
    place_database(scratch / "database.db", output / "database.db")
    shutil.rmtree(output / ".refinement", ignore_errors=True)
    best = models[0]
    counts: dict[str, int | float] = {
        "models": len(models),
        "registered": best.num_reg_images(),
        "points3D": best.num_points3D(),
        "observations": best.compute_num_observations(),
        "track_length": best.compute_mean_track_length(),
        "reprojection_error": best.compute_mean_reprojection_error(),
        "rounds": state.rounds,
        "moved_network_px": state.moved * max(finder.traits.pixel_sigma for finder in refiner.data.finders),
        "rejected": state.num_rejected,
        "newly_registered": state.num_registered,
    }
    false = (one for one in focal_evidence(refiner, best) if one.is_false)
    notes = (*notes, *map(str, weak), *map(str, false), *_copied(len(copied)))
    reasons = {**dict(left_out), **dict.fromkeys(sorted(mapped), LOST), **in_other_models(models)}
    registered = names_of(best)
    skipped = tuple((name, reason) for name, reason in reasons.items() if name not in registered)
    return StageSummary("refinement", counts, time.perf_counter() - started, skipped, notes=notes)
