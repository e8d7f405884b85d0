"""The summary of a run's stages: its models, unregistered images with reasons, and warnings."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from sfm.colmap.model_reader import read_models
from sfm.colmap.model_writer import UNREFINED
from sfm.images.index import copy_reasons
from sfm.mapping import stage as mapping
from sfm.mapping.inputs import read_input
from sfm.pipeline.stages import Run
from sfm.quality import checks
from sfm.storage.database import FeatureDatabase
from sfm.types import ModelWarning, ReconstructionSummary, StageSummary


def without_model(db: FeatureDatabase) -> StageSummary:
    """The mapping stage where there is no model: why not, image by image."""
    data = read_input(db, known_intrinsics=False)
    left_out = (*mapping.unregistered(data, ()), *copy_reasons(db.read_copies()))
    return StageSummary("mapping", {"models": 0}, 0.0, left_out)


def summarise(out: Path, stages: Sequence[StageSummary]) -> ReconstructionSummary:
    """What the stages say, put together; a run without mapping has no model and no image registered."""
    by_name = {stage.stage: stage for stage in stages}
    last = by_name.get("refinement", by_name.get("mapping"))
    counts = last.counts if last is not None else {}
    num_models = int(counts.get("models", 0))
    kept = out / ("sparse" if "refinement" in by_name else UNREFINED)
    folders = [kept / str(i) for i in range(num_models)]
    found, skipped = by_name["images"], by_name["images"].skipped
    return ReconstructionSummary(
        images=int(found.counts["images"] + found.counts.get("copies", 0)) + len(skipped),
        registered=int(counts.get("registered", 0)),
        points3D=int(counts.get("points3D", 0)),
        observations=int(counts.get("observations", 0)),
        track_length=float(counts.get("track_length", 0.0)),
        reprojection_error=float(counts.get("reprojection_error", 0.0)),
        unregistered=_unregistered(by_name),
        stages=tuple(stages),
        models=tuple((folder, _num_registered(folder)) for folder in folders),
        model_dir=folders[0] if folders else None,
    )


def warnings_of(run: Run, stages: Sequence[StageSummary]) -> tuple[ModelWarning, ...]:
    """The warnings about the largest model; none before there is one."""
    kept = {"mapping": UNREFINED, "refinement": "sparse"}.get(stages[-1].stage)
    if kept is None:
        return ()
    posed = run.options.mapping.known_poses is not None
    model, *others = read_models(run.out / kept)
    mapped = read_models(run.out / UNREFINED)[0]
    data = read_input(run.db, known_intrinsics=run.known_intrinsics)
    located = run.options.georeferencing.gps == "auto"
    refused = frozenset(each.pair for each in run.db.read_refused())
    found = checks.Evidence(model, mapped, tuple(others), data, known_poses=posed, gps=located, refused=refused)
    return checks.warnings(found)


def _unregistered(by_name: Mapping[str, StageSummary]) -> tuple[tuple[str, str], ...]:
    """(image, reason) of all that are not in the largest model; the earliest reason counts."""
    reasons: dict[str, str] = {}
    last = "refinement" if "refinement" in by_name else "mapping"
    for name in ("images", "matching", last):
        for image, reason in by_name[name].skipped if name in by_name else ():
            reasons.setdefault(image, reason if name == last else f"skipped: {reason}")
    return tuple(sorted(reasons.items()))


def _num_registered(folder: Path) -> int:
    """Number of images of a binary COLMAP model, which its images.bin begins with."""
    with (folder / "images.bin").open("rb") as stream:
        (num,) = struct.unpack("<Q", stream.read(8))
    return int(num)
