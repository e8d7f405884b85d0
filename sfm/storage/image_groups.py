"""The groups of the feature database that hold the images: `images`, and what some of them have besides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import h5py

from sfm.storage import schema
from sfm.storage.hdf5_columns import read_columns, subgroup
from sfm.storage.schema import SCHEMA
from sfm.types import ImageRecord


def read_records(file: h5py.File) -> tuple[ImageRecord, ...]:
    """The images of a file, none where it holds none. ValueError for damaged groups; older files have fewer of them."""
    group = subgroup(file, "images")
    records = schema.images(read_columns(group, SCHEMA["images"])) if group is not None else ()
    for name, with_own in (("value_ranges", schema.with_value_ranges), ("positions", schema.with_positions)):
        if (own := subgroup(file, name)) is not None:
            records = with_own(records, read_columns(own, SCHEMA[name]))
    return records


def columns_of(records: Sequence[ImageRecord]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(group, its columns) of images, sorted by name."""
    yield "images", schema.images_columns(records)
    yield "value_ranges", schema.value_ranges_columns(records)
    yield "positions", schema.positions_columns(records)
