"""The last stage: the models of mapping are refined (sfm.refinement.rounds) and written to where they are kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

import pycolmap

from sfm import __version__
from sfm.calibration.focal_prior import FocalEvidence
from sfm.colmap.copies import add_copies
from sfm.colmap.database import place_database
from sfm.colmap.model_reader import has_foreign, read_models
from sfm.colmap.model_writer import UNREFINED, ReadRGB, colour_points, write_models, write_ply
from sfm.errors import BadFile
from sfm.mapping.final_database import reconcile, with_copies, write_final_database
from sfm.mapping.rigs import with_poses_of
from sfm.refinement.checkpoint import rounds_folder
from sfm.refinement.rounds import Refiner, calibrate, focal_evidence, refine, with_weak_cameras
from sfm.system.hashing import files_digest, json_bytes
from sfm.types import StageSummary
from sfm.wording import counted

NO_COPIES: Mapping[str, str] = MappingProxyType({})


def scratch_folder(output: Path, refiner: Refiner) -> Path:
    """Where the rounds of this stage are kept (rounds_folder)."""
    depends_on = json_bytes([__version__, asdict(refiner.options), refiner.mapping.seed], sort_keys=False)
    digest = files_digest(sorted((output / UNREFINED).rglob("*.bin")), start=depends_on)
    return rounds_folder(output, digest[:16])


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
    states, notes = [refiner.start(model) for model in models], tuple[str, ...]()
    weak: tuple[FocalEvidence, ...] = ()
    scratch = scratch_folder(output, refiner)
    if refiner.data.refinable and not refiner.options.no_refine:
        held = [with_weak_cameras(refiner, model) for model in models]
        states = [refine(own, model, scratch / str(i)) for i, (own, model) in enumerate(held)]
        models, reports = zip(
            *(calibrate(own, state) for (own, _), state in zip(held, states, strict=True)), strict=True
        )
        notes, weak = reports[0], held[0][0].weak
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
    registered = {best.images[i].name for i in best.reg_image_ids()}
    counts: dict[str, int | float] = {
        "models": len(models),
        "registered": best.num_reg_images(),
        "points3D": best.num_points3D(),
        "observations": best.compute_num_observations(),
        "track_length": best.compute_mean_track_length(),
        "reprojection_error": best.compute_mean_reprojection_error(),
        "rounds": states[0].rounds,
        "moved_network_px": states[0].moved * max(finder.traits.pixel_sigma for finder in refiner.data.finders),
        "rejected": states[0].num_rejected,
        "newly_registered": states[0].num_registered,
    }
    false = (one for one in focal_evidence(refiner, best) if one.is_false)
    notes = (*notes, *map(str, weak), *map(str, false), *_copied(len(copied)))
    skipped = tuple((name, reason) for name, reason in left_out if name not in registered)
    return StageSummary("refinement", counts, time.perf_counter() - started, skipped, notes=notes)
