"""Between two rounds of refinement: what the better model explains that the first one did not.

COLMAP's own triangulator completes tracks, merges those that are one point, triangulates again pairs that drifted
apart, and registers images that fitted no pose before; all on the refined keypoints, with tighter thresholds. Then each
point is proposed to the images that should see it though no match says so: pairs that were not verified, cells that
another match took. The next round's alignment decides whether they do. Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from sfm.colmap.log import quiet
from sfm.colmap.model_arrays import ModelColumns, rows_of
from sfm.mapping.colmap_mapper import incremental_options
from sfm.mapping.inputs import Attempt, MappingInput
from sfm.mapping.retry_strategy import STRATEGIES
from sfm.options import MappingOptions
from sfm.types import Float64, Int64, KeypointMatches

MIN_SHARED = 15  # points
MIN_COSINE = 0.5  # of the angle between the viewing directions: 60 degrees
OPEN_SHARE = 3  # COLMAP triangulates a pair again of which it has triangulated less than a fifth, a quarter of the rest
MANY, ENOUGH = 300_000, 3000  # observations of a model, and of an image
MARGIN = 0.01  # of the longer side: patches at the rim of an image are cut off


def open_matches(data: MappingInput, columns: ModelColumns) -> MappingInput:
    """The input with the matches that completion learns from: those of which both ends are not one point already.

    Of the others, nearly all of a large set's, as many stay as COLMAP looks for: one of each observation and of each
    pair, and so many of a pair that it counts as triangulated where it did.
    """
    point = {record.name: np.full(len(own), -1) for record, own in zip(data.images, data.keypoints, strict=True)}
    for name, seen in zip(columns.names, columns.rows_of_images, strict=True):
        matched = seen[columns.point2D[seen] < len(point[name])]  # no match knows the keypoints that were proposed
        point[name][columns.point2D[matched]] = columns.point[matched]
    held = {name: np.zeros(len(own), bool) for name, own in point.items()}  # keypoints that keep such a match
    found = []
    for own in data.matches:
        rows0, rows1 = own.indices.T
        point0, point1 = point[own.pair.name0][rows0], point[own.pair.name1][rows1]
        held0, held1 = held[own.pair.name0], held[own.pair.name1]
        same = (point0 >= 0) & (point0 == point1)
        kept = ~same | ~(held0[rows0] & held1[rows1])
        kept[np.flatnonzero(same)[: max(1, -(-int((~same).sum()) // OPEN_SHARE))]] = True
        held0[rows0[kept & same]] = held1[rows1[kept & same]] = True
        found.append(KeypointMatches(own.pair, own.indices[kept], own.score[kept]))
    return replace(data, matches=tuple(found))


def complete(
    model: pycolmap.Reconstruction,
    data: MappingInput,
    options: MappingOptions,
    path: Path,
    *,
    max_error: float,
    register: bool,
) -> int:
    """Completes, merges and triangulates the model's tracks, in place; returns how many images were registered.

    data: what mapping read. path: COLMAP database with the refined keypoints and the matches (open_matches will do), in
    the model's ids.
    max_error: px of the images. register: images may be added.
    """
    pipeline = incremental_options(Attempt("completion", STRATEGIES[0], data), options)
    triangulation, mapper_options = pipeline.triangulation, pipeline.mapper
    triangulation.complete_max_reproj_error = triangulation.merge_max_reproj_error = max_error
    database = pycolmap.Database.open(path)
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


@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """Observations that a model should have. point: (C,) row of the points. image: (C,) row of the images. xy: (C, 2)
    px, where the model projects the point."""

    point: Int64
    image: Int64
    xy: Float64


def propose(columns: ModelColumns, reference: Int64) -> Proposals:
    """For each point the images that do not observe it, but see its surroundings from a direction not too different.

    reference: (T,) row of each point's reference observation. An image sees the surroundings if it shares MIN_SHARED
    points with the reference's image. In a model of more than MANY observations an image is given no more than
    ENOUGH, the shortest tracks first: poses are determined long before, and each costs an alignment.
    """
    num_images = len(columns.image_ids)
    reference_image = columns.image[reference]
    shared = np.zeros((num_images, num_images), np.int64)  # points by their reference's image, and image
    np.add.at(shared, (reference_image[columns.point], columns.image), 1)
    points_of = rows_of(reference_image, num_images)
    observers = [columns.point[own] for own in columns.rows_of_images]
    lengths = columns.track_lengths
    towards = _unit(columns.centres[reference_image] - columns.xyz)
    parts = []
    for row in range(num_images):
        near = [points_of[other] for other in np.flatnonzero(shared[:, row] >= MIN_SHARED) if other != row]
        points = np.setdiff1d(np.concatenate([*near, np.zeros(0, np.int64)]), observers[row])
        cosine = np.einsum("ni,ni->n", towards[points], _unit(columns.centres[row] - columns.xyz[points]))
        points = points[cosine > MIN_COSINE]
        xy = columns.project(np.full(len(points), row), columns.xyz[points])
        size = np.array([columns.cameras[row].width, columns.cameras[row].height])
        with np.errstate(invalid="ignore"):
            inside = ((xy > MARGIN * size.max()) & (xy < size - MARGIN * size.max())).all(axis=1)  # NaN is not
        if len(columns.point) > MANY:
            inside &= _shortest(lengths[points], inside, max(0, ENOUGH - len(observers[row])))
        parts.append(Proposals(points[inside], np.full(int(inside.sum()), row), xy[inside]))
    return Proposals(*(np.concatenate([getattr(part, name) for part in parts]) for name in Proposals.__slots__))


def _shortest(lengths: Int64, usable: NDArray[np.bool_], most: int) -> NDArray[np.bool_]:
    """(M,) at most so many of the usable ones, those of the least lengths (M,)."""
    rows = np.flatnonzero(usable)
    chosen = np.zeros(len(lengths), bool)
    chosen[rows[np.argsort(lengths[rows], kind="stable")[:most]]] = True
    return chosen


def on_usable(
    proposals: Proposals, columns: ModelColumns, read_mask: Callable[[str], NDArray[np.bool_] | None]
) -> Proposals:
    """Those that are not on a masked-out pixel. read_mask: (H, W) bool of an image name, None for no mask."""
    usable = np.ones(len(proposals.point), bool)
    for row, own in enumerate(rows_of(proposals.image, len(columns.names))):
        mask = read_mask(columns.names[row]) if len(own) else None
        if mask is not None:
            x, y = proposals.xy[own].astype(np.int64).T
            usable[own] = mask[y.clip(0, mask.shape[0] - 1), x.clip(0, mask.shape[1] - 1)]
    return Proposals(proposals.point[usable], proposals.image[usable], proposals.xy[usable])


def _unit(vectors: Float64) -> Float64:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def add_proposals(model: pycolmap.Reconstruction, columns: ModelColumns, proposals: Proposals) -> None:
    """Gives the model the proposed observations, each with a new keypoint at the end of its image's, in place."""
    for point, row, xy in zip(proposals.point, proposals.image, proposals.xy, strict=True):
        image_id = int(columns.image_ids[row])
        points2D = model.images[image_id].points2D
        points2D.append(pycolmap.Point2D(xy))
        model.add_observation(int(columns.point_ids[point]), pycolmap.TrackElement(image_id, len(points2D) - 1))
