"""The model of an earlier run of fewer images, from which mapping goes on when images are added.

Beside the models that mapping writes stands what they were made of, images.json. Where the earlier model's images are
all still there, its poses and cameras are the start: their matches are triangulated anew, and the new images are
registered in what comes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap

from sfm.colmap.model_reader import model_digest, read_reconstruction
from sfm.colmap.model_writer import UNREFINED
from sfm.colmap.rig_models import has_rigs
from sfm.colmap.several_models import names_of
from sfm.errors import BadFile
from sfm.mapping.colmap_mapper import register_more
from sfm.mapping.inputs import Attempt, MappingInput, write_database
from sfm.mapping.known_poses import triangulate
from sfm.mapping.retry_strategy import EARLIER, STRATEGIES, Outcome, evaluate, num_reachable, strongest_pairs
from sfm.options import MappingOptions
from sfm.system.tables import write_json
from sfm.system.untrusted_files import has_shape, read_json
from sfm.types import ImageRecord

RECORD = "images.json"
ENOUGH = 0.5  # of the images that are in the earlier model, and of the new ones that must join it


def remember(output: Path, images: Sequence[ImageRecord]) -> None:
    """Writes what the models in OUT/unrefined were made of."""
    folder = output / UNREFINED
    digests = {record.name: record.digest for record in images}
    write_json(folder / RECORD, {"model": model_digest(folder / "0"), "images": digests})


def earlier_model(output: Path, images: Sequence[ImageRecord]) -> pycolmap.Reconstruction | None:
    """The largest model of an earlier run of fewer of these images; None where there is none that helps."""
    folder = output / UNREFINED
    try:
        record = read_json(folder / RECORD)
        if not has_shape(record, {"model": str, "images": {str: str}}) or record["model"] != model_digest(folder / "0"):
            return None
        model = read_reconstruction(folder / "0")
    except (OSError, ValueError, BadFile):
        return None
    now, before = {one.name: one for one in images}, record["images"]
    registered = [model.images[i] for i in model.reg_image_ids()]
    if set(now) <= set(before) or len(registered) < ENOUGH * len(now) or has_rigs(model):
        return None
    for image in registered:
        one = now.get(image.name)
        camera = model.cameras[image.camera_id]
        if one is None or before.get(image.name) != one.digest:
            return None
        if (camera.model.name, camera.width, camera.height) != (one.camera.model, one.width, one.height):
            return None
    return model


def continued(data: MappingInput, options: MappingOptions, scratch: Path, output: Path) -> Outcome | None:
    """What comes of the earlier model with the new images; None where there is none, or where mapping must begin anew:
    an image of the earlier model is lost, or too few of the new ones are registered."""
    if options.mapper != "incremental" or data.rigs:
        return None
    earlier = earlier_model(output, data.images)
    if earlier is None:
        return None
    names = names_of(earlier)
    attempt = Attempt(EARLIER, STRATEGIES[0], _with_cameras(data, earlier))
    (scratch / "start").mkdir()
    start = triangulate(attempt.data, earlier, names, options, scratch / "start")
    folder = scratch / EARLIER
    folder.mkdir()
    write_database(folder / "database.db", attempt.data)
    outcome, _ = evaluate(attempt, (register_more(attempt, options, folder, start),), folder)
    kept = {outcome.models[0].images[i].name for i in outcome.models[0].reg_image_ids()} - outcome.misregistered
    joinable = {name for name in strongest_pairs(data) if name not in names}
    num_new = min(len(joinable), max(num_reachable(data) - len(names), 0))
    return outcome if names <= kept and len(kept - names) >= ENOUGH * num_new else None


def _with_cameras(data: MappingInput, model: pycolmap.Reconstruction) -> MappingInput:
    """The input with the parameters that the model found for its cameras."""
    params = {model.images[i].name: model.cameras[model.images[i].camera_id].params for i in model.reg_image_ids()}
    of_group = {one.camera.group: np.array(params[one.name]) for one in data.images if one.name in params}
    images = tuple(
        replace(one, camera=replace(one.camera, params=of_group[one.camera.group]))
        if one.camera.group in of_group
        else one
        for one in data.images
    )
    return replace(data, images=images)
