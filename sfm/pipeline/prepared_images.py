"""Where the images that stages read are: in the user's folder, or as cube faces in OUT where there are panoramas."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sfm.images import stage as images
from sfm.images.index import copy_reasons
from sfm.options import ImageOptions
from sfm.rigs.faces_folder import describe, write_faces
from sfm.rigs.folders import FACE_MASKS, FACES
from sfm.rigs.layout import is_config, with_config_cameras
from sfm.rigs.panoramas import EQUIRECTANGULAR, find_panoramas, required_panoramas
from sfm.storage.database import FeatureDatabase
from sfm.types import ImageRecord, StageSummary

PERSPECTIVE = ImageOptions().camera_model  # of images that are no panoramas


def prepare(db: FeatureDatabase, folder: Path, out: Path, options: ImageOptions, *, imported: bool) -> StageSummary:
    """The stage images, and panoramas rendered as cube faces, whose records take the place of theirs.

    imported: the matches are somebody else's, of the images as they are. Errors as images.stage.run, and BadOption
    where images that should be panoramas are none.
    """
    panoramic = options.camera_model.upper() == EQUIRECTANGULAR
    own = replace(options, camera_model=PERSPECTIVE) if panoramic else options
    summary = images.run(db, folder, own, exclude=[out])
    if is_config(own.rig):
        db.write_images(with_config_cameras(db.read_images(), Path(own.rig)))
    found = frozenset[str]() if imported else _panoramas(folder, db.read_images(), own, required=panoramic)
    if not found:
        for name in (FACES, FACE_MASKS):  # of other images, or options
            shutil.rmtree(out / name, ignore_errors=True)
        return summary
    faces = write_faces(folder, out, db.read_images(), found, own.masks)
    skipped = tuple(sorted((*summary.skipped, *copy_reasons(db.read_copies()))))
    db.write_images(faces.records)
    db.write_copies({})  # the images that they are copies of are cube faces now
    counts: dict[str, int | float] = {
        "images": len(faces.records),
        "panoramas": faces.num_panoramas,
        "skipped": len(skipped),
        "cameras": len({record.camera.group for record in faces.records}),
        "focal_priors": sum(record.camera.has_focal_prior for record in faces.records),
    }
    counts = {name: num for name, num in (summary.counts | counts).items() if name != "copies"}
    return replace(summary, counts=counts, skipped=skipped, notes=(*summary.notes, describe(faces)))


def _panoramas(
    folder: Path, records: Sequence[ImageRecord], options: ImageOptions, *, required: bool
) -> frozenset[str]:
    if required:
        return required_panoramas(records)
    if options.panoramas == "off" or options.intrinsics is not None:
        return frozenset()
    return find_panoramas(folder, records)


def has_panoramas(db: FeatureDatabase) -> bool:
    """Whether the images of the database are in OUT/cube_faces."""
    summary = db.summary("images")
    return summary is not None and bool(summary.counts.get("panoramas"))
