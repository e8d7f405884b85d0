"""Between two rounds of refinement: what the better model explains that the first one did not.

COLMAP's own triangulator completes tracks, merges those that are one point, triangulates again pairs that drifted
apart, and registers images that fitted no pose before; all on the refined keypoints, with tighter thresholds.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap

from sfm.attempts import STRATEGIES
from sfm.colmap_log import quiet
from sfm.mapper import Attempt, MappingInput, incremental_options, write_database
from sfm.options import MappingOptions
from sfm.types import Keypoints


def refined_input(data: MappingInput, model: pycolmap.Reconstruction) -> MappingInput:
    """What mapping reads, with the keypoints where the model's images have them now."""
    moved = {image.name: image for image in model.images.values()}
    keypoints = []
    for record, own in zip(data.images, data.keypoints, strict=True):
        if record.name in moved:
            xy = np.array([p.xy for p in moved[record.name].points2D], np.float32).reshape(-1, 2)
            own = Keypoints(xy, own.score)
        keypoints.append(own)
    return replace(data, keypoints=tuple(keypoints))


def complete(
    model: pycolmap.Reconstruction,
    data: MappingInput,
    options: MappingOptions,
    scratch: Path,
    *,
    max_error: float,
    register: bool,
) -> int:
    """Completes, merges and triangulates the model's tracks, in place; returns how many images were registered.

    data: with the refined keypoints. max_error: px of the photos. register: images may be added.
    """
    write_database(scratch / "completion.db", data)
    pipeline = incremental_options(Attempt("completion", STRATEGIES[0], data), options)
    triangulation, mapper_options = pipeline.triangulation, pipeline.mapper
    triangulation.complete_max_reproj_error = triangulation.merge_max_reproj_error = max_error
    mapper_options.filter_max_reproj_error = max_error
    database = pycolmap.Database.open(scratch / "completion.db")
    try:
        with quiet():
            cache = pycolmap.DatabaseCache.create(database, pycolmap.DatabaseCacheOptions())
            mapper = pycolmap.IncrementalMapper(cache)
            mapper.begin_reconstruction(model)
            num_registered = _register(mapper, pipeline) if register else 0
            for image_id in sorted(model.reg_image_ids()):
                mapper.triangulate_image(triangulation, image_id)
            mapper.complete_and_merge_tracks(triangulation)
            mapper.retriangulate(triangulation)
            mapper.complete_and_merge_tracks(triangulation)
            mapper.filter_points(mapper_options)
            mapper.end_reconstruction(False)
    finally:
        database.close()
    return num_registered


def _register(mapper: pycolmap.IncrementalMapper, options: pycolmap.IncrementalPipelineOptions) -> int:
    """Registers what can be registered, one image after the other; how many."""
    num = 0
    while True:
        found = (
            i for i in mapper.find_next_images(options.mapper, False) if mapper.register_next_image(options.mapper, i)
        )
        image_id = next(found, None)
        if image_id is None:
            return num
        mapper.triangulate_image(options.triangulation, image_id)
        num += 1
