"""Mappers by name: what `--mapper` chooses from, built in or from other packages (sfm.registry).

A mapper is a function `(attempt, options, folder) -> models`:

- attempt: sfm.mapping.inputs.Attempt. `attempt.data` is all that mapping reads: image records with camera priors,
  keypoints, verified two-view geometries and matches, `known_intrinsics`. `attempt.strategy` has thresholds of
  incremental mapping, which other mappers may leave alone; `attempt.hold_distortion` asks to refine focal lengths only.
- options: sfm.options.MappingOptions, with the seed, the number of threads and the least size of a model.
- folder: a new folder that is the mapper's own until the run ends. `folder/database.db` is a COLMAP database of
  `attempt.data`; image ids are the images' order from 1.

It returns pycolmap.Reconstructions with the database's ids for images and cameras, most images first, or none at all.
Its points2D are the database's keypoints, in their order. With one thread, equal arguments must give equal models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sfm.options import MappingOptions
from sfm.registry import Entry, Registry

if TYPE_CHECKING:
    import pycolmap

    from sfm.mapping.inputs import Attempt

Mapper = Callable[["Attempt", MappingOptions, Path], "Sequence[pycolmap.Reconstruction]"]


def _incremental(attempt: Attempt, options: MappingOptions, folder: Path) -> Sequence[pycolmap.Reconstruction]:
    from sfm.mapping.colmap_mapper import map_incrementally

    return map_incrementally(attempt, options, folder)


def _global(attempt: Attempt, options: MappingOptions, folder: Path) -> Sequence[pycolmap.Reconstruction]:
    from sfm.mapping.colmap_mapper import map_globally

    return map_globally(attempt, options, folder)


MAPPERS: Registry[Mapper] = Registry(
    "--mapper",
    "loftr_sfm.mappers",
    {
        "incremental": Entry("image by image", _incremental),
        "global": Entry("all images at once, for large sets", _global),
    },
)


def run_mapper(attempt: Attempt, options: MappingOptions, folder: Path) -> list[pycolmap.Reconstruction]:
    """One run of the mapper that the options name, on a new folder/database.db: its models, most images first.

    Raises BadOption for a name that is no mapper's.
    """
    from sfm.colmap.log import quiet
    from sfm.mapping.colmap_mapper import by_size
    from sfm.mapping.inputs import write_database

    mapper, _ = MAPPERS.choose(options.mapper)
    folder.mkdir(parents=True)
    write_database(folder / "database.db", attempt.data)
    with quiet():
        return by_size(mapper(attempt, options, folder))
