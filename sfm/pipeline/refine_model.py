"""The verb refine: a COLMAP model and its images in, the model with sub-pixel tracks out.

COLMAP knows no EXIF orientation, others apply it: an image is taken as it is stored where that is the size of its
camera, else as it is displayed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
from numpy.typing import NDArray

from sfm import __version__
from sfm.colmap.database import place_database
from sfm.colmap.model_reader import model_digest, model_folder, model_folders, read_reconstruction
from sfm.colmap.model_writer import colour_points, remove_leftovers, write_models, write_ply
from sfm.colmap.rig_models import has_rigs
from sfm.errors import BadFile, BadImage, BadOption
from sfm.images.decoding import draft, mask_path, read_mask
from sfm.images.exif import TRANSPOSE_OF, orientation_left
from sfm.images.files.formats import opened
from sfm.images.files.value_range import Sketch, eight_bit, sketch, used_ranges
from sfm.matchers.registry import device_of
from sfm.options import MatchingOptions
from sfm.pipeline.output_folder import check_writable
from sfm.pipeline.refine_options import RefineOptions
from sfm.refinement.checkpoint import rounds_folder
from sfm.refinement.model_refinement import (
    PixelSource,
    RefinedModel,
    model_input,
    refine_model,
    write_tracks_database,
)
from sfm.results.files import DATABASE
from sfm.results.files import REFINE_JSON as RECORD
from sfm.system import memory
from sfm.system.hashing import json_digest, size_and_time
from sfm.system.safe_paths import leads_out
from sfm.system.tables import write_json
from sfm.types import ImageRecord
from sfm.wording import counted

WRITTEN = ("sparse", "points.ply", "database.db", RECORD, f"{RECORD}.part", ".refinement")
SHOWN = 3  # names in a message
FEW_LEFT, FEW_MOVED = 0.5, 0.1  # of the observations, below which there is a warning


@dataclass(frozen=True, slots=True)
class ModelImages:
    """The images of a model in a folder: records by name, and why some of them cannot be used."""

    folder: Path
    records: Mapping[str, ImageRecord]
    unusable: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path, model: pycolmap.Reconstruction) -> ModelImages:
        """All of them, checked. Raises BadFile where none can be used."""
        records = {record.name: record for record in model_input(model).images}
        found = {name: _check(folder, record) for name, record in records.items()}
        unusable = {name: reason for name, reason in found.items() if isinstance(reason, str)}
        deep = {name: values for name, values in found.items() if isinstance(values, Sketch)}
        ranges = used_ranges(deep.values())
        records |= {name: replace(records[name], value_range=ranges[own.kind]) for name, own in deep.items()}
        if len(unusable) == len(records):
            name = min(unusable)
            raise BadFile(
                f"{folder}: none of the model's images can be used ({name}: {unusable[name]}); give the folder that "
                "the names of the model's images are relative to"
            )
        return cls(folder, records, unusable)

    def read(self, name: str, mode: str) -> NDArray[np.uint8]:
        """(H, W) for mode "L", (H, W, 3) for "RGB", in the pixels of the model. Raises BadImage."""
        record = self.records[name]
        if name in self.unusable:
            return np.zeros((record.height, record.width, 3)[: 2 if mode == "L" else 3], np.uint8)
        try:
            return _pixels(self.folder, record, mode)
        except BadImage as error:
            raise BadImage(f"{self.folder / name}: {error}; refine again when it is there") from None


def _check(folder: Path, record: ImageRecord) -> Sketch | str | None:
    """Why an image cannot be used, or else its values where it has more than 8 bits."""
    if leads_out(record.name):
        return "its name leads out of the folder"
    try:
        with opened(folder / record.name) as image:
            orientation, size = orientation_left(image), image.size
            draft(image, "L", (1, 1))
            image.load()
            values = sketch(image)
    except BadImage as error:
        return str(error)
    sizes = {size, size[::-1]} if orientation >= 5 else {size}
    if (record.width, record.height) in sizes:
        return values
    return f"it is {size[0]}x{size[1]} px, its camera {record.width}x{record.height}"


def _pixels(folder: Path, record: ImageRecord, mode: str) -> NDArray[np.uint8]:
    with opened(folder / record.name) as image:
        transpose = TRANSPOSE_OF.get(orientation_left(image))
        pixels = eight_bit(image, mode, record.value_range)
        if pixels.size != (record.width, record.height) and transpose is not None:
            pixels = pixels.transpose(transpose)
        found = np.array(pixels, np.uint8)
    if found.shape[:2] != (record.height, record.width):
        raise BadImage("its size has changed")
    return found


def refine_folder(
    model: Path, images: Path, out: Path, options: RefineOptions | None = None, *, number: int | None = None
) -> dict[str, Any]:
    """Refines a model, binary or text, given by its folder or by one that holds it in sparse/; of several the one of a
    number, or else the largest.

    Writes `out`/sparse/0, `out`/database.db, `out`/points.ply and `out`/refine.json; returns what that says. Rounds
    that a killed call finished are used by the next one with the same arguments. Raises BadFile, BadImage and BadOption
    for what the user can correct.
    """
    started, options = time.perf_counter(), options or RefineOptions()
    sources = model_folders(model) if number is None else (model_folder(model, number),)
    if not images.is_dir():
        what = "is a file" if images.exists() else "no such folder"
        raise BadFile(f"{images}: {what}; give the folder of the model's images")
    _check_output(out, sources)
    source, before = _largest(sources)
    if not before.num_reg_images():
        raise BadFile(f"{source}: the model has no images with poses")
    own = ModelImages.of(images, before)
    scratch = _scratch(out, source, own, options)
    try:
        refined = refine_model(
            before,
            _pixel_source(own, options),
            scratch,
            options=options.refinement,
            seed=options.machine.seed,
            threads=options.machine.threads,
            fix_intrinsics=options.refinement.fix_intrinsics,
        )
    except BadFile as error:
        shutil.rmtree(out / ".refinement", ignore_errors=True)
        raise BadFile(f"{source}: {error}") from None
    colour_points(refined.model, lambda name: own.read(name, "RGB"), without=own.unusable)
    write_tracks_database(scratch / "database.db", refined.model)
    write_models([refined.model], out / "sparse")
    place_database(scratch / "database.db", out / "database.db")
    write_ply(refined.model, out / "points.ply")
    record = _record(source, own, before, refined, options)
    if len(sources) > 1:
        record["notes"].append(f"of the {len(sources)} models there the one of most images was refined, {source}")
    record |= {"seconds": round(time.perf_counter() - started, 1)}
    write_json(out / RECORD, record)
    shutil.rmtree(out / ".refinement", ignore_errors=True)
    return record


def _pixel_source(own: ModelImages, options: RefineOptions) -> PixelSource:
    masks, machine = options.refinement.masks, options.machine
    if masks is not None and not masks.is_dir():
        raise BadFile(f"--masks {masks}: no such folder; give the folder of masks, which holds NAME.png for image NAME")
    device = device_of(MatchingOptions(device=machine.device))
    return PixelSource(
        lambda name: own.read(name, "L"),
        lambda name: read_mask(masks, own.records[name]) if masks is not None else None,
        frozenset(own.unusable),
        memory.budget(machine.memory, device),
        device,
    )


def _largest(sources: Sequence[Path]) -> tuple[Path, pycolmap.Reconstruction]:
    """Of several models the one of most images: COLMAP numbers them as they come. Raises BadFile."""
    models = [(source, read_reconstruction(source, "export it again")) for source in sources]
    return max(models, key=lambda item: item[1].num_reg_images())


def _check_output(out: Path, sources: Sequence[Path]) -> None:
    """BadFile or BadOption unless results can be written there without the loss of others."""
    if any(source.resolve().is_relative_to((out / "sparse").resolve()) for source in sources):
        raise BadOption(f"{out}: holds the model itself; give another folder for the results")
    was_killed = (out / ".refinement").is_dir() and not (out / DATABASE).exists()  # runs have a database of their own
    if (out / "sparse").exists() and not (out / RECORD).is_file() and not was_killed:
        raise BadOption(f"{out}: holds models that are no results of refine; give another folder")
    check_writable(out, WRITTEN)
    remove_leftovers(out)


def _scratch(out: Path, source: Path, own: ModelImages, options: RefineOptions) -> Path:
    """Where the rounds of this call are kept (rounds_folder)."""
    masks = options.refinement.masks
    usable = [name for name in own.records if name not in own.unusable]
    files = [own.folder / name for name in usable]
    if masks is not None:
        files += [path for name in usable if (path := mask_path(masks, name)) is not None]
    values = asdict(options.refinement), options.machine.seed, model_digest(source), dict(own.unusable)
    key = json_digest([__version__, *values, [(str(path), *size_and_time(path)) for path in files]])
    try:
        return rounds_folder(out, key)
    except OSError as error:
        raise BadFile(f"{out}: cannot be written ({error.strerror}); choose another folder") from None


# --- what was done ---------------------------------------------------------------------------------


def _record(
    source: Path, own: ModelImages, before: pycolmap.Reconstruction, refined: RefinedModel, options: RefineOptions
) -> dict[str, Any]:
    """What was done, for refine.json."""
    after, state = refined.model, refined.state
    before.update_point_3d_errors()  # programs other than COLMAP leave them out
    return {
        "version": __version__,
        "model": str(source),
        "images_folder": str(own.folder),
        "options": asdict(options),
        "images": after.num_reg_images(),
        "rounds": state.rounds,
        "points3D": {"before": before.num_points3D(), "after": after.num_points3D()},
        "observations": {
            "before": before.compute_num_observations(),
            "after": after.compute_num_observations(),
            "moved": refined.num_moved,
            "median_move_px": float(np.median(refined.moved_px)) if len(refined.moved_px) else 0.0,
            "rejected": state.num_rejected,
        },
        "mean_reprojection_error_px": {
            "before": before.compute_mean_reprojection_error(),
            "after": after.compute_mean_reprojection_error(),
        },
        "cameras": [
            {"id": i, "model": camera.model_name, "params": [float(value) for value in camera.params]}
            for i, camera in sorted(after.cameras.items())
        ],
        "intrinsics": list(refined.cameras),
        "warnings": _warnings(before, refined),
        "notes": _notes(own, before),
    }


def _warnings(model: pycolmap.Reconstruction, refined: RefinedModel) -> list[str]:
    """Signs that the refined model is probably bad."""
    found = []
    num, num_left = model.compute_num_observations(), len(refined.moved_px)
    if num_left < FEW_LEFT * num:
        found.append(f"only {num_left} of {num} observations fit the refined model: see that it is the right one")
    if refined.num_moved < FEW_MOVED * num_left:
        found.append(
            f"only {refined.num_moved} of {num_left} observations could be aligned: are these the images that the "
            "model was made of?"
        )
    return found


def _notes(own: ModelImages, model: pycolmap.Reconstruction) -> list[str]:
    """What else the user should know."""
    found = []
    if own.unusable:
        some = [f"{name}: {reason}" for name, reason in sorted(own.unusable.items())]
        more = ", ..." if len(some) > SHOWN else ""
        found.append(
            f"{len(some)} of {len(own.records)} images could not be used, their observations stay as they were "
            f"({'; '.join(some[:SHOWN])}{more})"
        )
    if has_rigs(model):
        found.append("the model's cameras are mounted in rigs: each image has a pose of its own now")
    return found


def text(record: Mapping[str, Any], out: Path) -> str:
    """What refine.json says, for people."""
    points, observations, error = (record[k] for k in ("points3D", "observations", "mean_reprojection_error_px"))
    lines = [
        f"{out / 'sparse' / '0'}: {counted(record['images'], 'image')}, "
        f"{counted(points['after'], 'point')} (before: {points['before']:,}),"
        f" {observations['after']:,} observations (before: {observations['before']:,})",
        f"{observations['moved']:,} observations moved, median {observations['median_move_px']:.2f} px; "
        f"{observations['rejected']:,} rejected; {counted(record['rounds'], 'round')}",
        f"mean reprojection error: {error['before']:.2f} px before, {error['after']:.2f} px after",
        *record["intrinsics"],
        *(f"warning: {line}" for line in record["warnings"]),
        *(f"note: {line}" for line in record["notes"]),
        f"{record['seconds']:.0f} s; {out / RECORD} has all of this",
    ]
    return "\n".join(lines)
